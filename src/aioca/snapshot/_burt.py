r"""The snapshot files of BURT (``.snap``), the backup and restore tool of EPICS.

After a header, a line is ``[RO|RON|WO] NAME COUNT VALUE...``. ``%`` begins a comment. A value with
blanks is in double quotes. ``\0`` is no value: an empty string, or 0. An element of CHAR is one
character. Doubles have 16 digits, floats 7.
"""

from __future__ import annotations

import re
from datetime import datetime

from ._model import Entry, Snapshot, SnapshotError

DIGITS = {"DOUBLE": 16, "FLOAT": 7}  # significant digits that BURT writes
NULL = "\\0"
_TAGS = ("RO", "RON", "WO")
_TOKEN = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|(%.*)|(\S+))')
_TYPE = re.compile(r"Type:\s*(\w+)")


def parse(data: bytes) -> Snapshot:
    """Read the content of a file; SnapshotError without a path if it is damaged."""
    text = data.decode("utf-8", "surrogateescape")
    entries: dict[str, Entry] = {}
    in_header = False
    saved = None
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("--- Start BURT header"):
            in_header = True
        elif line.startswith("--- End BURT header"):
            in_header = False
        elif in_header:
            saved = _time(line) or saved
            kind = _TYPE.match(line)
            if kind is not None and kind[1] != "Absolute":
                raise SnapshotError(
                    f"it is a {kind[1]} snapshot; only an Absolute one can be restored",
                    None, number,
                )  # fmt: skip
        elif line.strip() and not line.lstrip().startswith("%"):
            entry = _entry(line, number)
            if entry.pv in entries:
                raise SnapshotError(f"{entry.pv} occurs twice", None, number)
            entries[entry.pv] = entry
    if in_header:
        raise SnapshotError("the header of BURT has no end")
    return Snapshot(tuple(entries.values()), saved, "burt")


def _time(line: str) -> datetime | None:
    """Return the time in a line of the header, which is local time."""
    name, _, rest = line.partition(":")
    if name != "Time":
        return None
    try:
        return datetime.strptime(rest.strip(), "%a %b %d %H:%M:%S %Y").astimezone()
    except ValueError:
        return None


def _entry(line: str, number: int) -> Entry:
    words = line.split(None, 1)
    read_only = words[0] in ("RO", "RON")
    rest = words[1] if words[0] in _TAGS and len(words) > 1 else line
    head = re.match(r"\s*(\S+)\s+(\S+) ?(.*)", rest)
    if head is None:
        raise SnapshotError("the line is not a name, a count and values", None, number)
    name, count_text, values = head.groups()
    if not re.fullmatch(r"[0-9]{1,9}", count_text):
        raise SnapshotError(f"{name}: the count {count_text!r} is not a number", None, number)
    count = int(count_text)
    cells = _cells(values)
    if len(cells) != count:
        cells = _single_characters(values, count)
    if len(cells) != count:
        raise SnapshotError(f"{name}: the line does not have {count} values", None, number)
    return Entry(name, cells[0] if count == 1 else cells, read_only=read_only)


def _cells(values: str) -> list[str]:
    cells: list[str] = []
    for quoted, comment, plain in _TOKEN.findall(values):
        if comment:
            break
        cells.append(plain or re.sub(r"\\(.)", r"\1", quoted))
    return cells


def _single_characters(values: str, count: int) -> list[str]:
    """Return the elements of CHAR, each one character, of which some are blanks without quotes."""
    if count and values[1::2][: count - 1] == " " * (count - 1) and len(values) >= 2 * count - 1:
        return list(values[::2][:count])
    return []
