"""Monitors as ``async with`` blocks: errors and cancellation."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from aioca import Subscription, camonitor, caput
from tests.support.lifetime import (
    OF_A_GROUP,
    Hanging,
    OpenGroup,
    Seen,
    leaves,
    subscribers,
    updated,
)

pytestmark = pytest.mark.anyio
WITH_UVLOOP = True


async def test_body_error_passes_unchanged(pv: str) -> None:
    """The error is not wrapped in a group. Its context and cause do not change."""
    mine = LookupError("mine")
    for callback in (None, Seen(), Hanging()):
        with anyio.fail_after(5), pytest.raises(LookupError) as info:
            async with camonitor(pv, callback):
                if isinstance(callback, Hanging):
                    await callback.entered.wait()
                raise mine
        assert info.value is mine
        assert mine.__cause__ is None
        assert mine.__context__ is None
    assert subscribers() == 0


async def test_body_may_return_or_break(pv: str) -> None:
    async def body() -> int:
        async with camonitor(pv, Seen()):
            return 5

    assert await body() == 5
    while True:
        async with camonitor(pv, Seen()):
            break
    assert subscribers() == 0


async def test_body_error_that_is_a_group_passes_unchanged(pv: str) -> None:
    with anyio.fail_after(5), pytest.raises(Exception, match=OF_A_GROUP) as info:
        async with camonitor(pv, Seen()), anyio.create_task_group():
            raise LookupError("mine")
    assert [type(error) for error in info.value.exceptions] == [LookupError]


@pytest.mark.parametrize("form", ["stream", "callback", "async callback"])
async def test_outer_cancellation_passes(pv: str, form: str) -> None:
    """The block ends, and the code around it is cancelled too."""
    seen, hanging = Seen(), Hanging()
    callback = {"stream": None, "callback": seen, "async callback": hanging}[form]
    after = False
    with anyio.fail_after(5), anyio.CancelScope() as scope:
        async with camonitor(pv, callback) as entered:
            if form == "stream":
                await anext(entered)
            else:
                await (seen.first if form == "callback" else hanging.entered).wait()
            scope.cancel()
            await anyio.sleep_forever()
        after = True
    assert scope.cancelled_caught
    assert not after
    assert hanging.calls == hanging.cancelled == (form == "async callback")
    assert subscribers() == 0


@pytest.mark.parametrize("form", ["stream", "callback", "async callback"])
async def test_cancellation_inside_stays_inside(pv: str, form: str) -> None:
    """The cancellation of a scope within the body does not end the block."""
    seen, hanging = Seen(), Hanging()
    callback = {"stream": None, "callback": seen, "async callback": hanging}[form]
    after = False
    with anyio.fail_after(5):
        async with camonitor(pv, callback):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await anyio.sleep_forever()
            after = True
    assert after


async def test_asyncio_cancellation_passes(
    pv: str, anyio_backend: tuple[str, dict[str, Any]]
) -> None:
    """Task.cancel() on a task in a block cancels the task."""
    if anyio_backend[0] != "asyncio":
        pytest.skip("of asyncio only")
    for callback in (None, Seen(), Hanging()):

        async def body(callback: Any = callback) -> None:
            async with camonitor(pv, callback):
                await asyncio.sleep(3600)

        task = asyncio.ensure_future(body())
        if isinstance(callback, Hanging):
            await asyncio.wait_for(callback.entered.wait(), 5)
        else:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task], timeout=5)
        assert task.cancelled()
    assert subscribers() == 0


async def test_asyncio_wait_for(pv: str, anyio_backend: tuple[str, dict[str, Any]]) -> None:
    """asyncio's time limits work on a block, and do not leave the task cancelled."""
    if anyio_backend[0] != "asyncio":
        pytest.skip("of asyncio only")
    for callback in (None, Seen(), Hanging()):

        async def body(callback: Any = callback) -> None:
            async with camonitor(pv, callback):
                await asyncio.sleep(3600)

        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(body(), 0.05)
        if sys.version_info >= (3, 11):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await body()
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
    assert subscribers() == 0


async def test_async_callbacks_are_cancelled_at_the_end(pv: str) -> None:
    hanging = Hanging()
    with anyio.fail_after(5):
        async with camonitor(pv, hanging):
            await hanging.entered.wait()
    assert (hanging.calls, hanging.cancelled) == (1, 1)


async def test_async_callback_may_clean_up_at_the_end(pv: str) -> None:
    """The block ends when its callbacks have ended, including shielded clean-up."""
    steps = []
    entered = anyio.Event()

    async def callback(value: Any) -> None:
        entered.set()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                for _ in range(5):
                    await anyio.lowlevel.checkpoint()
            steps.append("cleaned up")

    with anyio.fail_after(5):
        async with camonitor(pv, callback):
            await entered.wait()
        steps.append("left")
    assert steps == ["cleaned up", "left"]


async def test_error_in_the_cleanup_of_a_callback(pv: str) -> None:
    """An error in the clean-up of a cancelled callback is not lost."""
    entered = anyio.Event()

    async def callback(value: Any) -> None:
        entered.set()
        try:
            await anyio.sleep_forever()
        finally:
            raise ValueError("of the cleanup")

    with anyio.fail_after(5), pytest.raises(ValueError, match="of the cleanup"):
        async with camonitor(pv, callback):
            await entered.wait()


async def test_body_and_callback_errors(pv: str, failing: Callable[[Any], Any]) -> None:
    """The callback's error leaves the block, as it came first; the body's is its context."""
    with anyio.fail_after(5), pytest.raises(ValueError, match="of the callback") as info:
        async with camonitor(pv, failing):
            try:
                await caput(pv, 1)  # the callback may fail during this call
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                raise LookupError("of the body") from None
    assert isinstance(info.value.__context__, LookupError)


async def test_second_error_is_logged(pv: str, caplog: pytest.LogCaptureFixture) -> None:
    """Only one error can leave the block; the other is logged."""

    async def hanging(value: Any) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise LookupError("the second")

    def fails(value: Any) -> None:
        if value == 1:
            raise ValueError("the first")

    both = [hanging, fails]
    with (
        caplog.at_level(logging.ERROR, logger="aioca"),
        anyio.fail_after(5),
        pytest.raises(ValueError, match="the first"),
    ):
        async with camonitor([pv, pv], lambda value, index: both[index](value)):
            await updated(pv, 0)
            await caput(pv, 1)
            await anyio.sleep_forever()
    (record,) = (r for r in caplog.records if r.levelno >= logging.ERROR)
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)


@pytest.mark.parametrize("form", ["block", "task_group"])
async def test_error_while_cancelled_from_outside(pv: str, form: str) -> None:
    """A callback cancels the outer scope and then fails: its error is not lost.

    The error of a task would not be lost, either.
    """

    def callback(value: Any) -> None:
        if value == 1:
            scope.cancel()
            raise ValueError("of the callback")

    with (
        anyio.fail_after(5),
        pytest.raises(Exception, match=f"{OF_A_GROUP}|of the callback") as info,
    ):
        with anyio.CancelScope() as scope:
            if form == "block":
                async with camonitor(pv, callback):
                    await caput(pv, 1)
                    await anyio.sleep_forever()
            else:
                async with anyio.create_task_group() as group:
                    camonitor(pv, callback, task_group=group)
                    await caput(pv, 1)
    assert [type(error) for error in leaves(info.value)] == [ValueError]


@pytest.mark.parametrize("which", ["outer", "inner"])
async def test_nested_blocks(pv: str, failing: Callable[[Any], Any], which: str) -> None:
    """The error of a callback leaves the block that owns it, through the inner blocks."""
    seen = Seen()
    passed = []
    callbacks = (failing, seen) if which == "outer" else (seen, failing)
    with anyio.fail_after(5):
        try:
            async with camonitor(pv, callbacks[0]) as outer:
                try:
                    async with camonitor(pv, callbacks[1]) as inner:
                        await caput(pv, 1)
                        await anyio.sleep_forever()
                except ValueError:
                    passed.append("inner")
                    assert inner.state == Subscription.CLOSED
                    assert outer.state != Subscription.CLOSED
        except ValueError:
            passed.append("outer")
    assert passed == [which]
    assert outer.state == inner.state == Subscription.CLOSED


async def test_error_inside_a_block_of_another_group(
    pv: str, open_group: OpenGroup, failing: Callable[[Any], Any]
) -> None:
    """The error of a block's callback passes through a group that is open in its body."""
    with anyio.fail_after(5), pytest.raises(ValueError, match="of the callback"):
        async with camonitor(pv, failing), open_group():
            await caput(pv, 1)
            await anyio.sleep_forever()
    assert subscribers() == 0


async def test_no_callback_after_the_block(pv: str) -> None:
    """No callback runs after the block, not even for an update that is already queued."""
    seen, hanging = Seen(), Hanging()
    with anyio.fail_after(5):
        async with camonitor(pv, seen, all_updates=True), camonitor(pv, hanging, all_updates=True):
            await seen.first.wait()
            await hanging.entered.wait()
            await caput(pv, 1)
    count = len(seen.values)
    await updated(pv, 2)
    assert len(seen.values) == count
    assert hanging.calls == 1


async def test_blocks_in_parallel_tasks(pv: str, failing: Callable[[Any], Any]) -> None:
    """An error in the block of one task does not affect the block of another."""
    seen, caught = Seen(), anyio.Event()

    async def fails() -> None:
        with pytest.raises(ValueError, match="of the callback"):
            async with camonitor(pv, failing):
                await caput(pv, 1)
                await anyio.sleep_forever()
        caught.set()

    async def lives() -> None:
        async with camonitor(pv, seen):
            await caught.wait()
            await caput(pv, 2)
            while seen.values[-1] != 2:
                await anyio.lowlevel.checkpoint()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(lives)
            await seen.first.wait()
            group.start_soon(fails)
