"""A loop that only collects what it is given."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any


class FakeLoop:
    """The parts of a loop context that policies and the clear queue use.

    It is itself its portal and its clear queue.

    Attributes:
        queue, receivers, awake: as of `aioca._portal.queue.LoopQueue`.
        ignored_keys: as of `aioca._channels.clear_queue.ClearQueue`.
        jobs: the jobs that were posted.
        wakes: how often a drain was requested.
        checks: how often it was asked whether the loop is closed.
    """

    def __init__(self) -> None:
        self.portal = self.clear_queue = self
        self.queue: deque[Any] = deque()
        self.receivers: dict[int | None, Any] = {}
        self.ignored_keys: set[int] = set()
        self.jobs: deque[Callable[[], object]] = deque()
        self.awake = False
        self.wakes = self.checks = 0

    def post(self, job: Callable[[], object]) -> None:
        self.jobs.append(job)

    def put(self, key: int | None, item: object) -> None:
        self.queue.extend((key, item))

    def ensure_drain(self) -> None:
        self.wakes += 1
        self.awake = True

    def check_closed(self) -> None:
        self.checks += 1

    def should_drop(self, key: int) -> bool:
        return key in self.ignored_keys

    def taken(self) -> list[tuple[Any, Any]]:
        """Take the pairs that are queued, as a drain does."""
        items = [self.queue.popleft() for _ in range(2 * (len(self.queue) // 2))]
        self.awake = False
        return list(zip(items[::2], items[1::2], strict=True))
