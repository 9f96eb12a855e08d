"""What a live table shows, and when.

- The table changes at most every `_SHOW_SECONDS`, whatever the rate of the updates, and a row is
  made only for a value that is shown.
- Every `_LOOK_SECONDS` the view checks the connections: a monitor without ``notify_disconnect``
  delivers nothing when a PV is lost, and the last value must not look like the present one.
- A view belongs to the thread that iterates.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any

from .._display.rows import NOT_CONNECTED, Row, lost, row_of
from .._values.dbr import FORMAT_CTRL
from ._table import Table

_SHOW_SECONDS = 0.2  # people do not read faster
_FIRST_LOOK_SECONDS = 0.2  # most PVs have their first value by then
_LOOK_SECONDS = 1.0


class View:
    """The live table of some subscriptions.

    Attributes:
        ends: when the iteration has to end (time.monotonic).
        wanted: PVs whose units, precision and labels are not known, and have not been asked for.
    """

    def __init__(self, subscriptions: Sequence[Any], seconds: float) -> None:
        # Imported already: a kernel runs this. Type checkers know only a part of its types.
        display: Any = import_module("IPython.display").display
        now = time.monotonic()
        self.ends: float = now + seconds
        self.wanted: list[str] = []
        self._subscriptions = {subscription.name: subscription for subscription in subscriptions}
        self._rows = {
            name: Row(name, severity=NOT_CONNECTED, alarm="searching")
            for name in self._subscriptions
        }
        self._values: dict[str, Row] = {}  # the last row with a value
        self._latest: dict[str, Any] = {}
        self._properties: dict[str, Any] = {}
        self._stale: set[str] = set()  # whose row is not that of the latest value
        self._changed = False  # whether the table is not what is shown
        self._count = 0
        self._show_at = now
        self._look_at = now + _FIRST_LOOK_SECONDS
        self._handle: Any = display(self._table("live"), display_id=True)

    def wake_at(self) -> float:
        """Return when `refresh` has something to do next (time.monotonic)."""
        show_at = self._show_at if self._stale or self._changed else math.inf
        return min(self.ends, self._look_at, show_at)

    def note(self, value: Any) -> None:
        """Note an update."""
        self._count += 1
        self._latest[value.name] = value
        self._stale.add(value.name)

    def learn(self, properties: Iterable[Any]) -> None:
        """Note values with FORMAT_CTRL of the PVs that were wanted."""
        self.wanted = []
        for value in properties:
            self._properties[value.name] = value if value.ok else None
            if value.ok:
                self._stale.add(value.name)

    def refresh(self) -> None:
        """Look at the connections, and show what has changed, if it is time for it."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            self._look()
        if (self._stale or self._changed) and now >= self._show_at:
            self._show_at = now + _SHOW_SECONDS
            self._handle.update(self._table("live"))

    def end(self) -> None:
        """Show the last values, and that no more come."""
        self._handle.update(self._table(f"ended at {time.strftime('%H:%M:%S')}"))

    def _look(self) -> None:
        for name, subscription in self._subscriptions.items():
            if name not in self._latest:
                continue
            monitor = subscription._monitor
            channel = monitor._channel
            if channel is None or not channel.connected:
                self._properties.pop(name, None)  # they may be others when it is back
                self._make_row(name)
                if self._rows[name].severity != NOT_CONNECTED:
                    self._rows[name] = lost(self._rows[name])
                    self._changed = True
            elif monitor._options.format != FORMAT_CTRL and name not in self._properties:
                self.wanted.append(name)

    def _make_row(self, name: str) -> None:
        if name in self._stale:
            self._stale.discard(name)
            row = row_of(self._latest[name], self._properties.get(name))
            if row.severity != NOT_CONNECTED:
                self._values[name] = row
            elif name in self._values:
                row = lost(self._values[name], row.alarm)
            self._rows[name] = row
            self._changed = True

    def _table(self, state: str) -> Table:
        for name in list(self._stale):
            self._make_row(name)
        self._changed = False
        return Table(list(self._rows.values()), f"{state}: {self._count:,} updates")
