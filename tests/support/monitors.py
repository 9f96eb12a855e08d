"""What the tests of monitors share."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import anyio.lowlevel

from aioca import camonitor, caput

ECA_TIMEOUT = 80


class Received:
    """A callback that stores its values; a test can wait for them."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._event = anyio.Event()

    def __call__(self, value: Any, *index: int) -> None:
        self.values.append((*index, value) if index else value)
        event, self._event = self._event, anyio.Event()
        event.set()

    async def until(self, condition: Callable[[list[Any]], object], seconds: float = 5.0) -> None:
        try:
            with anyio.fail_after(seconds):
                while not condition(self.values):
                    await self._event.wait()
        except TimeoutError:
            raise AssertionError(f"still waiting; so far: {self.values!r}") from None


class Blocked:
    """An async callback that ends when the test releases it."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.entered = anyio.Event()
        self.release = anyio.Event()

    async def __call__(self, value: Any) -> None:
        self.values.append(value)
        self.entered.set()
        await self.release.wait()


async def everything_arrived(pv: str) -> None:
    """Wait until the updates of all puts so far have been delivered.

    A server sends the events of one client in the order in which it has queued them. The first
    event of a new subscription is queued last.
    """
    with anyio.fail_after(5):
        async with camonitor(pv) as updates:
            async for _ in updates:
                break


async def reset(*pvs: str) -> None:
    for pv in pvs:
        await caput(pv, 0, wait=True)


async def next_update(updates: AsyncIterator[Any]) -> Any:
    with anyio.fail_after(5):
        return await anext(updates)


def time_double(value: float) -> bytes:
    return struct.pack("=hhII4xd", 0, 0, 0, 0, value)


def callback(*args: Any) -> None:
    raise AssertionError("nothing should have been made")
