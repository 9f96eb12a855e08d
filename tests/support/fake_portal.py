"""A portal that only collects what it is given."""

from __future__ import annotations

from collections import deque
from typing import Any


class FakePortal:
    """The part of a portal that libca's threads use.

    Attributes:
        queue, receivers, awake: as of `aioca._portal.interface.Portal`.
        wakes: how often a drain was requested.
        checks: how often it was asked whether the loop is closed.
    """

    def __init__(self) -> None:
        self.queue: deque[Any] = deque()
        self.receivers: dict[int | None, Any] = {}
        self.awake = False
        self.wakes = self.checks = 0

    def put(self, key: int | None, item: object) -> None:
        self.queue.extend((key, item))

    def ensure_drain(self) -> None:
        self.wakes += 1
        self.awake = True

    def check_closed(self) -> None:
        self.checks += 1

    def taken(self) -> list[tuple[Any, Any]]:
        """Take the pairs that are queued, as a drain does."""
        items = list(self.queue)
        self.queue.clear()
        self.awake = False
        return list(zip(items[::2], items[1::2], strict=True))
