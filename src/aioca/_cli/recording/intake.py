"""The updates that wait to be written. All of it runs on the event loop's thread.

An update waits as the value that came, until `collect` makes rows of all of them. Rows are compact,
and wait until the file takes them. So the callback of an update only appends it to a list.

Invariant: at most `MAX_UPDATES` updates and about `MAX_BYTES` bytes of arrays wait as rows, besides
what came since the last `collect`. Updates for which there is no room are lost. They are counted,
and each PV gets a row ``lost``.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ... import CANothing
from .decoder import RowDecoder
from .last import LastRows
from .rows import Event, Rows

MAX_UPDATES = 1_000_000
MAX_BYTES = 512 * 2**20


class Intake:
    """Collects updates and events, until `drain` takes them.

    Attributes:
        take: a callback of camonitor, for a list of PVs and ``notify_disconnect``: takes an update,
            or the `CANothing` of a disconnection.
        connected: for each PV, whether it is connected.
        seen: for each PV, whether it was ever connected.
        updates, lost, disconnections: how many there have been, at the last `collect`.

    With ``keep_last``, `beginning` returns the rows with which another file begins.
    """

    def __init__(self, names: Sequence[str], keep_last: bool = False) -> None:
        self._decoder = RowDecoder(names)
        self._items: list[Any] = []
        self._rows: list[Rows] = []
        self._waiting = self._bytes = 0  # updates in `_rows`, and bytes of their arrays
        self._lost_now: Counter[int] = Counter()
        self._last = LastRows(len(names)) if keep_last else None
        self._drained_ns = 0
        self.connected = [False] * len(names)
        self.seen = [False] * len(names)
        self.updates = self.lost = self.disconnections = 0
        self.take = self._make_take()

    def _make_take(self) -> Callable[[Any, int], None]:
        # A closure over the list: nearly all calls take the first branch
        append, connected, other = self._items.append, self.connected, self._take_other

        def take(value: Any, index: int) -> None:
            if connected[index] and type(value) is not CANothing:
                append(value)
            else:
                other(value, index)

        return take

    def _take_other(self, value: Any, index: int) -> None:
        """Take the first update of a connection, or a disconnection."""
        if value.ok:
            self.connected[index] = self.seen[index] = True
            self._items += [Event(index, time.time_ns(), "connected"), value]
        else:  # it was disconnected, or not found in time after the start
            self.disconnections += self.connected[index]
            self.connected[index] = False
            self._items.append(Event(index, time.time_ns(), "disconnected"))

    def collect(self) -> None:
        """Make rows of what has come since the last call."""
        items = self._items
        kept: Sequence[Any] = items
        if len(items) > MAX_UPDATES - self._waiting or self._bytes >= MAX_BYTES:
            kept = self._without_lost(items)
        self._add(kept)
        items.clear()  # not another list: `take` appends to this one

    def _without_lost(self, items: Sequence[Any]) -> list[Any]:
        """Return the events and the updates for which there is room; count the others."""
        room = 0 if self._bytes >= MAX_BYTES else max(0, MAX_UPDATES - self._waiting)
        kept: list[Any] = []
        for item in items:
            if type(item) is Event:
                kept.append(item)
            elif room:
                room -= 1
                kept.append(item)
            else:
                self.lost += 1
                self._lost_now[self._decoder.place_of(item)] += 1
        return kept

    def _add(self, items: Sequence[Any]) -> None:
        if items:
            rows = self._decoder.rows(items)
            self._rows.append(rows)
            updates = len(rows) - int(np.count_nonzero(rows.event))
            self.updates += updates
            self._waiting += updates
            self._bytes += rows.array_bytes

    def drain(self) -> list[Rows]:
        """Return the rows since the last call, with one for each PV that lost updates."""
        now = time.time_ns()
        self._add([Event(index, now, "lost", lost) for index, lost in self._lost_now.items()])
        rows, self._rows = self._rows, []
        self._waiting = self._bytes = 0
        self._lost_now = Counter()
        if self._last is not None:
            self._drained_ns = now
            for some in rows:
                self._last.note(some)
        return rows

    def beginning(self) -> list[Rows]:
        """Return the state of all PVs at the last `drain`, as rows."""
        assert self._last is not None
        return self._last.beginning(self._drained_ns)
