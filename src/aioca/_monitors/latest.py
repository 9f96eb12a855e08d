"""Policy ``latest``: only the latest update waits, and replaces the one before it.

The two threads share one dict, ``waiting``, and only use its atomic operations. An entry has three
states:

- There is no entry: nothing waits, and no ticket is needed.
- The entry is an update, a `CANothing` or a `Pair` of both: it waits, and a ticket is queued or is
  being served.
- The entry is `TICKET_USED`: nothing waits, and the next update must queue a ticket.

libca's thread takes the entry out, and then stores the new update. If there was an entry, its
ticket is still to come, so libca's thread queues none. The loop takes the entry out, too. If it
finds none, libca's thread may be between its two steps, and has seen the entry whose ticket the
loop is using now. So the loop stores `TICKET_USED`. libca's thread stores its update only where
there is no entry; if it finds `TICKET_USED` there, it replaces that and queues another ticket. So
the last update always arrives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from .._ca.callbacks import OnEvent, copied, memory
from .._ca.libca import ECA_NORMAL, SCALAR_SIZE
from .._errors import CANothing
from .policy import UPDATES_PER_CHECK, Policy, PooledCallback

if TYPE_CHECKING:
    from .._channels.context import LoopContext


class Pair(tuple[Any, Any]):
    """The latest update and the `CANothing` that follows it."""

    __slots__ = ()


TICKET_USED: Any = "the ticket was used"


class Latest(Policy):
    """Keeps the latest update of each key.

    Attributes:
        waiting: by key, the entry of a subscription, as described above.
        replaced: by key, the number of updates that were replaced. Has no entry for zero.
    """

    _spare: ClassVar[list[PooledCallback]] = []

    def __init__(self, context: LoopContext) -> None:
        self.waiting: dict[int, Any] = {}
        self.replaced: dict[int, int] = {}
        super().__init__(context)

    # -- On a thread of libca ----------------------------------------------------------------------

    @staticmethod
    def _make_callback() -> tuple[OnEvent, Callable[[Policy], None]]:
        portal: Any = None
        waiting: Any = {}
        replaced: Any = {}
        ignored_keys: Any = ()
        should_drop: Any = None
        seen = 0

        def on_event(
            _1: int, _2: int, _3: int, _4: int, _5: int, _6: int,
            key: int, _chid: int, dbr: int, count: int, start: int, status: int,
        ) -> None:  # fmt: skip
            nonlocal seen
            # The first branch copies one element, because nearly every update has one element.
            if status == ECA_NORMAL and count == 1 and start and key & 255 == dbr:
                raw: Any = memory[start : start + SCALAR_SIZE[dbr]]
            else:
                raw = copied(key & 255, dbr, count, start, status)
            if ignored_keys and should_drop(key):
                return
            before = waiting.pop(key, TICKET_USED)
            if before is not TICKET_USED and type(before) is not CANothing:
                replaced[key] = replaced.get(key, 0) + 1
            if waiting.setdefault(key, raw) is not raw:
                waiting[key] = raw
                before = TICKET_USED
            if before is TICKET_USED:
                portal.queue.extend((key, None))
                if not portal.awake:
                    portal.ensure_drain()
            seen += 1
            if not seen % UPDATES_PER_CHECK:
                portal.check_closed()

        def serve(policy: Any) -> None:
            nonlocal portal, waiting, replaced, ignored_keys, should_drop
            portal, waiting, replaced = policy.portal, policy.waiting, policy.replaced
            clear_queue = policy.clear_queue
            ignored_keys, should_drop = clear_queue.ignored_keys, clear_queue.should_drop

        return on_event, serve

    def add_disconnection(self, key: int, nothing: CANothing) -> None:
        before = self.waiting.pop(key, TICKET_USED)
        entry: Any = nothing
        if before is not TICKET_USED and type(before) is not CANothing:
            entry = Pair((before[0] if type(before) is Pair else before, nothing))
        if self.waiting.setdefault(key, entry) is not entry:
            self.waiting[key] = entry
            before = TICKET_USED
        if before is TICKET_USED:
            self.portal.put(key, None)
        if key not in self.portal.receivers:  # closed since; `forget` may have run already
            self.waiting.pop(key, None)

    # -- On the loop -------------------------------------------------------------------------------

    def take(self, key: int) -> Any:
        while (entry := self.waiting.pop(key, TICKET_USED)) is TICKET_USED:
            if self.waiting.setdefault(key, TICKET_USED) is TICKET_USED:
                return None
        if type(entry) is Pair:
            entry, nothing = entry
            # If libca's thread has a newer update there, the disconnection is over.
            if self.waiting.setdefault(key, nothing) is nothing:
                self.portal.put(key, None)
        return entry

    def dropped(self, key: int) -> int:
        return self.replaced.get(key, 0)

    def forget(self, key: int) -> int:
        self.waiting.pop(key, None)
        return self.replaced.pop(key, 0)

    def __len__(self) -> int:
        return len(self.waiting) + len(self.replaced)
