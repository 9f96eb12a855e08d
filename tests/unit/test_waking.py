"""Waking an event loop and a task in it: `EventFd` and the waiters."""

from __future__ import annotations

import asyncio
import contextvars
import math
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from aioca import caget
from aioca._portal import _asyncio, _trio, eventfd
from aioca._portal.current import portal_for, running_loop
from aioca._portal.interface import Portal

pytestmark = pytest.mark.anyio
WITH_UVLOOP = True
UNIT = True

needs_eventfd = pytest.mark.skipif(
    not hasattr(os, "eventfd"), reason="this system has no eventfd: loops wake in their own way"
)


@pytest.fixture
async def portal() -> AsyncIterator[Portal]:
    """A separate portal into the loop of the test."""
    made = portal_for(running_loop())
    made.on_end(lambda: None)
    yield made
    await made._sentinel.aclose()


def in_thread(target: Callable[[], object]) -> None:
    thread = threading.Thread(target=target)
    thread.start()
    thread.join()


# -- Waiters ---------------------------------------------------------------------------------------


async def test_waiter_is_woken(portal: Portal) -> None:
    with anyio.fail_after(5):
        for deadline in (math.inf, portal.now() + 60):
            for how in ("wake", "wake_now"):
                waiter = portal.waiter()
                in_thread(lambda waiter=waiter, how=how: portal.post(getattr(waiter, how)))
                assert await waiter.wait(deadline)


async def test_waiter_woken_before_it_waits(portal: Portal) -> None:
    with anyio.fail_after(5):
        for deadline in (math.inf, portal.now() + 60):
            for how in ("wake", "wake_now"):
                waiter = portal.waiter()
                getattr(waiter, how)()
                getattr(waiter, how)()
                assert await waiter.wait(deadline)
                getattr(waiter, how)()


async def test_waiter_deadline(portal: Portal) -> None:
    waiter = portal.waiter()
    with anyio.fail_after(5):
        assert not await waiter.wait(portal.now() + 0.02)
    waiter.wake()  # no task waits any more
    waiter.wake_now()


async def test_waiter_cancelled(portal: Portal) -> None:
    for deadline in (math.inf, portal.now() + 60):
        waiter = portal.waiter()
        with anyio.move_on_after(0.02) as scope:
            await waiter.wait(deadline)
        assert scope.cancelled_caught
        waiter.wake()
        waiter.wake_now()
    await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("how", ["wake", "wake_now"])
async def test_waiter_woken_and_cancelled_at_once(portal: Portal, how: str) -> None:
    """Both happen in one pass of the loop: the task ends once, whichever comes first."""
    for first in ("cancel", "wake"):
        ends: list[str] = []
        waiter = portal.waiter()

        async def wait(waiter: object = waiter, ends: list[str] = ends) -> None:
            try:
                await waiter.wait()  # type: ignore[attr-defined]
            except BaseException:
                ends.append("cancelled")
                raise
            ends.append("woken")

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                # Not as a job of the portal: a task is running, and another cannot run within it.
                if first == "cancel":
                    tasks.cancel_scope.cancel()
                    getattr(waiter, how)()
                else:
                    getattr(waiter, how)()
                    tasks.cancel_scope.cancel()
        assert len(ends) == 1


async def test_waiter_of_a_task_keeps_its_variables(portal: Portal) -> None:
    """A task that continues within a job of the portal has its own context variables."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen: list[str] = []

    async def wait(name: str) -> None:
        variable.set(name)
        waiter = portal.waiter()
        in_thread(lambda: portal.post(waiter.wake_now))
        await waiter.wait()
        seen.append(variable.get())
        variable.set(name + " again")

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, "first")
            tasks.start_soon(wait, "second")
    assert sorted(seen) == ["first", "second"]
    assert variable.get() == "none"


def test_waiter_passes_the_message_of_a_cancellation_on() -> None:
    """The waiter also counts as the future that the task waits for."""

    async def main() -> object:
        waiter: Any = portal_for(running_loop()).waiter()
        assert asyncio.isfuture(waiter)
        task = asyncio.ensure_future(waiter.wait())
        await asyncio.sleep(0)
        task.cancel("enough")
        try:
            await task
        except asyncio.CancelledError as error:
            while error.__context__ is not None and not error.args:  # Python 3.10
                error = error.__context__  # type: ignore[assignment]
            return error.args
        return "not cancelled"

    assert asyncio.run(main()) == ("enough",)


# -- EventFd ---------------------------------------------------------------------------------------


@needs_eventfd
def test_bell_goes_to_the_next_loop(backend: str) -> None:
    """Successive loops reuse an eventfd: there are no more of them than simultaneous loops."""

    async def main() -> int | None:
        portal = portal_for(running_loop())
        bell = portal._eventfd  # type: ignore[attr-defined]
        assert bell not in eventfd._spare
        return bell.fd if bell is not None else None

    fds = {anyio.run(main, backend=backend) for _ in range(5)}
    assert len(fds) == 1
    assert None not in fds


@needs_eventfd
def test_bell_goes_back_from_a_loop_that_was_closed_without_telling() -> None:
    async def main() -> Portal:
        portal = portal_for(running_loop())
        portal.on_end(lambda: None)
        return portal

    loop = asyncio.new_event_loop()
    portal = loop.run_until_complete(main())
    bell = portal._eventfd  # type: ignore[attr-defined]
    loop.close()
    assert bell not in eventfd._spare
    in_thread(lambda: portal.post(lambda: None))  # detects the closed loop
    assert bell in eventfd._spare
    portal.close()
    assert eventfd._spare.count(bell) == 1


@needs_eventfd
async def test_rung_for_the_loop_before(portal: Portal) -> None:
    """An eventfd is written for its previous loop: the present loop finds no job."""
    if (bell := getattr(portal, "_eventfd", None)) is None:
        pytest.skip("uvloop wakes in its own way")
    in_thread(bell.signal)
    seen: list[int] = []
    waiter = portal.waiter()
    in_thread(lambda: (portal.post(lambda: seen.append(1)), portal.post(waiter.wake)))
    with anyio.fail_after(5):
        await waiter.wait()
    assert seen == [1]


@needs_eventfd
def test_bell_whose_file_somebody_has_closed(backend: str) -> None:
    """As programs do that become daemons: then asyncio or trio itself wakes the loop."""

    async def main() -> bool:
        portal = portal_for(running_loop())
        bell = portal._eventfd  # type: ignore[attr-defined]
        portal._eventfd = kept = eventfd.EventFd()  # type: ignore[attr-defined]
        os.close(kept.fd)
        waiter = portal.waiter()
        in_thread(lambda: portal.post(waiter.wake))
        woken = await waiter.wait(portal.now() + 5)
        portal._eventfd = bell  # type: ignore[attr-defined]
        return woken

    assert anyio.run(main, backend=backend)


def test_without_a_bell(backend: str, p: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On systems without eventfd, asyncio or trio itself wakes the loop."""
    for module in (_asyncio, _trio):
        monkeypatch.setattr(module, "borrow_eventfd", lambda: None)

    async def main() -> float:
        return sum([await caget(p + "ai") for _ in range(20)])

    assert anyio.run(main, backend=backend) == 20 * anyio.run(caget, p + "ai", backend=backend)


@needs_eventfd
def test_no_file_is_left_open(backend: str, p: str) -> None:
    """Many loops leave no file open except one eventfd."""

    async def main() -> None:
        await caget(p + "ai")

    def open_eventfds() -> int:
        found = 0
        for file in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):  # a thread of libca may close a socket meanwhile
                found += "eventfd" in os.readlink(file)
        return found

    anyio.run(main, backend=backend)
    before = open_eventfds()
    assert before >= 1
    for _ in range(20):
        anyio.run(main, backend=backend)
    assert open_eventfds() == before
