"""How many put-callbacks may be under way.

An IOC queues no more than 2,000 ends of put-callbacks (its callbackSetQueueSize); those beyond are
lost without a word to the client, which then waits in vain. A C program that sends 10,000 at once
sees it about once in fifty times. So a list is sent in parts, and the next part waits while the
server is busy to end those before.
"""

from __future__ import annotations

from .._portal.interface import Portal

# Half of the queue of an IOC, which may have other clients.
UNDER_WAY = 1000
# Seconds without any end after which the server is not busy to end them: they take long.
_STANDSTILL = 0.02


class PutCallbackLimit:
    """The put-callbacks of one loop that are under way."""

    def __init__(self) -> None:
        self.begun = 0  # counted on the loop, less those that will never end
        self.completed = 0  # counted on libca's threads

    def under_way(self) -> int:
        return self.begun - self.completed

    def has_room(self, count: int) -> bool:
        """Whether ``count`` more can be sent without the server losing any."""
        return self.under_way() + count <= UNDER_WAY

    async def room(self, count: int, portal: Portal, deadline: float) -> None:
        """Wait until there is room for ``count`` more."""
        completed, since = self.completed, portal.now()
        while not self.has_room(count) and portal.now() < deadline:
            await portal.waiter().wait(portal.now() + 0.001)
            if self.completed != completed:
                completed, since = self.completed, portal.now()
            elif portal.now() > since + _STANDSTILL:
                return
