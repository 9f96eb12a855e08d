"""The policies: how the updates of a subscription wait for the event loop.

There is one module for each policy. It contains both halves: the function that libca calls on its
own thread for each update, and the methods with which the loop takes the updates.

- `every`: each update goes into the queue of the loop.
- `latest`: only the latest update waits.
- `newest`: the newest n updates wait.

The functions on libca's threads are the only code in which each Python instruction counts. They do
not use the monitor: the key that libca passes back is sufficient. Its lowest byte is the DBR type
that was requested. Each of them is a closure, because access to closure variables is fastest, and
their common code is repeated in each, because a call takes time, too. Trick ``copy_inline`` of the
benchmark: row monitor_10k. Trick ``closures``: row monitor_10k.

Invariants:

- A key is never used again, so a late update finds no receiver.
- The updates of one key arrive on one thread at a time: that of its circuit.
- An item of the queue that is None is a ticket: the receiver then takes a waiting update, if there
  is one. While an update waits, at least one ticket for it is queued or being served.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from .._ca.callbacks import OnEvent, event_trampoline

if TYPE_CHECKING:
    from .._ca.libca import Trampoline
    from .._channels.context import LoopContext
    from .._errors import CANothing

# After this many updates (policy `every`: halves of queued pairs) libca's thread checks whether the
# loop is closed. A power of two.
UPDATES_PER_CHECK = 64

_keys = itertools.count(1)


def new_key(dbr: int) -> int:
    """Return a new key for a subscription that requests this DBR type. On any thread."""
    return next(_keys) << 8 | dbr


class Policy(ABC):
    """One policy of one event loop.

    Attributes:
        trampoline: the C callback for the subscriptions with this policy.
    """

    # C callbacks that no loop uses: they are never freed, because libca may still call them
    _spare: ClassVar[list[PooledCallback]]

    def __init__(self, context: LoopContext) -> None:
        self.portal = context.portal
        self.clear_queue = context.clear_queue
        try:
            self._callback = self._spare.pop()
        except IndexError:
            self._callback = PooledCallback(self._make_callback)
        self._callback.serve(self)
        self.trampoline: Trampoline = self._callback.trampoline

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self)} keys>"

    def close(self) -> None:
        """Release the C callback for other loops: libca makes no more calls for this loop."""
        self._spare.append(self._callback)

    @staticmethod
    @abstractmethod
    def _make_callback() -> tuple[OnEvent, Callable[[Any], None]]:
        """Make the function that libca calls, and one that binds it to a policy object."""

    def open(self, key: int, limit: int) -> None:  # noqa: B027
        """Prepare for the updates of a new key, of which ``limit`` may wait. On the loop."""

    @abstractmethod
    def take(self, key: int) -> Any:
        """Take the oldest waiting item of this key; None if there is none. On the loop."""

    @abstractmethod
    def add_disconnection(self, key: int, nothing: CANothing) -> None:
        """Queue a disconnection behind the waiting updates. On the thread of the updates."""

    @abstractmethod
    def dropped(self, key: int) -> int:
        """The number of updates of this key that were dropped for newer ones. On the loop."""

    @abstractmethod
    def forget(self, key: int) -> int:
        """Remove a key for which libca makes no more callbacks. On the loop.

        Returns:
            The number of updates that were dropped.
        """

    @abstractmethod
    def __len__(self) -> int:
        """The number of keys for which something is stored: 0 when all are forgotten."""


class PooledCallback:
    """A C callback and its Python function, which can serve one loop after another.

    Trick ``pooled_callbacks`` of the benchmark: row loops, memory that each run of a loop leaves.
    """

    def __init__(self, make: Callable[[], tuple[OnEvent, Callable[[Policy], None]]]) -> None:
        on_event, self.serve = make()
        self.trampoline: Trampoline = event_trampoline(on_event)

    def __repr__(self) -> str:
        return f"<PooledCallback {self.trampoline!r}>"
