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

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .._ca import libca
from .._ca.callbacks import reply_trampoline
from .private import close_if_private

if TYPE_CHECKING:
    from .channel import Channel

# The read is sent at least this long after the cancellation, and at most twice this long. By then
# the server has queued the updates of that time.
_READ_DELAY_SECONDS = 0.05

_NO_TOKEN = libca.Usr(0)  # no owner has this token, so the reply is not copied


class HeldUpdates:
    """The circuits of one loop on which subscriptions were cancelled."""

    def __init__(
        self,
        after: Callable[[float, Callable[[], object]], Callable[[], None]],
        flush: Callable[[], None],
    ) -> None:
        self._after = after
        self._flush = flush
        self._cancelled: dict[Channel, float] = {}  # the time of the last cancellation
        self._cancel_timer: Callable[[], None] | None = None
        self._over = False

    def __repr__(self) -> str:
        return f"<HeldUpdates {len(self._cancelled)} cancelled>"

    def note_cancelled(self, channel: Channel) -> None:
        """Note that a subscription on this channel's circuit was cancelled. Does not wait."""
        if self._over:
            return
        self._cancelled[channel] = time.monotonic()
        if self._cancel_timer is None:
            self._cancel_timer = self._after(_READ_DELAY_SECONDS, self._due)

    def _due(self) -> None:
        """Send the reads for the cancellations that are old enough; timer of the portal."""
        latest = time.monotonic() - _READ_DELAY_SECONDS
        due: list[Channel] = []
        for channel, cancelled in tuple(self._cancelled.items()):
            if cancelled <= latest:
                due.append(channel)
                del self._cancelled[channel]
        self._cancel_timer = None
        if self._cancelled:
            self._cancel_timer = self._after(_READ_DELAY_SECONDS, self._due)
        libca.unblocked(self._send_reads, due)
        for channel in due:
            close_if_private(channel)

    def _send_reads(self, channels: list[Channel]) -> None:
        """Send a read on each circuit of these channels."""
        sent: set[tuple[str, int]] = set()
        for channel in channels:
            circuit = channel.circuit()
            if circuit is not None and circuit not in sent:
                status = libca.get_callback(
                    libca.C_DBR[channel.native_type], libca.ONE, libca.Chid(channel.chid),
                    reply_trampoline, _NO_TOKEN,
                )  # fmt: skip
                if status == libca.ECA_NORMAL:  # else another channel may be readable
                    sent.add(circuit)
        if sent:
            self._flush()

    def close(self) -> None:
        """Send no more reads, because the run of the loop is over. Idempotent."""
        self._over = True
        if self._cancel_timer is not None:
            self._cancel_timer()
            self._cancel_timer = None
        self._cancelled.clear()
