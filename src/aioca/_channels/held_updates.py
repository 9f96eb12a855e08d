"""Updates that a server holds back, and how it is made to send them.

An IOC collects updates for a client and sends them when no more are queued for it. If what was
queued last is taken away, because its subscription is cancelled just then, nothing has the others
sent (EPICS base issue 324; in 7.0.10 still). They wait for anything else that goes to this client:
another update, any reply, or the answer to libca, which asks when it has heard nothing for 30 s.

So, a little after a subscription was cancelled, the circuit that it was on is asked for something.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .channel import Channel

# Seconds after a cancel, at least; twice that at most. The server has queued what there was then.
_WAIT = 0.05


class HeldUpdates:
    """The circuits of one loop on which something was cancelled."""

    def __init__(
        self,
        after: Callable[[float, Callable[[], object]], Callable[[], None]],
        flush: Callable[[], None],
    ) -> None:
        self._after = after
        self._flush = flush
        self._recent: dict[Channel, None] = {}  # since the last look
        self._older: dict[Channel, None] = {}  # before it
        self._cancel_timer: Callable[[], None] | None = None
        self._over = False

    def note_cancelled(self, channel: Channel) -> None:
        """A subscription is no more that was on the circuit of this channel."""
        if self._over:
            return
        self._recent[channel] = None
        if self._cancel_timer is None:
            self._cancel_timer = self._after(_WAIT, self._look)

    def _look(self) -> None:
        due, self._older, self._recent = self._older, self._recent, {}
        self._cancel_timer = self._after(_WAIT, self._look) if self._older else None
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
        """Ask no more: the run of the loop is over."""
        self._over = True
        if self._cancel_timer is not None:
            self._cancel_timer()
            self._cancel_timer = None
        self._recent.clear()
        self._older.clear()
