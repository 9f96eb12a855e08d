"""The rows of a recording as columns, which are the same in all formats.

A row is an update, or an event of a PV: it was connected or disconnected, or updates were lost.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

# By the number of the DBR type
TYPES = ("STRING", "SHORT", "FLOAT", "ENUM", "CHAR", "LONG", "DOUBLE")
EVENTS = ("value", "connected", "disconnected", "lost")
COLUMNS = ("timestamp_ns", "pv", "event", "severity", "status", "type", "count", "value")


class Event(NamedTuple):
    """A row that is not an update. It has the attributes that `Rows` reads from an update.

    Attributes:
        timestamp_ns: the time of this computer, in nanoseconds of the Unix epoch.
        lost: of the event ``lost``, the number of lost updates.
    """

    name: str
    timestamp_ns: int
    event: str
    lost: int | None = None
    severity: int | None = None
    status: int | None = None
    datatype: int | None = None
    ok: bool = False


class Rows:
    """Columns of rows: one list for each column, all of the same length.

    Attributes:
        timestamp_ns: nanoseconds of the Unix epoch, as the server sent them.
        pv: the names.
        event: one of `EVENTS`.
        severity: 0 to 3; None if the row is not a value.
        status: the alarm status of EPICS; None if the row is not a value.
        type: one of `TYPES`; None if the row is not a value.
        count: the number of elements of an array; None if the row is not an array.
        number: the value of a number or an enum; of the event ``lost``, the number of updates.
        text: the value of a string; of an array of strings, its JSON.
        array: the value of an array of numbers.
    """

    def __init__(self, items: Sequence[Any]) -> None:
        self.timestamp_ns = [item.timestamp_ns for item in items]
        self.pv: list[str] = [item.name for item in items]
        self.event: list[str] = ["value" if item.ok else item.event for item in items]
        self.severity = [item.severity for item in items]
        self.status = [item.status for item in items]
        self.type: list[str | None] = [
            None if i.datatype is None else TYPES[i.datatype] for i in items
        ]
        self.count: list[int | None] = [None] * len(items)
        self.number: list[float | int | None] = [None] * len(items)
        self.text: list[str | None] = [None] * len(items)
        self.array: list[Any] = [None] * len(items)
        self.has_arrays = False
        for row, item in enumerate(items):
            if isinstance(item, (float, int)):
                self.number[row] = +item
            else:
                self._set_other(row, item)

    def __len__(self) -> int:
        return len(self.pv)

    def _set_other(self, row: int, item: Any) -> None:
        if isinstance(item, Event):
            self.number[row] = item.lost
        elif (dtype := getattr(item, "dtype", None)) is not None:
            self.count[row] = len(item)
            if dtype.kind in "biuf":
                self.array[row] = +item
                self.has_arrays = True
            else:
                self.text[row] = json.dumps([str(text) for text in item], ensure_ascii=False)
        else:
            self.text[row] = str(+item)


class Writer(Protocol):
    """A file of a recording. Calls are made one at a time.

    Attributes:
        size: the bytes in the file so far.
        full: whether so many rows wait in memory that it is time for `flush`.
        written: the number of rows that are in the file, and that survive the end of the process.

    `flush` raises OSError if the disk is full or broken. What was written before stays readable.
    """

    size: int
    written: int
    full: bool

    def add(self, rows: Rows) -> None:
        """Prepare rows in memory. Runs on the event loop's thread."""

    def flush(self) -> None:
        """Write all added rows into the file. Blocks; may run in another thread."""

    def close(self) -> None:
        """Close the file, without the rows that were not flushed. Blocks."""


def encoded(text: str) -> bytes:
    """Encode a text as UTF-8, and each byte of the command line that is not UTF-8 as itself."""
    return text.encode("utf-8", "surrogateescape")


def strerror(error: Exception) -> str:
    """Return the reason of an error of the operating system, without the name of the file."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else " ".join(str(error).split())
