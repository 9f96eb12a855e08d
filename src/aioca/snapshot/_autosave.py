r"""The files of autosave (``.sav``), the save/restore module of synApps.

A line is a name, one blank, and the value as text, in which unprintable characters are escapes of C
(``\n``, ``\xb0``). An array is ``@array@ { "1" "2" }``, perhaps over several lines. ``<END>`` ends
the file. Enums and menus are numbers. Doubles have 14 digits, floats 7.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ._macros import expand
from ._model import Entry, Snapshot, SnapshotError

DIGITS = {"DOUBLE": 14, "FLOAT": 7}  # significant digits that autosave writes
_ARRAY = "@array@"
_ELEMENT = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_NOT_SAVED = ("Not Connected", "Search Issued", "Initialized")  # "values" of PVs without one
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|(.))", re.DOTALL)
_LETTERS = {
    b"a": b"\a",
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
}


def is_autosave(data: bytes, name: str) -> bool:
    """Whether the file seems to be of autosave: by its end, its head, or its name."""
    head = data[:200].lstrip()
    return (
        re.search(rb"^<END>", data[-200:], re.MULTILINE) is not None
        or re.match(rb"#\s*(save/restore|autosave)", head) is not None
        or re.search(r"\.sav[B0-9]?$", name) is not None
    )


def parse(data: bytes, macros: Mapping[str, str]) -> Snapshot:
    """Read the content of a file; SnapshotError without a path if it is damaged."""
    text = data.decode("utf-8", "surrogateescape")
    entries: dict[str, Entry] = {}
    position, line = 0, 0
    while position < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        content, start = text[position:end].rstrip("\r"), position
        position, line = end + 1, line + 1
        name, value = _split(content)
        if name.startswith("<END>"):
            return Snapshot(tuple(entries.values()), None, "autosave")
        if value.startswith(_ARRAY):
            cells, after = _array(text, start + content.index(_ARRAY) + len(_ARRAY), line)
            line += text.count("\n", start, after)
            end = text.find("\n", after)
            position = len(text) if end < 0 else end + 1
            entry = Entry(name, cells)
        else:
            entry = Entry(name, unescaped(value, line))
        kept = _kept(entry, macros, line)
        if kept is None:
            continue
        if kept.pv in entries:
            raise SnapshotError(f"{kept.pv} occurs twice", None, line)
        entries[kept.pv] = kept
    raise SnapshotError("the line <END> is missing: the file is not complete")


def _split(content: str) -> tuple[str, str]:
    """Split a line at the first blank after the name; further blanks belong to the value."""
    name, _, value = content.lstrip().partition(" ")
    return name, value


def _kept(entry: Entry, macros: Mapping[str, str], line: int) -> Entry | None:
    """Return the entry of a line; None for a comment or an empty line."""
    name = entry.pv
    if name.startswith("#") and entry.value in _NOT_SAVED and len(name) > 1:
        entry = Entry(name[1:], None, error="autosave was not connected to it")
    elif not name or name[0] in "#!":
        return None
    try:
        pv = expand(entry.pv, macros)
    except SnapshotError as error:
        raise SnapshotError(error.problem, None, line) from None
    return Entry(pv, entry.value, error=entry.error)


def _array(text: str, position: int, line: int) -> tuple[list[str], int]:
    """Read an array from the position on; return its elements and the position after it."""
    begin = re.compile(r"[^{\n]*\{").match(text, position)
    if begin is None:
        raise SnapshotError("an array has no {", None, line)
    cells: list[str] = []
    position = begin.end()
    while position < len(text):
        character = text[position]
        if character == "}":
            return cells, position + 1
        if character != '"':
            position += 1
            continue
        element = _ELEMENT.match(text, position)
        if element is None:
            break
        cells.append(unescaped(re.sub(r"[\r\n]", "", element[1]), line))
        position = element.end()
    raise SnapshotError("an array has no end }", None, line)


def unescaped(text: str, line: int = 0) -> str:
    """Replace the escapes of C; bytes that are not UTF-8 become surrogates."""
    if "\\" not in text:
        return text

    def meant(found: Any) -> bytes:
        octal, hexadecimal, letter = found.groups()
        if letter is not None:
            return _LETTERS.get(letter, bytes(letter))
        return bytes([(int(octal, 8) if octal else int(hexadecimal, 16)) & 0xFF])

    data = _ESCAPE.sub(meant, text.encode("utf-8", "surrogateescape"))
    if b"\0" in data:
        raise SnapshotError("a value contains NUL", None, line)
    return data.decode("utf-8", "surrogateescape")
