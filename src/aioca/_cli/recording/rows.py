"""The rows of a recording as columns, which are the same in all formats.

A row is an update, or an event of a PV: it was connected or disconnected, or updates were lost.
"""

from __future__ import annotations

import os
from typing import Any, Protocol

import numpy as np

# By the number of the DBR type
TYPES = ("STRING", "SHORT", "FLOAT", "ENUM", "CHAR", "LONG", "DOUBLE")
EVENTS = ("value", "connected", "disconnected", "lost")
COLUMNS = ("timestamp_ns", "pv", "event", "severity", "status", "type", "count", "value")
FLOATS = (2, 6)  # the types whose numbers are not integers
VALUE, CONNECTED, DISCONNECTED, LOST = range(len(EVENTS))  # their places
NONE = -1  # stands for an empty cell of `type` and `count`

_Column = np.ndarray[Any, Any]


class Event:
    """A row that is not an update. It waits among the updates, which have a reader.

    Attributes:
        index: the place of the PV in the list of names.
        timestamp_ns: the time of this computer, in nanoseconds of the Unix epoch.
        number: the place in `EVENTS`.
        lost: of the event ``lost``, the number of lost updates.
    """

    __slots__ = ("index", "lost", "number", "timestamp_ns")

    _reader = None

    def __init__(self, index: int, timestamp_ns: int, event: str, lost: int | None = None) -> None:
        self.index = index
        self.timestamp_ns = timestamp_ns
        self.number = EVENTS.index(event)
        self.lost = lost

    def __repr__(self) -> str:
        return f"<Event {EVENTS[self.number]} of PV {self.index}>"


class Rows:
    """Columns of rows: numpy arrays, all of the same length, and a dictionary for what is rare.

    Attributes:
        timestamp_ns: nanoseconds of the Unix epoch, as the server sent them.
        pv: the places of the PVs in the list of names.
        event: the places of the events in `EVENTS`; 0 is a value.
        severity: 0 to 3; 0 if the row is not a value.
        status: the alarm status of EPICS; 0 if the row is not a value.
        type: the places of the types in `TYPES`; `NONE` if the row is not a value.
        count: the number of elements of an array; `NONE` if the row is not an array.
        number: float64: the value of a number or an enum; of the event ``lost``, the number of
            updates; NaN if the row has no number.
        has_number: whether the row has a number, which may be NaN.
        texts: by row, in ascending order, the value of a string; of an array of strings, its JSON.
        arrays: by row, in ascending order, the value of an array of numbers.
    """

    def __init__(self, length: int) -> None:
        self.timestamp_ns: _Column = np.zeros(length, "i8")
        self.pv: _Column = np.zeros(length, "i4")
        self.event: _Column = np.zeros(length, "i1")
        self.severity: _Column = np.zeros(length, "i2")
        self.status: _Column = np.zeros(length, "i2")
        self.type: _Column = np.full(length, NONE, "i1")
        self.count: _Column = np.full(length, NONE, "i4")
        self.number: _Column = np.full(length, np.nan)
        self.has_number: _Column = np.zeros(length, "?")
        self.texts: dict[int, str] = {}
        self.arrays: dict[int, _Column] = {}

    def __len__(self) -> int:
        return len(self.pv)

    @property
    def array_bytes(self) -> int:
        """The bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays.values())


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
