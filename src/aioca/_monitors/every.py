"""Policy ``every``: each update goes into the queue of the loop, as the item of its key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from .._ca.callbacks import OnEvent, copied, memory
from .._ca.libca import ECA_NORMAL, SCALAR_SIZE
from .._errors import CANothing
from .policy import UPDATES_PER_CHECK, Policy, PooledCallback


class Every(Policy):
    """Keeps every update: they wait in the queue of the loop, so nothing is stored here."""

    _spare: ClassVar[list[PooledCallback]] = []

    # -- On a thread of libca ----------------------------------------------------------------------

    @staticmethod
    def _make_callback() -> tuple[OnEvent, Callable[[Policy], None]]:
        portal: Any = None
        queue: Any = ()
        extend: Any = None
        ignored_keys: Any = ()
        should_drop: Any = None

        def on_event(
            _1: int, _2: int, _3: int, _4: int, _5: int, _6: int,
            key: int, _chid: int, dbr: int, count: int, start: int, status: int,
        ) -> None:  # fmt: skip
            # The first branch copies one element, because nearly every update has one element.
            if status == ECA_NORMAL and count == 1 and start and key & 255 == dbr:
                raw: Any = memory[start : start + SCALAR_SIZE[dbr]]
            else:
                raw = copied(key & 255, dbr, count, start, status)
            if ignored_keys and should_drop(key):
                return
            extend((key, raw))
            if not portal.awake:
                portal.ensure_drain()
            elif not len(queue) % UPDATES_PER_CHECK:
                portal.check_closed()

        def serve(policy: Policy) -> None:
            nonlocal portal, queue, extend, ignored_keys, should_drop
            portal = policy.portal
            queue, extend = portal.queue, portal.queue.extend
            clear_queue = policy.clear_queue
            ignored_keys, should_drop = clear_queue.ignored_keys, clear_queue.should_drop

        return on_event, serve

    def add_disconnection(self, key: int, nothing: CANothing) -> None:
        self.portal.put(key, nothing)

    # -- On the loop -------------------------------------------------------------------------------

    def take(self, key: int) -> Any:
        return None

    def dropped(self, key: int) -> int:
        return 0

    def forget(self, key: int) -> int:
        return 0

    def __len__(self) -> int:
        return 0
