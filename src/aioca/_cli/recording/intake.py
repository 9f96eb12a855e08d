"""The updates that wait to be written. All of it runs on the event loop's thread.

Invariant: at most `MAX_UPDATES` updates and about `MAX_BYTES` bytes of arrays wait. Updates that
come while there is no room are lost. They are counted, and each PV gets a row ``lost``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ...types import ca_array
from .rows import Event

MAX_UPDATES = 1_000_000
MAX_BYTES = 512 * 2**20


class Intake:
    """Collects updates and events, until `drain` takes them.

    Attributes:
        connected: for each PV, whether it is connected.
        seen: for each PV, whether it was ever connected.
        updates, lost, disconnections: how many there have been.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._items: list[Any] = []
        self._bytes = 0
        self._lost_now: dict[int, int] = {}
        self.connected = [False] * len(names)
        self.seen = [False] * len(names)
        self.updates = self.lost = self.disconnections = 0

    def take(self, value: Any, index: int) -> None:
        """Take an update, or the `CANothing` of a disconnection; a callback of camonitor."""
        if not value.ok:
            self._disconnect(index)
            return
        if not self.connected[index]:
            self.connected[index] = self.seen[index] = True
            self._add_event(index, "connected")
        if len(self._items) >= MAX_UPDATES or self._bytes >= MAX_BYTES:
            self.lost += 1
            self._lost_now[index] = self._lost_now.get(index, 0) + 1
            return
        self.updates += 1
        self._items.append(value)
        if isinstance(value, ca_array):
            self._bytes += value.nbytes

    def _disconnect(self, index: int) -> None:
        """Note a disconnection, or that the PV was not found in time after the start."""
        self.disconnections += self.connected[index]
        self.connected[index] = False
        self._add_event(index, "disconnected")

    def _add_event(self, index: int, event: str, lost: int | None = None) -> None:
        self._items.append(Event(self._names[index], time.time_ns(), event, lost))

    def drain(self) -> list[Any]:
        """Return what has come since the last call, and a row for each PV that lost updates."""
        for index, count in self._lost_now.items():
            self._add_event(index, "lost", count)
        items, self._items = self._items, []
        self._lost_now = {}
        self._bytes = 0
        return items
