"""The receiver of a retired key, with which libca's thread may still have queued something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._values.classes import Reader
from .nothing import NOTHING

if TYPE_CHECKING:
    from .subscription import ChannelSubscription


class EarlierKey:
    """Passes on what was queued with a retired key. All on the loop."""

    def __init__(self, monitor: ChannelSubscription, key: int, reader: Reader | None) -> None:
        self._monitor = monitor
        self._key = key
        self._reader = reader

    def __repr__(self) -> str:
        return f"<EarlierKey {self._key} of {self._monitor!r}>"

    def receive(self, item: Any) -> None:
        """Pass an update on as a value; or a disconnection that libca's thread has queued late."""
        monitor = self._monitor
        if monitor.closed:
            return
        if item is None:
            item = monitor._policy.take(self._key)
        value = monitor.value_of(item, self._reader)
        if value is not NOTHING:
            if value is not None and monitor._pending:  # behind the values that wait there
                monitor._pending.append(value)
                value = None
            monitor.receive(value)
