"""camonitor with callbacks."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from aioca import camonitor, caput
from aioca._channels.registry import current
from aioca.testing import SoftIoc
from tests.support.monitors import Blocked, Received

pytestmark = pytest.mark.anyio
WITH_UVLOOP = True


@pytest.mark.parametrize("kind", ["function", "async function", "returns awaitable", "mixed"])
@pytest.mark.parametrize("form", ["plain", "block", "task_group"])
async def test_callbacks_in_order_and_never_overlapping(a: str, kind: str, form: str) -> None:
    """Each update is delivered after the callback for the previous update has ended."""
    log: list[tuple[str, float]] = []
    send, receive = anyio.create_memory_object_stream[Any]()

    async def slow(value: Any) -> None:
        log.append(("begin", value))
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        await send.send(value)
        log.append(("end", value))

    def fast(value: Any) -> None:
        log.append(("begin", value))
        log.append(("end", value))

    def callback(value: Any) -> Awaitable[None] | None:
        if kind == "function" or (kind == "mixed" and value % 2):
            return fast(value)
        return slow(value)

    async def drive() -> None:
        for value in range(1, 10):
            await caput(a, value, wait=True)
        while ("end", 9) not in log:
            with anyio.move_on_after(0.01):
                await receive.receive()

    chosen = slow if kind == "async function" else callback
    with anyio.fail_after(5), send, receive:
        if form == "plain":
            subscription = camonitor(a, chosen, all_updates=True)
            await drive()
            subscription.close()
        elif form == "block":
            async with camonitor(a, chosen, all_updates=True):
                await drive()
        else:
            async with anyio.create_task_group() as group:
                camonitor(a, chosen, all_updates=True, task_group=group)
                await drive()
                group.cancel_scope.cancel()
    assert log == [(step, value) for value in range(10) for step in ("begin", "end")]


async def test_async_callback_does_not_begin_after_close(a: str, ioc: SoftIoc) -> None:
    """Another callback closes the monitor after the coroutine and its task were made."""
    began: list[float] = []
    seen: list[float] = []

    async def callback(value: float) -> None:
        began.append(value)

    def close(value: float) -> None:
        seen.append(value)
        if value == 1:
            subscription.close()

    with anyio.fail_after(5):
        subscription = camonitor(a, callback, all_updates=True)
        closing = camonitor(a, close, all_updates=True)
        while not (began and seen):
            await anyio.sleep(0.001)
        # Both updates come in one pass of the loop, which therefore must not run in between: during
        # an `await caput`, the loop may deliver the first of them alone.
        ioc.command(f"dbpf {a} 1")
        give_up = time.monotonic() + 5
        while len(current().portal.queue) < 4 and time.monotonic() < give_up:
            time.sleep(0.001)
        while seen != [0, 1]:
            await anyio.sleep(0.001)
        await anyio.wait_all_tasks_blocked()
    closing.close()
    assert began == [0]


async def test_plain_callback_ends_after_close(a: str) -> None:
    """A callback that has returned an awaitable has begun: close() does not cancel it."""
    called = anyio.Event()
    saved = anyio.Event()

    async def save() -> None:
        saved.set()

    def callback(value: float) -> object:
        called.set()
        return save()

    with anyio.fail_after(5):
        subscription = camonitor(a, callback)
        await called.wait()
        subscription.close()
        await saved.wait()


async def test_async_callback_may_close_its_own(a: str) -> None:
    """The callback continues to its end after it has called `close`."""
    went_on = anyio.Event()

    def callback(value: float) -> object:
        subscription.close()
        return go_on()

    async def go_on() -> None:
        went_on.set()

    with anyio.fail_after(5):
        subscription = camonitor(a, callback)
        await went_on.wait()


async def test_queue_put_as_callback(a: str) -> None:
    """The queue is full: updates wait for the reader, and none is lost."""
    send, receive = anyio.create_memory_object_stream[Any](0)
    seen: list[float] = []
    with anyio.fail_after(5), send, receive:
        async with camonitor(a, send.send, all_updates=True):
            for value in range(1, 6):
                await caput(a, value, wait=True)
            while seen[-1:] != [5]:
                seen.append(await receive.receive())
    assert seen == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("same_pv", [True, False], ids=["same PV", "another PV"])
async def test_slow_consumer_delays_no_other(a: str, b: str, same_pv: bool) -> None:
    blocked, received = Blocked(), Received()
    other = a if same_pv else b
    async with (
        camonitor(a, blocked, all_updates=True),
        camonitor(other, received, all_updates=True),
    ):
        with anyio.fail_after(5):
            await blocked.entered.wait()
        for value in range(1, 6):
            await caput(other, value, wait=True)
        await received.until(lambda values: values == [0, 1, 2, 3, 4, 5])
        assert blocked.values == [0]


async def test_slow_iteration_delays_no_other(a: str) -> None:
    received = Received()
    async with camonitor(a), camonitor(a, received, all_updates=True):  # the first is never read
        await caput(a, 1)
        await received.until(lambda values: values[-1:] == [1])
