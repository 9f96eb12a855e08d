"""The files of the snapshot tool of PSI (``.snap``).

The first line is ``#`` and JSON with the metadata, which may have macros. A line is ``NAME,JSON``.
The JSON is the value, or an object whose ``val`` is the value.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from ._json import octets, read_json
from ._macros import expand
from ._model import Entry, Snapshot, SnapshotError, is_list, is_object


def parse(data: bytes, macros: Mapping[str, str]) -> Snapshot:
    """Read the content of a file; SnapshotError without a path if it is damaged."""
    lines = data.decode("utf-8", "surrogateescape").splitlines()
    while not lines[0].strip():
        lines.pop(0)
    metadata = _json(lines[0].lstrip()[1:], 1)
    known = metadata.get("macros") if is_object(metadata) else None
    if is_object(known) and all(isinstance(v, str) for v in known.values()):
        macros = {**known, **macros}
    entries: dict[str, Entry] = {}
    for number, line in enumerate(lines[1:], 2):
        if not line.strip() or line.startswith("#"):
            continue
        entry = _entry(line.strip(), number, macros)
        if entry.pv in entries:
            raise SnapshotError(f"{entry.pv} occurs twice", None, number)
        entries[entry.pv] = entry
    return Snapshot(tuple(entries.values()), _time(metadata), "psi")


def _json(text: str, number: int) -> Any:
    try:
        return read_json(text, bare_nan=True)
    except SnapshotError as error:
        raise SnapshotError(error.problem, None, number) from None


def _time(metadata: Any) -> datetime | None:
    stamp = metadata.get("save_time") if is_object(metadata) else None
    if not isinstance(stamp, (int, float)):
        return None
    try:
        return datetime.fromtimestamp(float(stamp), timezone.utc)
    except (ValueError, OverflowError, OSError):  # the year is out of range
        return None


def _entry(line: str, number: int, macros: Mapping[str, str]) -> Entry:
    name, comma, text = line.partition(",")
    try:
        name = expand(name.strip(), macros)
    except SnapshotError as error:
        raise SnapshotError(error.problem, None, number) from None
    if not name:
        raise SnapshotError("the line has no name", None, number)
    value = _json(text, number) if comma and text.strip() else None
    if is_object(value):
        value = value.get("val")
    if value is None:
        return Entry(name, None, error="the file has no value for it")
    return Entry(name, _checked(value, name, number))


def _checked(value: Any, name: str, number: int) -> Any:
    cells: list[Any] = value if is_list(value) else [value]
    for cell in cells:
        if isinstance(cell, str):
            octets(cell, name)
        number_or_text = isinstance(cell, (int, float, str)) and not isinstance(cell, bool)
        if not number_or_text or (isinstance(cell, int) and abs(cell) >= 10**38):
            raise SnapshotError(
                f"{name}: its value is not a number, a string, or a list", None, number
            )
    kinds = {isinstance(cell, str) for cell in cells}
    if len(kinds) > 1:
        raise SnapshotError(f"{name}: its array has both numbers and strings", None, number)
    return value
