"""A monitor that waits for its first update, which libca may drop because it is too large.

Only monitors for which that can be (see `_array_limit`) have one: it stands in the portal's table
in the place of the monitor, so that no update of any other monitor takes longer for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from .._ca.tokens import Raw


class Monitor(Protocol):
    """Who is to have the updates."""

    def receive(self, item: Any) -> None: ...
    def keep(self, raw: Raw) -> bool: ...


class FirstUpdate:
    """Receives the first update, or what comes in its place, and makes room for the monitor."""

    def __init__(self, monitor: Monitor, came: Callable[[], object]) -> None:
        self._monitor = monitor
        self._came = came

    def receive(self, item: Any) -> None:
        self._came()
        self._monitor.receive(item)

    def keep(self, raw: Raw) -> bool:
        """On a thread of libca."""
        return self._monitor.keep(raw)
