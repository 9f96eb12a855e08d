"""Tests under plain ``asyncio.run`` and ``trio.run``, which they call themselves.

anyio's test runner tells sniffio which library runs. A plain ``asyncio.run`` does not, and neither
does a job of the portal, which runs outside of any task.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
import trio

from aioca import CAValueError, Subscription, caget, camonitor, caput
from aioca._channels import context as _context
from aioca._channels.registry import current
from aioca._portal import queue
from aioca.testing import SoftIoc

RUNNERS: dict[str, Callable[[Callable[[], Awaitable[Any]]], Any]] = {
    "asyncio": lambda main: asyncio.run(main()),  # type: ignore[arg-type]
    "trio": trio.run,
}


class BoomError(Exception):
    """The error that the callbacks raise."""


@pytest.fixture(params=list(RUNNERS))
def run_plainly(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    return RUNNERS[request.param]


async def _until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.01)  # poll: the callbacks set no event


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("form", ["loop", "block", "group"])
def test_callbacks_are_called(
    p: str, run_plainly: Callable[..., Any], form: str, kind: str
) -> None:
    seen: list[float] = []

    async def later(value: float) -> None:
        await anyio.sleep(0)
        seen.append(value)

    callback = later if kind == "async" else seen.append

    async def main() -> None:
        if form == "loop":
            camonitor(p + "ticks", callback)
            await _until(lambda: len(seen) > 2)
        elif form == "block":
            async with camonitor(p + "ticks", callback):
                await _until(lambda: len(seen) > 2)
        else:
            async with anyio.create_task_group() as group:
                camonitor(p + "ticks", callback, task_group=group)
                await _until(lambda: len(seen) > 2)
                group.cancel_scope.cancel()

    run_plainly(main)
    assert seen == sorted(set(seen)), "in order, each once"


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("form", ["block", "group"])
def test_errors_of_callbacks_reach_the_owner(
    p: str, run_plainly: Callable[..., Any], form: str, kind: str
) -> None:
    def fail(value: object) -> None:
        raise BoomError

    async def fail_later(value: object) -> None:
        await anyio.sleep(0)
        raise BoomError

    callback = fail_later if kind == "async" else fail

    async def main() -> None:
        with anyio.fail_after(10):
            if form == "block":
                async with camonitor(p + "ai", callback):
                    await anyio.sleep_forever()
            async with anyio.create_task_group() as group:
                camonitor(p + "ai", callback, task_group=group)

    with pytest.raises(BaseException) as caught:
        run_plainly(main)
    error = caught.value
    if form == "group":
        (error,) = error.exceptions  # type: ignore[attr-defined]
    assert type(error) is BoomError


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
def test_eager_tasks(p: str) -> None:
    """With eager tasks, the first step of a callback's task runs inside our own call."""
    seen: list[float] = []

    async def callback(value: float) -> None:
        seen.append(value)

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(
            asyncio.eager_task_factory  # type: ignore[attr-defined,unused-ignore]
        )
        camonitor(p + "ticks", callback, all_updates=True)
        await _until(lambda: len(seen) > 3)

    asyncio.run(main())


def test_a_subscription_belongs_to_the_run_that_made_it(
    p: str, run_plainly: Callable[..., Any]
) -> None:
    made: list[Subscription] = []

    async def make() -> None:
        made.append(camonitor(p + "ai"))

    async def enter() -> None:
        with pytest.raises(RuntimeError, match="another run"):
            async with made[0]:
                pass

    run_plainly(make)
    run_plainly(enter)


def test_a_value_that_raises_harms_nobody_else(p: str, run_plainly: Callable[..., Any]) -> None:
    """The error is raised in a job of the portal, when the PV connects."""
    seen: list[float] = []

    class Bad:
        def __float__(self) -> float:
            raise BoomError

    async def main() -> None:
        async with anyio.create_task_group() as group:

            async def put() -> None:
                with pytest.raises(CAValueError, match=p + "ai"):
                    await caput(p + "ai", Bad(), timeout=5)

            group.start_soon(put)
            await anyio.sleep(0)
            camonitor(p + "ai", seen.append)
            assert await caget(p + "ai") == 1.5
            await _until(lambda: seen)

    run_plainly(main)


def test_cancellation_loses_no_value(p: str) -> None:
    """Iteration sometimes lets other tasks run, and may be cancelled there.

    It has never taken a value from the queue at that point.
    """

    async def main() -> None:
        async with camonitor(p + "ai") as updates:
            await _until(lambda: updates._stream.queue)
            updates._stream._served = 10_000
            with trio.CancelScope() as scope:
                scope.cancel()
                await anext(updates)
            assert scope.cancelled_caught
            with trio.fail_after(5):
                assert await anext(updates) == 1.5

    trio.run(main)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_exit_in_a_callback(p: str, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Under asyncio it ends the program. trio cannot do that, so it is logged like any error."""

    def leave(value: object) -> None:
        sys.exit(3)

    async def leave_later(value: object) -> None:
        sys.exit(3)

    async def main() -> None:
        subscription = camonitor(p + "ai", leave if kind == "sync" else leave_later)
        await _until(lambda: subscription.state == Subscription.CLOSED)

    with pytest.raises(SystemExit):
        asyncio.run(main())
    trio.run(main)
    ours = [record for record in caplog.records if record.name == "aioca"]
    assert [r.levelno for r in ours if "SystemExit" in r.message] == [logging.ERROR]


def test_a_callback_whose_task_never_began(p: str) -> None:
    """All tasks of asyncio are cancelled before the callback's task has begun.

    The monitor ends, as if a callback were cancelled later. It must not remain open without ever
    calling the callback again.
    """

    async def main() -> None:
        seen: list[float] = []
        me = asyncio.current_task()

        async def work(value: float) -> None:
            seen.append(value)

        def callback(value: float) -> object:
            asyncio.get_running_loop().call_soon(cancel_all)
            return work(value)

        def cancel_all() -> None:
            for task in asyncio.all_tasks() - {me}:
                task.cancel()

        subscription = camonitor(p + "ai", callback, all_updates=True)
        await _until(lambda: subscription.state == Subscription.CLOSED)
        assert seen == []

    asyncio.run(main())


def test_a_callback_that_returns_the_same_awaitable_again(p: str) -> None:
    """The awaitable may be done already. Its second task is not mistaken for its first."""

    async def main() -> None:
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        calls: list[float] = []

        def callback(value: float) -> object:
            calls.append(value)
            give_up = time.monotonic() + 1
            while not current().portal.queue and time.monotonic() < give_up:
                time.sleep(0.001)  # the next update arrives before the task of this one ends
            return done

        subscription = camonitor(p + "ticks", callback, all_updates=True)
        await _until(lambda: len(calls) > 5 or subscription.state == Subscription.CLOSED)
        assert subscription.state == Subscription.OPEN
        subscription.close()

    asyncio.run(main())


def test_no_callback_begins_while_a_generator_cleans_up(p: str) -> None:
    """asyncio has cancelled all tasks before, and would not cancel a new one."""
    generators = []
    begun: list[bool] = []
    done: list[bool] = []
    ending = False

    async def callback(value: float) -> None:
        begun.append(ending)

    async def generator() -> AsyncGenerator[None, None]:
        nonlocal ending
        try:
            yield
        finally:
            ending = True
            done.append((await caput(p + "slow.A", 1, wait=True, timeout=5)).ok)

    async def main() -> None:
        generators.append(generator())
        await generators[0].__anext__()
        camonitor(p + "ticks", callback, all_updates=True)
        await _until(lambda: begun)

    asyncio.run(main())
    assert done == [True]
    assert not any(begun)


def test_replies_come_while_trio_ends(own_ioc: Callable[..., SoftIoc]) -> None:
    """The task that polls under load is cancelled with the run.

    Other tasks still clean up, and may wait for replies.
    """
    ticks = "".join(
        f'record(calc, "T{i}") {{ field(SCAN, ".1 second") field(CALC, "VAL+1") }}'
        for i in range(1000)
    )
    own_ioc(ticks).start()
    values: list[float] = []

    async def main() -> None:
        async def callback(value: float) -> None:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
                    for _ in range(5):
                        await trio.sleep(0.03)  # while many updates arrive
                        values.append(await caget("T7", timeout=None))

        await caget("T7")
        camonitor("T7", callback)
        camonitor([f"T{i}" for i in range(1000)], lambda v, i: None, all_updates=True)
        await _until(lambda: current().portal._polling)  # type: ignore[attr-defined]

    trio.run(main)
    assert len(values) == 5


def test_a_generator_that_is_closed_when_the_run_ends(
    p: str, run_plainly: Callable[..., Any]
) -> None:
    """Its clean-up works, in the run's context or, if that is already closed, in a new one."""
    generators = []
    done: list[Any] = []

    async def generator() -> AsyncGenerator[float, None]:
        try:
            async with camonitor(p + "ticks") as updates:
                async for value in updates:
                    yield value
        finally:
            with anyio.CancelScope(shield=True):
                done.append(await caput(p + "slow.A", 5, wait=True, timeout=10))
                done.append(await caget(p + "slow.A", timeout=10))

    async def main() -> None:
        generators.append(generator())
        await generators[0].__anext__()

    run_plainly(main)
    assert [outcome.ok for outcome in done] == [True, True]
    assert done[1] == 5


def test_disconnection_comes_before_what_follows_it(p: str) -> None:
    """libca's thread queues the disconnection in order with the values.

    So a busy loop cannot report a disconnection after the values of the reconnection.
    """

    async def main() -> None:
        async with camonitor(p + "ai", notify_disconnect=True, all_updates=True) as updates:
            assert await anext(updates) == 1.5
            channel = current().channel(p + "ai")
            (feed,) = channel.monitors
            # as libca would, while the loop is busy
            channel.connection_changed(channel._token_key, False, -1, 0)
            current().portal.put(feed._key, b"\0" * 24)  # type: ignore[attr-defined]
            channel.connection_changed(
                channel._token_key, True, channel.native_type, channel.native_count
            )
            assert not (await anext(updates)).ok
            assert await anext(updates) == 0.0

    asyncio.run(main())


# -- Ctrl-C in a loop that continues ---------------------------------------------------------------


class Interrupting:
    """Replaces a function: raises KeyboardInterrupt on the first call, as Ctrl-C would there."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.raised = False

    def __call__(self, *args: Any) -> Any:
        if not self.raised:
            self.raised = True
            raise KeyboardInterrupt
        return self.function(*args)


@pytest.mark.parametrize("place", ["pause", "poll", "reset", "wake"])
def test_ctrl_c_anywhere_on_the_way_into_the_loop(
    p: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a notebook: the interrupted call is gone, and the next call works normally."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(caget(p + "ai"))
        (context,) = _context.all_contexts()
        portal: Any = context.portal
        served: list[int] = []
        if place == "pause":
            interrupting = Interrupting(time.sleep)
            monkeypatch.setattr(
                queue, "time", SimpleNamespace(monotonic=time.monotonic, sleep=interrupting)
            )
        elif place == "poll":
            interrupting = Interrupting(portal._drain_after)
            monkeypatch.setattr(portal, "_drain_after", interrupting)
        elif place == "reset":
            interrupting = Interrupting(portal._eventfd.reset)
            monkeypatch.setattr(portal._eventfd, "reset", interrupting)
        else:
            interrupting = Interrupting(portal._wake)
            monkeypatch.setattr(portal, "_wake", interrupting)

        async def busy() -> None:
            for number in range(40):  # enough to start the polling
                portal.post(lambda number=number: served.append(number))
            time.sleep(0.01)  # so late that the drain begins with a pause
            await asyncio.sleep(10)

        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(busy())
        assert interrupting.raised
        started = time.monotonic()
        assert loop.run_until_complete(caget(p + "ai", timeout=30)) == 1.5
        assert time.monotonic() - started < 20  # the reply has woken the loop, not the deadline
        assert served == list(range(len(served)))
        portal.post(lambda: served.append(-1))
        while served[-1] != -1:
            loop.run_until_complete(asyncio.sleep(0.001))
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def test_a_lost_wake_is_repeated(p: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C can interrupt any two steps of Python. A wake that it prevents is repeated."""
    monkeypatch.setattr(queue, "_REPEAT_WAKE_SECONDS", 0.05)

    async def main() -> None:
        portal = current().portal
        await caget(p + "ai")
        while portal.awake:
            await asyncio.sleep(0.001)
        portal.awake = True  # as if a drain were already scheduled
        with anyio.move_on_after(0.2):
            await caget(p + "ai", timeout=None)
        assert await caget(p + "ai", timeout=5) == 1.5

    asyncio.run(main())
