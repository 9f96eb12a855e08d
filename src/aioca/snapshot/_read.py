"""Read PVs into entries, with all digits and all bytes.

Channel Access sends some values in part only, so some PVs are read twice:

- An ENUM is sent without its labels, so they are read with ``FORMAT_CTRL``.
- A 64-bit integer is sent as a double. From 2**53 on, it is read as text as well, which has all
  digits.
- Text that is not UTF-8 is read as bytes as well. Its other bytes become surrogates, as in file
  names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

import anyio.lowlevel
import numpy as np

from .._api.arguments import names_of
from .._api.read import caget
from .._errors import CANothing
from .._printable import printable
from .._values.attributes import EPICS_EPOCH
from .._values.dbr import DBR_DOUBLE, DBR_ENUM, DBR_FLOAT, FORMAT_CTRL, FORMAT_RAW, FORMAT_TIME
from .._values.number_types import EXACT_LIMIT
from ..types import AugmentedValue, Datatype, Format, Timeout
from ._model import TYPE_NAMES, Entry, Snapshot, is_list

# What is converted before other tasks get a turn
ENTRIES_PER_TURN = 200
_ELEMENTS_PER_TURN = 10_000
_UINT64_END = 2.0**64  # no record holds a larger integer


async def take(pvs: str | Iterable[str], *, timeout: Timeout = 5.0, throw: bool = True) -> Snapshot:
    """Read PVs, and return a snapshot of their values.

    Args:
        pvs: the PVs. One that occurs several times is read once.
        timeout: seconds for connecting and reading, and again for what has to be read twice (labels
            of enums, for example); see `aioca.types.Timeout`.
        throw: whether to raise if a PV cannot be read. If not, its entry has no value, and says
            why.

    Returns:
        Snapshot: an entry for each PV, in the order of ``pvs``.

    Raises:
        CATimeout: a PV did not connect, or its server did not reply, by the deadline. The error
            names every PV that could not be read.
        CADisconnected, CAAccessDenied, CARequestError: as `aioca.caget`.
        TypeError, ValueError: an argument is wrong.
    """
    names = list(dict.fromkeys(names_of(pvs)))
    saved = datetime.now(timezone.utc)
    values: list[Any] = await caget(names, format=FORMAT_TIME, timeout=timeout, throw=throw)
    return Snapshot(tuple(await entries_of(names, values, timeout)), saved)


async def entries_of(names: Sequence[str], values: Sequence[Any], timeout: Timeout) -> list[Entry]:
    """Make entries from the results of `caget` with ``FORMAT_TIME``, which may be in part only."""
    good = [value for value in values if value.ok]
    labels = await labels_of([v.name for v in good if v.datatype == DBR_ENUM], timeout)
    digits = await _again([v.name for v in good if _has_large_integer(v)], str, timeout)
    octets = await _again([v.name for v in good if _is_not_utf8(v)], bytes, timeout)
    entries: list[Entry] = []
    for index, (name, value) in enumerate(zip(names, values, strict=True)):
        if index % ENTRIES_PER_TURN == 0:
            await anyio.lowlevel.checkpoint()
        if not value.ok:
            entries.append(Entry(name, None, error=reason_of(value)))
            continue
        plain = await _plain(octets.get(name, value))
        plain = _with_all_digits(plain, digits.get(name))
        entries.append(_entry(name, value, plain, labels.get(name, [])))
    return entries


def reason_of(result: CANothing | AugmentedValue) -> str:
    """Return why a PV failed, without its name, which every error begins with."""
    return str(result).removeprefix(f"{printable(result.name)}: ")


async def labels_of(names: list[str], timeout: Timeout) -> dict[str, list[str]]:
    """Return the labels of ENUM PVs by their names; a PV that cannot be read is left out."""
    found = await read(names, timeout, format=FORMAT_CTRL, count=1)
    return {value.name: list(value.enums) for value in found if hasattr(value, "enums")}


async def _again(names: list[str], datatype: Datatype, timeout: Timeout) -> dict[str, Any]:
    found = await read(names, timeout, datatype)
    return {value.name: value for value in found if value.ok}


async def read(
    names: list[str],
    timeout: Timeout,
    datatype: Datatype = None,
    format: Format = FORMAT_RAW,
    count: int = 0,
) -> list[Any]:
    """Call `caget`, unless there is nothing to read; a CANothing stands for each PV that failed."""
    found: list[Any] = []
    if names:
        found = await caget(names, datatype, format, count, timeout, throw=False)
    return found


def _entry(name: str, value: Any, plain: Any, labels: list[str]) -> Entry:
    kind = value.datatype
    label = None
    if kind == DBR_ENUM and isinstance(plain, int) and plain < len(labels):
        label = labels[plain] or None
    return Entry(
        name,
        plain,
        TYPE_NAMES[kind],
        label,
        value.alarm.severity,
        value.alarm.status,
        None if value.raw_stamp[0] == EPICS_EPOCH else value.timestamp_ns,
    )


# -- Values ----------------------------------------------------------------------------------------


async def _plain(value: Any) -> Any:
    """Return a value as a plain int, float or str, or a list of them."""
    whole: Any = +value
    if value.datatype == DBR_FLOAT:
        return await _shortest(whole)
    if not hasattr(whole, "tolist"):  # a scalar
        return _text(whole)
    cells: list[Any] = []
    for start in range(0, len(whole), _ELEMENTS_PER_TURN * 10):
        cells.extend(map(_text, whole[start : start + _ELEMENTS_PER_TURN * 10].tolist()))
        await anyio.lowlevel.checkpoint()
    return cells


def _text(cell: Any) -> Any:
    return cell.decode("utf-8", "surrogateescape") if isinstance(cell, bytes) else cell


async def _shortest(whole: Any) -> Any:
    """Return floats of 32 bits as the numbers with the fewest digits that stand for them."""
    if not hasattr(whole, "tolist"):  # a scalar
        return float(str(np.float32(whole)))
    cells: list[float] = []
    for start in range(0, len(whole), _ELEMENTS_PER_TURN):
        some = whole[start : start + _ELEMENTS_PER_TURN]
        cells.extend(map(float, some.astype(np.float32).astype(str)))
        await anyio.lowlevel.checkpoint()
    return cells


def _has_large_integer(value: Any) -> bool:
    if value.datatype != DBR_DOUBLE:
        return False
    sizes: Any = np.abs(np.asarray(value))
    return bool(((sizes >= EXACT_LIMIT) & (sizes <= _UINT64_END)).any())


def _is_not_utf8(value: Any) -> bool:
    whole: Any = +value
    if isinstance(whole, str):
        return "\ufffd" in whole
    kind = whole.dtype.kind if hasattr(whole, "dtype") else ""
    return kind == "U" and any("\ufffd" in cell for cell in whole)


def integers_of(text: Any) -> Any:
    """Return the integers in a text or in an array of texts; None if one is no integer."""
    cells = [str(text)] if isinstance(text, str) else [str(cell) for cell in text]
    if not all(re.fullmatch(r"[+-]?[0-9]{1,20}", cell) for cell in cells):
        return None
    return int(cells[0]) if isinstance(text, str) else [int(cell) for cell in cells]


def _with_all_digits(plain: Any, text: Any) -> Any:
    """Return the integers in the text, if the doubles are their nearest ones."""
    found = None if text is None else integers_of(text)
    if found is None or is_list(found) != is_list(plain):
        return plain
    if isinstance(found, int):
        return found if float(found) == plain else plain
    return found if [float(number) for number in found] == plain else plain
