"""The last row of each PV, with which the next file of a rotation begins.

Without it, that file would not have the PVs that do not change.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .rows import CONNECTED, LOST, NONE, TYPES, VALUE, Rows

_COLUMNS = (
    "timestamp_ns", "pv", "event", "severity", "status", "type", "count", "number", "has_number",
)  # fmt: skip
_STRING = TYPES.index("STRING")


class LastRows:
    """The last row of each of so many PVs, besides rows ``lost``."""

    def __init__(self, pvs: int) -> None:
        self._rows = Rows(pvs)  # the place of a row is that of its PV
        self._rows.event[:] = NONE

    def note(self, rows: Rows) -> None:
        """Note rows that are newer than those before."""
        places = np.flatnonzero(rows.event != LOST)
        pvs = rows.pv[places]
        for name in _COLUMNS:  # of several rows of a PV, numpy keeps the last one
            getattr(self._rows, name)[pvs] = getattr(rows, name)[places]
        for place, text in rows.texts.items():
            self._rows.texts[int(rows.pv[place])] = text
        for place, array in rows.arrays.items():
            self._rows.arrays[int(rows.pv[place])] = array

    def beginning(self, timestamp_ns: int) -> list[Rows]:
        """Return the rows with which a file begins: those that a new recording would have.

        They are the state of the connection of each PV, with this time, and then the value of each
        connected PV, with its own time stamp.
        """
        last = self._rows
        events = _selected(last, np.flatnonzero(last.event != NONE), ("pv", "event"))
        events.event[events.event == VALUE] = CONNECTED
        events.timestamp_ns[:] = timestamp_ns
        places = np.flatnonzero(last.event == VALUE)
        values = _selected(last, places, _COLUMNS)
        is_text = (last.count == NONE) & ~last.has_number | (last.type == _STRING)
        for number, place in enumerate(places.tolist()):
            # A PV that was of another type before has left a text or an array
            if is_text[place]:
                values.texts[number] = last.texts[place]
            elif not last.has_number[place]:
                values.arrays[number] = last.arrays[place]
        return [rows for rows in (events, values) if len(rows)]


def _selected(rows: Rows, places: Any, columns: tuple[str, ...]) -> Rows:
    selected = Rows(len(places))
    for name in columns:
        getattr(selected, name)[:] = getattr(rows, name)[places]
    return selected
