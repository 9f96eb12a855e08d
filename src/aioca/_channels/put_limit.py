"""Limits the number of put-callbacks that are under way.

An IOC queues at most 2,000 completions of put-callbacks (its callbackSetQueueSize). It drops any
further completion and does not report this, so the client waits until its time-out. A C program
that sends 10,000 put-callbacks at once loses completions in about one of fifty runs. So aioca sends
a list in parts, and the next part waits while the server completes the part before.

Invariant: each counter has one writer, ``begun`` the loop and ``completed`` libca's threads.
"""

from __future__ import annotations

from .._portal.interface import Portal

# Put-callbacks under way: half of an IOC's queue, because the IOC may have other clients.
MAX_PUT_CALLBACKS = 1000
# If no put completes for this long, the records are slow, not the server overloaded: send the next
# part anyway.
_STANDSTILL_SECONDS = 0.02
# Between two checks of the counters
_POLL_SECONDS = 0.001


class PutCallbackLimit:
    """Counts the put-callbacks of one loop that are under way."""

    def __init__(self) -> None:
        # Counted on the loop, without the put-callbacks whose completion will never be reported
        self.begun = 0
        self.completed = 0  # counted on libca's threads

    def __repr__(self) -> str:
        return f"<PutCallbackLimit {self.under_way()} under way>"

    def under_way(self) -> int:
        """Return the number of put-callbacks that are under way. On any thread."""
        return self.begun - self.completed

    def has_room(self, count: int) -> bool:
        """Whether ``count`` more put-callbacks can be sent without the server losing any."""
        return self.under_way() + count <= MAX_PUT_CALLBACKS

    async def room(self, count: int, portal: Portal, deadline: float) -> None:
        """Wait until there is room for ``count`` more put-callbacks. On the loop.

        Returns also at the deadline, or when no put has completed for a while.

        This polls, because a wake would cost the completion of every put a test on libca's thread.
        Only puts beyond `MAX_PUT_CALLBACKS` wait here, and to notice a standstill takes a clock in
        any case.
        """
        completed, since = self.completed, portal.now()
        while not self.has_room(count) and portal.now() < deadline:
            await portal.waiter().wait(portal.now() + _POLL_SECONDS)
            if self.completed != completed:
                completed, since = self.completed, portal.now()
            elif portal.now() > since + _STANDSTILL_SECONDS:
                return
