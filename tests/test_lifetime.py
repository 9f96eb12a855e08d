"""The owners of monitors: blocks and task groups, with errors and cancellation."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

from aioca import Subscription, camonitor, caput, get_channel_infos

pytestmark = pytest.mark.anyio
WITH_UVLOOP = True

OpenGroup = Callable[[], AbstractAsyncContextManager[Any]]
OF_A_GROUP = "TaskGroup|nursery"  # the message of an exception group names its origin


@pytest.fixture(params=["anyio", "native"])
def open_group(request: pytest.FixtureRequest, anyio_backend: tuple[str, Any]) -> OpenGroup:
    """anyio's task group, and the one of the backend."""
    if request.param == "anyio":
        return anyio.create_task_group
    if anyio_backend[0] == "trio":
        return trio.open_nursery
    if sys.version_info < (3, 11):
        pytest.skip("asyncio.TaskGroup came with Python 3.11")
    return asyncio.TaskGroup


@pytest.fixture
async def pv(p: str) -> str:
    """An ao record for these tests, with the value 0."""
    await caput(p + "m:a", 0, wait=True)
    return p + "m:a"


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def failing(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """A callback that raises an error for the value 1."""

    def callback(value: Any) -> None:
        if value == 1:
            raise ValueError("of the callback")

    async def async_callback(value: Any) -> None:
        await anyio.lowlevel.checkpoint()
        callback(value)

    return async_callback if request.param else callback


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


# -- Task groups -----------------------------------------------------------------------------------


async def test_group_owns_the_monitor(pv: str, open_group: OpenGroup) -> None:
    """The monitor ends with the group's scope. No callback runs after that."""
    seen = Seen()
    with anyio.fail_after(5), anyio.CancelScope() as scope:
        async with open_group() as group:
            subscription = camonitor(pv, seen, task_group=group)
            await seen.first.wait()
            scope.cancel()
    assert subscription.state == Subscription.CLOSED
    assert subscribers() == 0
    await updated(pv, 1)
    assert seen.values == [0]


async def test_group_waits_for_the_monitor(pv: str, open_group: OpenGroup) -> None:
    """The monitor is a child of the group: the group ends only when the monitor is closed."""
    seen = Seen()
    left = False

    async def close_later() -> None:
        await seen.first.wait()
        await updated(pv, 1)
        assert not left
        subscription.close()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as outer:
            async with open_group() as group:
                subscription = camonitor(pv, seen, task_group=group)
                outer.start_soon(close_later)
            left = True
    assert seen.values == [0, 1]


async def test_group_gets_the_error(
    pv: str, open_group: OpenGroup, failing: Callable[[Any], Any]
) -> None:
    """The error of a callback is raised in the group, and cancels its other tasks."""
    cancelled = []
    sibling_values = Seen()
    with (
        anyio.fail_after(5),
        pytest.raises(Exception, match=OF_A_GROUP) as info,
    ):
        async with open_group() as group:
            subscription = camonitor(pv, failing, task_group=group)
            sibling = camonitor(pv, sibling_values, task_group=group)
            await sibling_values.first.wait()
            await caput(pv, 1)
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                cancelled.append("body")
                raise
    (error,) = leaves(info.value)
    assert type(error) is ValueError
    assert cancelled == ["body"]
    assert subscription.state == sibling.state == Subscription.CLOSED
    assert subscribers() == 0


async def test_trio_demo(p: str, open_group: OpenGroup) -> None:
    """A nursery with a monitor and two workers: the callback fails, and all of them end."""
    pv, ended = p + "m:a", []
    await caput(pv, 0, wait=True)

    def interlock(value: Any) -> None:
        if value > 10:
            raise RuntimeError(f"{value.name} is too high: {value}")

    async def worker(name: str) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(name)

    def start(group: Any, name: str) -> None:
        if hasattr(group, "start_soon"):
            group.start_soon(worker, name)
        else:
            group.create_task(worker(name))

    with anyio.fail_after(5), pytest.raises(Exception, match=OF_A_GROUP) as info:
        async with open_group() as nursery:
            camonitor(pv, interlock, task_group=nursery)
            start(nursery, "one")
            start(nursery, "two")
            await anyio.lowlevel.checkpoint()
            await caput(pv, 5, wait=True)
            await caput(pv, 11)
    (error,) = leaves(info.value)
    assert isinstance(error, RuntimeError)
    assert str(error) == f"{pv} is too high: 11.0"
    assert sorted(ended) == ["one", "two"]
    assert subscribers() == 0


async def test_group_of_many_gets_the_error(
    pv: str, p: str, open_group: OpenGroup, failing: Callable[[Any], Any]
) -> None:
    """A list of PVs is one child: an error in the callback for one PV closes all monitors."""
    with anyio.fail_after(5), pytest.raises(Exception, match=OF_A_GROUP) as info:
        async with open_group() as group:
            subscriptions = camonitor(
                [p + "m:b", pv], lambda value, index: index and failing(value), task_group=group
            )
            await caput(pv, 1)
    (error,) = leaves(info.value)
    assert type(error) is ValueError
    assert {s.state for s in subscriptions} == {Subscription.CLOSED}


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
async def test_group_ended_at_once(pv: str, open_group: OpenGroup, turns: int) -> None:
    """The group fails early, even before its new child has run for the first time.

    The monitor is closed when the group has ended, and no callback runs after that.
    """
    seen = Seen()
    with anyio.fail_after(5), pytest.raises(Exception, match=OF_A_GROUP) as info:
        async with open_group() as group:
            subscription = camonitor(pv, seen, task_group=group)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            raise KeyError("of the body")
    assert [type(error) for error in leaves(info.value)] == [KeyError]
    count = len(seen.values)
    try:
        assert subscription.state == Subscription.CLOSED
        assert subscribers() == 0
        await updated(pv, 1)
        assert len(seen.values) == count
    finally:
        subscription.close()


async def test_group_cancels_async_callbacks(pv: str, open_group: OpenGroup) -> None:
    hanging = Hanging()
    with anyio.fail_after(5), anyio.CancelScope() as scope:
        async with open_group() as group:
            camonitor(pv, hanging, task_group=group)
            await hanging.entered.wait()
            scope.cancel()
    assert (hanging.calls, hanging.cancelled) == (1, 1)


async def test_group_lets_a_running_callback_end_after_close(
    pv: str, open_group: OpenGroup
) -> None:
    """close() ends the monitor. A running callback continues to its end, inside the group."""
    ended = []

    async def callback(value: Any) -> None:
        subscription.close()
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        ended.append(value)

    with anyio.fail_after(5):
        async with open_group() as group:
            subscription = camonitor(pv, callback, task_group=group)
        assert ended == [0]


# -- Blocks ----------------------------------------------------------------------------------------


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


# -- Exceptions that end the program ---------------------------------------------------------------


class Ending(BaseException):
    """A BaseException that is not an Exception, and that Python does not know."""


ENDINGS: dict[str, Callable[[], BaseException]] = {
    "SystemExit": lambda: SystemExit(3),
    "in a group": lambda: BaseExceptionGroup("of a callback", [KeyboardInterrupt()]),
    "deep in a group": lambda: BaseExceptionGroup(
        "of a callback", [ValueError("mine"), BaseExceptionGroup("inner", [SystemExit(3)])]
    ),
    "of its own kind": Ending,
    "cancelled beside": lambda: BaseExceptionGroup(
        "of a callback", [KeyboardInterrupt(), asyncio.CancelledError()]
    ),
}


def raising(error: BaseException, asynchronous: bool) -> Callable[[Any], Any]:
    def callback(value: Any) -> None:
        raise error

    async def async_callback(value: Any) -> None:
        await anyio.lowlevel.checkpoint()
        raise error

    return async_callback if asynchronous else callback


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def asynchronous(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("form", ["block", "task_group"])
def test_endings_reach_the_owner(
    p: str, backend: str, form: str, ending: str, asynchronous: bool
) -> None:
    """Only the backend's own cancellation exception is a cancellation."""
    error = ENDINGS[ending]()
    callback = raising(error, asynchronous)

    async def main() -> None:
        with anyio.fail_after(10):
            if form == "block":
                async with camonitor(p + "m:a", callback):
                    await anyio.sleep_forever()
            else:
                async with anyio.create_task_group() as group:
                    camonitor(p + "m:a", callback, task_group=group)

    with pytest.raises(BaseException) as info:
        anyio.run(main, backend=backend)
    came = leaves(info.value)
    if ending == "cancelled beside" and backend == "asyncio" and asynchronous:
        assert [type(leaf) for leaf in came] == [KeyboardInterrupt]
    else:
        assert came == leaves(error)
    if form == "block" and ending != "cancelled beside":
        assert info.value is error


@pytest.mark.parametrize("ending", ENDINGS)
def test_endings_without_an_owner(
    p: str, backend: str, ending: str, asynchronous: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio lets exceptions that end the program leave the loop, as from any callback.

    In trio that would be an internal error, so they are logged like all others.
    """
    error = ENDINGS[ending]()
    out = backend == "asyncio" and ending != "of its own kind"

    async def main() -> None:
        subscription = camonitor(p + "m:a", raising(error, asynchronous))
        with anyio.fail_after(10):
            while subscription.state != Subscription.CLOSED:
                await anyio.sleep(0.001)  # poll
            if out:
                await anyio.sleep_forever()

    with caplog.at_level(logging.INFO):
        if out:
            with pytest.raises((KeyboardInterrupt, SystemExit)) as info:
                anyio.run(main, backend=backend)
            assert info.value in leaves(error)
        else:
            anyio.run(main, backend=backend)
    logged = [
        leaf
        for record in caplog.records
        if record.exc_info is not None and record.exc_info[1] is not None
        for leaf in leaves(record.exc_info[1])
    ]
    if not out:
        assert logged == leaves(error)
    elif ending == "deep in a group":
        assert [repr(leaf) for leaf in logged] == ["ValueError('mine')"]
    assert "was cancelled" not in caplog.text
    error = info = None  # type: ignore[assignment]  # which have the task, with their tracebacks
    gc.collect()
    assert "never retrieved" not in caplog.text


def test_an_ending_is_not_replaced_by_an_error_of_a_callback(
    p: str, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither an error of the body nor of another callback of the owner replaces it."""
    ending = BaseExceptionGroup("of the body", [KeyboardInterrupt()])
    mine = ValueError("of the callback")

    async def body() -> None:
        async with camonitor(p + "m:a", raising(mine, False)):
            try:
                await anyio.sleep_forever()
            finally:
                raise ending

    async def until_cancelled(value: Any) -> None:
        entered.append(value)
        try:
            await anyio.sleep_forever()
        finally:
            raise ending

    def after_the_other(value: Any) -> None:
        if value == 1:
            raise mine

    async def callbacks() -> None:
        pvs = [p + "m:b", p + "m:a"]
        await caput(pvs, 0, wait=True)
        both = until_cancelled, after_the_other
        async with camonitor(pvs, lambda value, index: both[index](value)):
            while not entered:
                await anyio.lowlevel.checkpoint()
            await caput(pvs[1], 1)
            await anyio.sleep_forever()

    entered: list[Any] = []
    for main in (body, callbacks):
        caplog.clear()
        with caplog.at_level(logging.ERROR), pytest.raises(BaseExceptionGroup) as info:
            anyio.run(main, backend=backend)
        assert leaves(info.value) == leaves(ending)
        (record,) = caplog.records
        assert record.exc_info is not None
        assert record.exc_info[1] is mine


async def test_a_group_of_cancellations_is_a_cancellation(
    pv: str, anyio_backend: tuple[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A nursery in a callback raises such a group if both of its tasks were cancelled."""

    async def callback(value: Any) -> None:
        entered.set()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class() as error:
            raise BaseExceptionGroup("of a nursery", [error]) from None

    entered = anyio.Event()
    with anyio.fail_after(5), caplog.at_level(logging.INFO):
        async with camonitor(pv, callback):
            await entered.wait()
    assert [r.getMessage() for r in caplog.records if r.levelno > logging.INFO] == []
