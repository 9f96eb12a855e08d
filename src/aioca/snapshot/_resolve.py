"""The value to write, from an entry and the present type of its PV.

A typed entry has its value already. The text in a file of another program is converted here,
because its meaning depends on the type of the PV: ``2`` may be a number, the text of a STRING, or a
state.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .._values.dbr import is_long_string_name
from .._values.encode_numbers import shown
from .._values.number_types import EXACT_LIMIT
from . import _burt
from ._model import TYPE_NAMES, Entry, Format, is_list

_INTEGER = re.compile(r"\s*[+-]?([0-9]+|0[xX][0-9a-fA-F]+)\s*")
_MAX_NUMBER_CHARACTERS = 400  # a double written out in full has some 310


class UnusableError(Exception):
    """An entry cannot be written to its PV; the message says why."""


def resolve(
    entry: Entry, format: Format, native_type: int, native_count: int, labels: Sequence[str]
) -> Any:
    """Return the value for `caput`.

    Args:
        entry: the saved value; it has one.
        format: the program whose file it comes from.
        native_type: the DBR type of the PV.
        native_count: the number of elements of the PV.
        labels: the labels of an ENUM PV.

    Raises:
        UnusableError: the value has no meaning for this PV.
    """
    value: Any = entry.value
    kind = TYPE_NAMES[native_type]
    text = isinstance(value, str) or (is_list(value) and any(isinstance(v, str) for v in value))
    if kind == "ENUM" and not is_list(value):
        return (
            _state(value, entry.label, format, labels) if text or entry.label is not None else value
        )
    if entry.type or not text:
        return _encodable(value)
    return _from_text(entry.pv, value, format, kind, native_count)


def _encodable(value: Any) -> Any:
    """Return text that is not UTF-8 as its bytes."""
    if is_list(value):
        cells: list[Any] = value
        return (
            [_encodable(cell) for cell in cells]
            if any(isinstance(c, str) for c in cells)
            else cells
        )
    if isinstance(value, str) and any("\udc80" <= character <= "\udcff" for character in value):
        return value.encode("utf-8", "surrogateescape")
    return value


def _from_text(pv: str, value: Any, format: Format, kind: str, native_count: int) -> Any:
    is_array = native_count != 1
    if kind == "CHAR" and is_array:
        long_string = is_long_string_name(pv) or (
            isinstance(value, str) and format in ("aioca", "psi")
        )
        if long_string and isinstance(value, str):
            return _encodable(value)
    cells: list[Any] = value if is_list(value) else [value]
    if is_array and cells == [""] and format != "burt":
        return []  # how an array without elements is written
    if kind == "STRING":
        texts = [
            "" if format == "burt" and cell == _burt.NULL else _encodable(cell) for cell in cells
        ]
        return texts if is_array or is_list(value) else texts[0]
    numbers = [_number(cell, format, kind) for cell in cells]
    return numbers if is_array or is_list(value) else numbers[0]


def _number(cell: Any, format: Format, kind: str) -> int | float:
    text = str(cell)
    if format == "burt":
        if text == _burt.NULL:
            return 0.0 if kind in ("DOUBLE", "FLOAT") else 0
        octets = text.encode("utf-8", "surrogateescape")
        if kind == "CHAR" and len(octets) == 1:
            return octets[0]
    if not text.strip():
        raise UnusableError("the file has no value for it")
    if len(text) <= _MAX_NUMBER_CHARACTERS:
        if _INTEGER.fullmatch(text):
            number = int(text, 16 if "x" in text.lower() else 10)
            if kind not in ("DOUBLE", "FLOAT") or abs(number) >= EXACT_LIMIT:
                return number
            return float(number)
        try:
            return float(text)
        except ValueError:
            pass
    raise UnusableError(f"{shown(text)} is not a number")


def _state(value: Any, label: str | None, format: Format, labels: Sequence[str]) -> int:
    """Return the number of a state, from its label or its number."""
    if label is not None:
        number = int(value)
        if not labels or (number < len(labels) and labels[number] == label):
            return number
        return _labelled(label, labels)
    text = str(value)
    is_number = re.fullmatch(r"[0-9]{1,5}", text.strip()) is not None
    if is_number and (format == "autosave" or text not in labels):
        return int(text)
    return _labelled(text, labels)


def _labelled(label: str, labels: Sequence[str]) -> int:
    if labels.count(label) != 1:
        known = ", ".join(map(repr, labels))
        how = "several of its states are" if label in labels else "none of its states is"
        raise UnusableError(f"{how} called {shown(label)}; it has {known or 'no labels'}")
    return labels.index(label)
