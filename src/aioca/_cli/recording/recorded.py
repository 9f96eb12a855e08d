"""The recorded history of one PV, as `plot` shows it.

A PV may change its type while it is recorded, and the figure has one panel for it. The panel shows
numbers against time if the PV had any, or else its last array of numbers, or else its last text.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from ..._display.text import NEVER_BEFORE, abbreviated, number_text
from ..._printable import printable
from ..live.recording import Recording

_MAX_UPDATES = 5_000_000  # of one PV, the newest
_MAX_TEXT = 60  # characters, beside the name of the PV
_MAX_CLOCK_DIFFERENCE = 5.0  # seconds; as in a live plot
_ALARMS = ("no alarm", "MINOR", "MAJOR", "INVALID")
_KINDS = (None, "text", "trace", "strip")  # a later one replaces an earlier one


class Row(NamedTuple):
    """A row of a recording: ``value`` is a number, a text, an array of numbers, or None."""

    timestamp_ns: int
    pv: str
    event: str
    severity: int
    value: Any


class Clock:
    """The times of the rows of one PV in a chart: those of the file, but they never decrease.

    Attributes:
        unusable: the number of values whose time stamp cannot be true.
    """

    __slots__ = ("_begins", "_last", "_least", "unusable")

    def __init__(self) -> None:
        self._begins = True  # whether the next value is the first one of a connection
        self._last = -math.inf
        self._least = float(NEVER_BEFORE)  # of a time stamp that can be true
        self.unusable = 0

    def time_of(self, row: Row) -> float:
        """Return the time of the next row."""
        when = row.timestamp_ns / 1e9
        if row.event == "lost":
            return when
        if row.event == "value":
            if self._begins:  # the PV may have had the value for days
                self._begins = False
                when = self._last if self._last > -math.inf else when
            elif when <= self._least:
                self.unusable += 1
        elif row.event == "connected":
            self._begins = True
            self._least = when - _MAX_CLOCK_DIFFERENCE
        self._last = max(when, self._last)
        return self._last

    @property
    def is_usable(self) -> bool:
        """Whether the last returned time can be true."""
        return self._last > self._least


class RecordedPV(Recording):
    """The recorded values of a PV.

    Attributes:
        value: the last value of those that `kind` shows.
        clock: the times of its rows.
    """

    __slots__ = ("_counts", "_last", "_last_severity", "_was_seen", "clock")

    max_updates = _MAX_UPDATES

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.clock = Clock()
        self._counts: Counter[str] = Counter()  # of values, by kind
        self._last: Any = None
        self._last_severity = -1
        self._was_seen = False

    def add(self, row: Row, when: float) -> None:
        """Add the next row of this PV, with its time from `clock`."""
        if row.event == "value":
            kind, number = "text", math.nan
            if isinstance(row.value, (int, float)):
                kind, number = "strip", float(row.value)
            elif _is_array(row.value):
                kind = "trace"
            self._counts[kind] += 1
            self._last, self._last_severity = row.value, row.severity
            if kind == self.kind or _KINDS.index(kind) > _KINDS.index(self.kind):
                self.value, self.kind = row.value, kind
            self._append(when, number, row.severity)
        elif row.event == "disconnected":
            self._last_severity = -1
            # With no row before, it was not connected since the recording began
            self._append(when if self._was_seen else 0.0, math.nan, -1)
        self._was_seen = True

    @property
    def connected(self) -> bool:
        return self._last_severity >= 0

    @property
    def severity(self) -> int:
        return self._last_severity

    @property
    def condition(self) -> str:
        return _ALARMS[self.severity & 3] if self.connected else "disconnected"

    def text(self) -> str:
        """Return the last value as text; an array as its length."""
        if _is_array(self._last):
            return f"[{len(self._last)}]"
        if isinstance(self._last, float):
            return number_text(self._last, None)
        return abbreviated(printable(str(self._last)), _MAX_TEXT)

    @property
    def remarks(self) -> list[str]:
        """What the chart does not show, or shows wrongly; one line each."""
        remarks: list[str] = []
        if self.kind == "strip" and self.clock.unusable:
            remarks.append(
                f"{self.shown_name}: {self.clock.unusable:,} of its time stamps are unusable (its"
                " server had no time, or a wrong one), so these values are drawn at a wrong time"
            )
        names = {"text": "text", "trace": "array"}
        others = [
            f"{self._counts[kind]:,} {name}{'s' * (self._counts[kind] > 1)}"
            for kind, name in names.items()
            if self._counts[kind] and kind != self.kind
        ]
        if others:
            remarks.append(
                f"{self.shown_name}: it changed its type; not drawn: {', '.join(others)}"
            )
        return remarks


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray)
