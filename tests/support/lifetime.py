"""What the tests of the owners of monitors share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import anyio.lowlevel

from aioca import camonitor, caput, get_channel_infos

OpenGroup = Callable[[], AbstractAsyncContextManager[Any]]
OF_A_GROUP = "TaskGroup|nursery"  # the message of an exception group names its origin


class Seen:
    """Counts updates, and has an event for the first one."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.first = anyio.Event()

    def __call__(self, value: Any) -> None:
        self.values.append(value)
        self.first.set()


class Hanging:
    """An async callback that ends only by cancellation."""

    def __init__(self) -> None:
        self.entered = anyio.Event()
        self.cancelled = 0
        self.calls = 0

    async def __call__(self, value: Any) -> None:
        self.calls += 1
        self.entered.set()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise


def leaves(error: BaseException) -> list[BaseException]:
    """The exceptions in a group, at any depth."""
    inner = getattr(error, "exceptions", None)
    if inner is None:
        return [error]
    return [leaf for each in inner for leaf in leaves(each)]


async def updated(pv: str, value: float) -> None:
    """Put a value, and wait until this client has received the update."""
    await caput(pv, value, wait=True)
    with anyio.fail_after(5):
        async with camonitor(pv) as updates:
            await anext(updates)


def subscribers() -> int:
    return sum(info.subscriber_count for info in get_channel_infos())
