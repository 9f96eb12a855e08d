"""Makes a server send the updates that it holds after a subscription was cancelled.

An IOC buffers updates for a client and sends them when it has queued no more for this client. If
the last queued update is removed, because its subscription is cancelled at that moment, the IOC
does not send the others (EPICS base issue 324; still present in 7.0.10). It holds them until it
sends something else to this client: another update, a reply, or the answer to the echo that libca
requests after 30 s without data.

So a read is sent on the circuit of each cancelled subscription, shortly after the cancellation.

Invariants: everything here runs on the loop's thread. A circuit gets at most one read for all
cancellations of the same interval.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .channel import Channel

# The read is sent at least this long after the cancellation, and at most twice this long. By then
# the server has queued the updates of that time.
_READ_DELAY_SECONDS = 0.05


class HeldUpdates:
    """The circuits of one loop on which subscriptions were cancelled."""

    def __init__(
        self,
        after: Callable[[float, Callable[[], object]], Callable[[], None]],
        flush: Callable[[], None],
    ) -> None:
        self._after = after
        self._flush = flush
        self._recent: dict[Channel, None] = {}  # cancellations since the last run of the timer
        self._older: dict[Channel, None] = {}  # cancellations of the interval before
        self._cancel_timer: Callable[[], None] | None = None
        self._over = False

    def note_cancelled(self, channel: Channel) -> None:
        """Note that a subscription on this channel's circuit was cancelled. Does not wait."""
        if self._over:
            return
        self._recent[channel] = None
        if self._cancel_timer is None:
            self._cancel_timer = self._after(_READ_DELAY_SECONDS, self._look)

    def _look(self) -> None:
        """Send a read on each circuit whose cancellations are old enough; timer of the portal."""
        due, self._older, self._recent = self._older, self._recent, {}
        self._cancel_timer = self._after(_READ_DELAY_SECONDS, self._look) if self._older else None
        asked: set[tuple[str, int]] = set()
        for channel in due:
            circuit = channel.circuit() if channel.connected else None
            if circuit is None or circuit in asked:
                continue
            if channel.request_confirmation() is not None:
                asked.add(circuit)
        if asked:
            self._flush()

    def end(self) -> None:
        """Send no more reads, because the run of the loop is over. Idempotent."""
        self._over = True
        if self._cancel_timer is not None:
            self._cancel_timer()
            self._cancel_timer = None
        self._recent.clear()
        self._older.clear()
