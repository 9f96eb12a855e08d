"""Detects the first update of a monitor that libca may drop because the array is too large.

Only a monitor whose updates may be too large (see `_ca.array_limit`) has a `FirstUpdate`. Until the
first update arrives, the `FirstUpdate` takes the place of the monitor in the portal's table of
receivers. So updates of all other monitors take no longer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._ca.tokens import Raw

if TYPE_CHECKING:
    from .monitor import Monitor


class FirstUpdate:
    """Passes the first update, or error, to the monitor, and calls ``came`` before."""

    def __init__(self, monitor: Monitor, came: Callable[[], object]) -> None:
        self._monitor = monitor
        self._came = came

    def receive(self, item: Any) -> None:
        """Put the monitor back into the table, and pass the update on. On the loop."""
        self._came()
        self._monitor.receive(item)

    def keep(self, raw: Raw) -> bool:
        """Pass an update to the monitor's store. On a thread of libca."""
        return self._monitor.keep(raw)
