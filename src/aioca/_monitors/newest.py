"""Policy ``newest``: the newest n updates wait, and each newer one drops the oldest.

The two threads share one deque for each key, whose ``maxlen`` is n. A ticket is queued for each
update that waits:

- libca's thread adds an update, and queues a ticket unless the deque was full before.
- The loop takes an update for a ticket. If the deque was full, libca's thread may have seen that
  and queued no ticket, while the update of this ticket made room: so the loop queues another one.
  It may be one too many, for which no update is left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from .._ca.callbacks import OnEvent, copied
from .._errors import CANothing
from .policy import UPDATES_PER_CHECK, Policy, PooledCallback

if TYPE_CHECKING:
    from .._channels.context import LoopContext


class Newest(Policy):
    """Keeps the newest updates of each key, for n of 2 or more.

    Attributes:
        waiting: by key, the updates that wait, the oldest first, and disconnections among them.
        counts: by key, the numbers of updates that have arrived and that the loop has taken. The
            first has one writer, libca's thread; the second the loop.
    """

    _spare: ClassVar[list[PooledCallback]] = []

    def __init__(self, context: LoopContext) -> None:
        self.waiting: dict[int, deque[Any]] = {}
        self.counts: dict[int, list[int]] = {}
        super().__init__(context)

    # -- On a thread of libca ----------------------------------------------------------------------

    @staticmethod
    def _make_callback() -> tuple[OnEvent, Callable[[Policy], None]]:
        portal: Any = None
        waiting: Any = {}
        counts: Any = {}
        ignored_keys: Any = ()
        should_drop: Any = None
        seen = 0

        def on_event(
            _1: int, _2: int, _3: int, _4: int, _5: int, _6: int,
            key: int, _chid: int, dbr: int, count: int, start: int, status: int,
        ) -> None:  # fmt: skip
            nonlocal seen
            if ignored_keys and should_drop(key):
                return
            updates = waiting.get(key)
            count_of = counts.get(key)
            if updates is None or count_of is None:  # closed
                return
            count_of[0] += 1
            was_full = len(updates) == updates.maxlen
            updates.append(copied(key & 255, dbr, count, start, status))
            if not was_full:
                portal.put(key, None)
            seen += 1
            if not seen % UPDATES_PER_CHECK:
                portal.check_closed()

        def serve(policy: Any) -> None:
            nonlocal portal, waiting, counts, ignored_keys, should_drop
            portal, waiting, counts = policy.portal, policy.waiting, policy.counts
            clear_queue = policy.clear_queue
            ignored_keys, should_drop = clear_queue.ignored_keys, clear_queue.should_drop

        return on_event, serve

    def add_disconnection(self, key: int, nothing: CANothing) -> None:
        updates = self.waiting.get(key)
        if updates is not None:
            was_full = len(updates) == updates.maxlen
            updates.append(nothing)
            if not was_full:
                self.portal.put(key, None)

    # -- On the loop -------------------------------------------------------------------------------

    def open(self, key: int, limit: int) -> None:
        self.counts[key] = [0, 0]
        self.waiting[key] = deque(maxlen=limit)

    def take(self, key: int) -> Any:
        updates = self.waiting.get(key)
        if not updates:
            return None
        item = updates.popleft()  # not empty: only the loop takes updates out
        if len(updates) + 1 >= updates.maxlen:  # type: ignore[operator]
            self.portal.put(key, None)
        if type(item) is not CANothing:
            self.counts[key][1] += 1
        return item

    def dropped(self, key: int) -> int:
        updates = self.waiting.get(key)
        if updates is None:
            return 0
        arrived, taken = self.counts[key]
        waiting = sum(type(item) is not CANothing for item in updates.copy())
        return max(0, arrived - taken - waiting)

    def forget(self, key: int) -> int:
        dropped = self.dropped(key)
        self.waiting.pop(key, None)
        self.counts.pop(key, None)
        return dropped

    def __len__(self) -> int:
        return len(self.waiting) + len(self.counts)
