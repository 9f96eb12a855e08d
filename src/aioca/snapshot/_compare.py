"""Compare saved values with the PVs: `diff`, and the first and last part of `restore`.

A PV has the saved value if a put of the saved value would have written its present value.
`_api.matching` decides that, as for `wait_for_value`. In two cases that is not enough:

- Doubles of 2**53 and more stand for several integers. If the server sends the PV as an integer in
  text, the integers are compared.
- Files of other programs have fewer digits than a double. A PV has the saved value if it has these
  digits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import anyio.lowlevel

from .._api.connect import cainfo, connect
from .._api.info import CAInfo
from .._api.matching import Matcher
from .._ca.eca import ECA
from .._errors import CANothing, CAValueError
from .._values.dbr import DBR_ENUM, FORMAT_TIME
from .._values.number_types import EXACT_LIMIT
from ..types import Datatype, Timeout
from . import _autosave, _burt
from ._model import TYPE_NAMES, Difference, Entry, Format, Snapshot, check_snapshot, is_list
from ._read import ENTRIES_PER_TURN, entries_of, integers_of, labels_of, read, reason_of
from ._resolve import UnusableError, resolve

_DIGITS: dict[str, dict[str, int]] = {"autosave": _autosave.DIGITS, "burt": _burt.DIGITS}


@dataclass
class Candidate:
    """One saved value, and what is known of its PV.

    Attributes:
        entry: the saved value.
        failure: why the PV is not connected; None if it is.
        writable: whether this client may write the PV.
        usable: whether ``wanted`` is a value that can be written.
        wanted: the value for `caput`.
        equal: whether the PV has the saved value.
        current: the value of the PV; None if it was not read.
        reason: why it is not connected, not usable, or was not read.
    """

    entry: Entry
    failure: CANothing | None = None
    writable: bool = False
    usable: bool = False
    wanted: Any = None
    equal: bool = False
    current: Entry | None = None
    reason: str = ""


async def diff(snapshot: Snapshot, *, timeout: Timeout = 5.0) -> list[Difference]:
    """Compare a snapshot with the PVs, and return what differs.

    Only values are compared, not alarms and times. A PV has the saved value if `aioca.caput` of
    that value would have written its present value.

    Args:
        snapshot: the saved values; `Snapshot.select` chooses some of them.
        timeout: seconds for connecting, and again for reading; see `aioca.types.Timeout`.

    Returns:
        list[Difference]: in the order of the snapshot, one for each PV that has another value, or
        that could not be compared. Nothing is raised for these.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """
    candidates = await examine(snapshot, timeout)
    return [
        Difference(candidate.entry, candidate.current, candidate.reason)
        for candidate in candidates
        if not candidate.equal
    ]


async def examine(snapshot: Snapshot, timeout: Timeout) -> list[Candidate]:
    """Connect to the PVs, find out what would be written, and compare. Raises no error of a PV."""
    check_snapshot(snapshot)
    candidates = [Candidate(entry) for entry in snapshot.entries]
    names = [entry.pv for entry in snapshot.entries]
    results = await connect(names, timeout=timeout, throw=False)
    infos = await cainfo(names, wait=False, throw=False)
    for candidate, result, info in zip(candidates, results, infos, strict=True):
        if not result.ok:
            candidate.failure = result
        elif not info.ok:  # the server was lost a moment ago
            candidate.failure = CANothing(candidate.entry.pv, ECA.DISCONN)
        if candidate.failure is not None:
            candidate.reason = reason_of(candidate.failure)
    there = [(c, i) for c, i in zip(candidates, infos, strict=True) if c.failure is None]
    labels = await labels_of([i.name for _, i in there if i.datatype == DBR_ENUM], timeout)
    for index, (candidate, info) in enumerate(there):
        if index % ENTRIES_PER_TURN == 0:
            await anyio.lowlevel.checkpoint()
        _prepare(candidate, info, snapshot.format, labels.get(info.name, []))
    await compare([c for c, _ in there], snapshot.format, timeout)
    return candidates


def _prepare(candidate: Candidate, info: CAInfo, format: Format, labels: Sequence[str]) -> None:
    candidate.writable = info.write
    if candidate.entry.value is None:
        candidate.reason = f"it has no saved value: {candidate.entry.error}"
        return
    try:
        candidate.wanted = resolve(candidate.entry, format, info.datatype, info.count, labels)
        candidate.usable = True
    except UnusableError as error:
        candidate.reason = str(error)


async def compare(candidates: Iterable[Candidate], format: Format, timeout: Timeout) -> None:
    """Read the PVs, and set ``current`` and ``equal`` of the candidates that are usable."""
    usable = [(c, Matcher(c.entry.pv, c.wanted, None)) for c in candidates if c.usable]
    groups: dict[Datatype, list[tuple[Candidate, Matcher]]] = {}
    for candidate, matcher in usable:
        groups.setdefault(matcher.datatype, []).append((candidate, matcher))
    large = [c.entry.pv for c, _ in usable if _has_large_integer(c.wanted)]
    texts = await read(large, timeout, str)
    integers = {text.name: integers_of(text) for text in texts if text.ok}
    for datatype, group in groups.items():
        names = [candidate.entry.pv for candidate, _ in group]
        values = await read(names, timeout, datatype, FORMAT_TIME)
        entries = await entries_of(names, values, timeout)
        for (candidate, matcher), value, entry in zip(group, values, entries, strict=True):
            candidate.equal, candidate.current = False, entry if value.ok else None
            if not value.ok:
                candidate.reason = f"it cannot be read: {reason_of(value)}"
                continue
            try:
                same = matcher(value)
            except CAValueError as error:
                cause = error.__cause__  # what `caput` would raise
                candidate.usable = False
                candidate.reason = reason_of(cause if isinstance(cause, CAValueError) else error)
            else:
                candidate.equal = _is_equal(candidate, value, same, integers, format)


def _is_equal(
    candidate: Candidate, value: Any, same: bool, integers: dict[str, Any], format: Format
) -> bool:
    """Whether a PV has the saved value; ``same`` is what the matcher says."""
    found = integers.get(candidate.entry.pv)
    if found is not None:
        return bool(found == candidate.wanted)
    native_type: int = value.datatype
    digits = _DIGITS.get(format, {}).get(TYPE_NAMES[native_type])
    return same or (digits is not None and _same_digits(value, candidate.wanted, digits))


def _elements(value: Any) -> list[Any]:
    plain: Any = +value if hasattr(value, "name") else value
    plain = plain.tolist() if hasattr(plain, "tolist") else plain
    return plain if is_list(plain) else [plain]


def _has_large_integer(wanted: Any) -> bool:
    return any(isinstance(cell, int) and abs(cell) >= EXACT_LIMIT for cell in _elements(wanted))


def _same_digits(value: Any, wanted: Any, digits: int) -> bool:
    """Whether a value, rounded to so many significant digits, is the one that is wanted."""
    found, expected = _elements(value), _elements(wanted)
    return len(found) == len(expected) and all(
        isinstance(w, (int, float)) and _rounds_to(float(v), float(w), digits)
        for v, w in zip(found, expected, strict=True)
    )


def _rounds_to(value: float, wanted: float, digits: int) -> bool:
    if math.isnan(value) or math.isnan(wanted):
        return math.isnan(value) and math.isnan(wanted)
    return float(f"{value:.{digits}g}") == wanted
