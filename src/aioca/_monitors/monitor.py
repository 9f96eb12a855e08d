"""Monitors: what the updates of a subscription become, before they are delivered.

Invariant: waiting updates are kept as bytes and decoded when they are delivered, so a dropped
update is never decoded. The policy of the monitor determines how they wait.
"""

from __future__ import annotations

import logging
from typing import Any

from .._ca import libca
from .._channels import explain
from .._errors import Failure, error_for
from .._values.classes import Reader
from .._values.decode import why_unreadable
from . import first_update
from .nothing import NOTHING
from .subscription import ChannelSubscription

logger = logging.getLogger("aioca")


class Monitor(ChannelSubscription):
    """A subscription whose values and errors are delivered, in a way that subclasses define.

    Everything here runs on the loop's thread.
    """

    __slots__ = ()

    @property
    def limit(self) -> int:
        """The largest number of waiting updates that are kept; 0 means all."""
        return self._options.limit

    @property
    def dropped(self) -> int:
        """The number of updates dropped because newer ones came before they were delivered."""
        return self._dropped + self._policy.dropped(self._key)

    def take(self) -> Any:
        """Remove and return the oldest waiting value, or NOTHING."""
        while True:
            item = self._pending.popleft() if self._pending else self._policy.take(self._key)
            if item is None:
                return NOTHING
            value = self.value_of(item, self._reader)
            if value is not NOTHING:
                return value

    def value_of(self, item: Any, reader: Reader | None) -> Any:
        """Decode an item with ``reader``; NOTHING if it cannot be decoded and was logged."""
        if type(item) is bytes or type(item) is bytearray:
            try:
                return reader.decode(item)  # type: ignore[union-attr]
            except Exception as error:  # a server may send anything
                status, why = why_unreadable(error)
                return self.failed(status, f"monitoring: {why}")
        if type(item) is int:
            return self.failed(item, explain.status("monitoring", item))
        return item

    def failed(self, status: int, detail: str) -> Any:
        """Return an error to deliver, with ``notify_disconnect``; else log it, return NOTHING."""
        failure = Failure(self.name, status, detail)
        if self._options.notify_disconnect:
            return failure.nothing()
        self.context.message_log.record(logging.WARNING, str(error_for([failure])))
        return NOTHING

    def why_no_update(self) -> str:
        """Explain why no update has come so far."""
        channel = self._channel
        if channel is None:
            return "waiting for a value: the monitor has not started"
        if not channel.connected or self._reader is None:
            return channel.why_not_connected()
        detail = "waiting for a value: connected, but no update has come"
        dropped = first_update.why_dropped(self, self._reader)
        return f"{detail}; libca may have dropped it: {dropped}" if dropped else detail

    def connect_timed_out(self) -> None:
        # Behind queued jobs: the channel may have connected in time while the loop was busy.
        self.context.portal.post(self._tell_timeout)

    def _tell_timeout(self) -> None:
        cancel, self._cancel_timer = self._cancel_timer, None
        if cancel is not None and not self.closed:
            assert self._channel is not None
            detail = f"{self._channel.why_not_connected()}; the monitor is still waiting"
            self.receive(Failure(self.name, libca.ECA_TIMEOUT, detail).nothing())
