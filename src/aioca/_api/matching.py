"""Decides for `wait_for_value` whether the value of a PV matches.

An update matches if a `caput` of the wanted value would have written it. So the wanted value is
encoded as for a put, with the type and count of the PV, and the update is compared with the result.
For an integer PV, a fraction is cut off; for a STRING, a number becomes text; for a scalar, a list
of one element is a scalar.

A wanted value that a put cannot write, such as an object with an ``__eq__`` of its own, is compared
with ``==``.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np

from .._errors import CAValueError, invalid
from .._printable import printable
from .._values.dbr import (
    AS_BYTES_TO_MATCH,
    AS_TEXT_TO_MATCH,
    DBR_STRING,
    DTYPES,
    MAX_STRING_SIZE,
    datatype_code,
)
from .._values.encode import encode
from .._values.texts import as_servers_read

if TYPE_CHECKING:
    from ..types import Datatype

Check = Callable[[Any], bool]

_WRITTEN = (Number, np.generic, np.ndarray, str, bytes, bytearray, list, tuple, type(None))


class Matcher:
    """The condition of one `wait_for_value`: a wanted value, or a function.

    Attributes:
        datatype: the datatype with which to monitor the PV.
    """

    def __init__(self, pv: str, match: Any, datatype: Any) -> None:
        if inspect.iscoroutinefunction(match):
            raise _is_async(pv, match)
        self._pv = pv
        self._match = match
        self.datatype: Datatype = _to_read(match) if datatype is None else datatype
        self._asked = datatype
        self._known: tuple[int, int] | None = None  # the type and count of `_check`
        self._check: Check = _never
        self._number = _number_in_text(match) if datatype is None else ""
        self._label: str | bytes | None = None

    def __call__(self, value: Any) -> bool:
        """Whether an update matches; CAValueError if no put could write the wanted value."""
        match = self._match
        if callable(match):
            matches = match(value)
            if not isinstance(matches, bool) and inspect.isawaitable(matches):
                if inspect.iscoroutine(matches):
                    matches.close()
                raise _is_async(self._pv, match)
            return bool(matches)
        if not value.ok:  # a disconnection
            return False
        if not isinstance(match, _WRITTEN):
            return bool(np.all(value == match))
        known = value.datatype, value.element_count
        if known != self._known:
            self._check = self._check_for(*known)
            self._known = known
        if self._label is not None:
            return bool(value == self._label)
        return self._check(value) or (self._asked is not None and _same_elements(value, match))

    @property
    def needs_labels(self) -> bool:
        """Whether the wanted value is a number as text: for an enum, it may number a state."""
        return bool(self._number)

    def labels_are(self, labels: list[str]) -> None:
        """Set the labels of the PV; an empty list if it is not an enum.

        If no label of the enum is equal to the text, a server takes the number for that of a
        state.
        """
        number, self._number = self._number, ""
        state = int(number)
        if number in labels or state >= len(labels) or labels.count(labels[state]) != 1:
            return  # the text is a label, or no label identifies the state
        label = labels[state]
        self._label = label.encode() if isinstance(_only(self._match), bytes) else label

    def _check_for(self, native_type: int, native_count: int) -> Check:
        try:
            code = None if self._asked is None else datatype_code(self._asked, writing=True)
            dbr, count, data = encode(self._pv, self._match, code, native_type, native_count)
        except CAValueError as error:
            if self._asked is not None:  # the datatype may be for reading only
                return _never
            raise invalid(
                error.name,
                error.errorcode,
                f"waiting for a value that cannot be written to this PV: {error._detail}",
            ) from error
        except ValueError:  # the datatype is for reading only
            return _never
        if dbr == DBR_STRING:
            assert isinstance(data, bytes)
            cells = [_cell(data, index) for index in range(count)]
            return _check_of_strings(cells, native_type, native_count == 1)
        return _check_of_numbers(
            np.frombuffer(data, DTYPES[dbr], count) if isinstance(data, bytes) else data
        )


def _to_read(match: Any) -> Any:
    """Return the datatype to read for a wanted value; None for the native type."""
    whole: Any = match
    found: Any = match
    if isinstance(match, (list, tuple)):
        found = next((cell for cell in whole if isinstance(cell, (str, bytes))), None)
    elif isinstance(match, np.ndarray):
        found = {"U": "", "S": b""}.get(whole.dtype.kind)
    if not isinstance(found, (str, bytes)):
        return None
    data = found.encode("utf-8", "replace") if isinstance(found, str) else found
    if b"\0" in data.rstrip(b"\0"):  # a CHAR array read as a long string would end there
        return None
    return AS_TEXT_TO_MATCH if isinstance(found, str) else AS_BYTES_TO_MATCH


def _number_in_text(match: Any) -> str:
    """Return a wanted text that is a number of up to five digits; else an empty str."""
    text = _only(match)
    text = text.decode("latin-1") if isinstance(text, bytes) else text
    return text if isinstance(text, str) and re.fullmatch("[0-9]{1,5}", text) else ""


def _only(match: Any) -> Any:
    """Return the only element of a list, or what is not a list of one element."""
    whole: Any = match
    return whole[0] if isinstance(match, (list, tuple)) and len(whole) == 1 else whole


def _is_async(pv: str, match: Any) -> TypeError:
    return TypeError(f"{printable(pv)}: match must not be async, but {match!r} is")


def _never(_: Any) -> bool:
    return False


def _same_elements(value: Any, match: Any) -> bool:
    array: Any = value
    if isinstance(value, np.ndarray):
        return np.array_equal(array, match)  # pyright: ignore[reportUnknownMemberType]
    return bool(np.all(value == match))


# -- Text ------------------------------------------------------------------------------------------


def _cell(data: bytes, index: int) -> bytes:
    start = index * MAX_STRING_SIZE
    return data[start : start + MAX_STRING_SIZE].rstrip(b"\0")


def _check_of_strings(cells: list[bytes], native_type: int, is_scalar: bool) -> Check:
    """Compare with a put of strings: an update is text, or the number that a server parses."""
    texts = [cell.decode("utf-8", "replace") for cell in cells]
    numbers = [as_servers_read(text, native_type, is_scalar) for text in texts]

    def check(value: Any) -> bool:
        found = _elements(value)
        if found and isinstance(found[0], (str, bytes)):
            return found in (texts, cells)
        return len(found) == len(numbers) and all(map(_is_same, found, numbers))

    return check


def _is_same(found: float, number: float | None) -> bool:
    both_nan = number is not None and math.isnan(number) and math.isnan(found)
    return found == number or both_nan


def _elements(value: Any) -> list[Any]:
    plain: Any = +value
    return list(plain.tolist()) if isinstance(plain, np.ndarray) else [plain]


# -- Numbers ---------------------------------------------------------------------------------------


def _check_of_numbers(expected: Any) -> Check:
    """Compare with a put of numbers. An update of a CHAR array may be a long string."""
    array = np.atleast_1d(expected)
    text = array.tobytes().split(b"\0", 1)[0]
    numbers = array.tolist()
    floats = array.dtype.kind == "f"

    def check(value: Any) -> bool:
        whole: Any = value
        if isinstance(value, str):
            return value == text.decode("utf-8", "replace")
        if isinstance(value, bytes):
            return value == text
        if not isinstance(value, np.ndarray):
            nan = floats and math.isnan(value)
            return len(numbers) == 1 and bool(
                value == numbers[0] or (nan and math.isnan(numbers[0]))
            )
        both_floats = floats and whole.dtype.kind == "f"
        return np.array_equal(whole, array, equal_nan=both_floats)  # pyright: ignore[reportUnknownMemberType]

    return check
