"""asyncio and trio in one thread."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

from aioca import (
    CADisconnected,
    CATimeout,
    caget,
    camonitor,
    caput,
    get_channel_infos,
    purge_channel_caches,
)
from aioca._channels import context


def run_on(kind: str, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine like asyncio.run, on a loop of asyncio or of uvloop."""
    loop = importlib.import_module(kind).new_event_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(main(), 30))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def start_guest(main: Callable[[], Coroutine[Any, Any, Any]]) -> asyncio.Future[Any]:
    """Run trio as a guest of the running asyncio loop; return a future with its outcome."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[Any] = loop.create_future()
    trio.lowlevel.start_guest_run(
        main, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=over.set_result,
        host_uses_signal_set_wakeup_fd=True,
    )  # fmt: skip
    return over


class Both:
    """Operations to call from tasks and callbacks of asyncio and of trio."""

    def __init__(self, p: str) -> None:
        self.p = p
        self.seen: dict[str, list[tuple[str, float]]] = {"asyncio": [], "trio": []}

    async def use(self, library: str, sleep: Callable[[float], Awaitable[object]]) -> None:
        """Read, write, iterate and wait; use plain and async callbacks, and a block."""
        pv = self.p + {"asyncio": "m:a", "trio": "m:b"}[library]
        here = anyio.get_cancelled_exc_class()

        async def note(value: float) -> None:
            await sleep(0)
            assert anyio.get_cancelled_exc_class() is here
            self.seen[library].append(("async", value))

        assert await caput(pv, 7, wait=True)
        assert await caget(pv) == 7
        with pytest.raises(CATimeout):
            await caget(self.p + "absent", timeout=0.05)
        async with camonitor(self.p + "ticks") as updates:
            first = await anext(updates)
            assert await anext(updates) > first
        async with camonitor(pv, note):
            while ("async", 7.0) not in self.seen[library]:
                await sleep(0.005)  # poll
        async with camonitor(pv, lambda value: self.seen[library].append(("block", value))):
            while ("block", 7.0) not in self.seen[library]:
                await sleep(0.005)  # poll

    def monitor(self, library: str, sleep: Callable[[float], Awaitable[object]]) -> None:
        """Make a monitor in a callback of the loop, where there may be no task."""

        async def note(value: float) -> None:
            await sleep(0)
            self.seen[library].append(("callback", value))

        camonitor(self.p + "ticks", note)

    async def until_monitored(
        self, library: str, sleep: Callable[[float], Awaitable[object]], more: int = 2
    ) -> None:
        def count() -> int:
            return sum(kind == "callback" for kind, _ in self.seen[library])

        enough = count() + more
        while count() < enough:
            await sleep(0.005)  # poll


@pytest.mark.parametrize("host", ["asyncio", "uvloop"])
def test_trio_as_a_guest_of_asyncio(p: str, host: str) -> None:
    """Each library is recognized, whichever was used first. Either may end first."""
    both = Both(p)

    async def guest() -> str:
        trio.lowlevel.current_trio_token().run_sync_soon(both.monitor, "trio", trio.sleep)
        await both.use("trio", trio.sleep)
        await both.until_monitored("trio", trio.sleep)
        return "guest"

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(2):  # the second time, asyncio has channels before trio starts
            over = start_guest(guest)
            loop.call_soon(both.monitor, "asyncio", asyncio.sleep)
            await both.use("asyncio", asyncio.sleep)
            await both.until_monitored("asyncio", asyncio.sleep)
            assert (await over).unwrap() == "guest"
            assert len(context.all_contexts()) == 1  # asyncio's context remains
            await both.until_monitored("asyncio", asyncio.sleep)
            await both.use("asyncio", asyncio.sleep)

    run_on(host, main)
    assert context.all_contexts() == []


def test_a_guest_and_its_host_end_what_is_the_others(p: str) -> None:
    """A purge in one library ends the calls of the other, each in its own way."""

    async def wait(library: str) -> None:
        with pytest.raises(CADisconnected, match="this program closed the channel"):
            await caget(p + "absent", timeout=None)
        said.append(library)

    async def guest() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, "trio")
            while len(get_channel_infos()) < 2:
                await trio.sleep(0.005)  # poll
            purge_channel_caches()

    async def main() -> None:
        over = start_guest(guest)
        await wait("asyncio")
        (await over).unwrap()
        assert await caget(p + "m:a") is not None

    said: list[str] = []
    asyncio.run(asyncio.wait_for(main(), 10))
    assert sorted(said) == ["asyncio", "trio"]


def test_a_task_group_of_the_other_library_is_refused(p: str) -> None:
    """While both libraries run, a program can pass a trio nursery to an asyncio task."""

    async def guest() -> None:
        with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="called under asyncio")):
            async with trio.open_nursery() as nursery:
                nurseries.set_result(nursery)
                await trio.sleep_forever()

    async def main() -> None:
        nonlocal nurseries
        nurseries = asyncio.get_running_loop().create_future()
        over = start_guest(guest)
        subscription = camonitor(p + "m:a", lambda _: None, task_group=await nurseries)
        (await over).unwrap()
        assert subscription.state == subscription.CLOSED

    nurseries: asyncio.Future[Any]
    asyncio.run(asyncio.wait_for(main(), 10))


def test_what_is_no_task_group_is_refused(p: str, backend: str) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="task_group must be"):
            camonitor(p + "m:a", lambda _: None, task_group=contextlib.AsyncExitStack())
        assert get_channel_infos() == []

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("inner", ["asyncio", "uvloop", "trio"])
def test_a_run_inside_a_task_of_the_other_library(p: str, inner: str) -> None:
    """A blocking function runs its own loop inside a task: calls within it use that loop."""
    both = Both(p)

    async def in_asyncio() -> None:
        asyncio.get_running_loop().call_soon(both.monitor, "asyncio", asyncio.sleep)
        assert await caput(p + "m:a", 3, wait=True)
        assert await caget(p + "m:a") == 3
        async with camonitor(p + "ticks") as updates:
            await anext(updates)
        if inner == "asyncio":
            await both.until_monitored("asyncio", asyncio.sleep)
        # anyio detects trio here, and would open a nursery in an asyncio task
        if trio.lowlevel.in_trio_task():
            with pytest.raises(RuntimeError, match="in its own thread"):
                async with camonitor(p + "m:a", lambda _: None):
                    pass

    async def in_trio() -> None:
        trio.lowlevel.current_trio_token().run_sync_soon(both.monitor, "trio", trio.sleep)
        await both.use("trio", trio.sleep)
        await both.until_monitored("trio", trio.sleep)

    async def outer_trio() -> None:
        await caget(p + "m:a")
        run_on(inner, in_asyncio)
        await in_trio()

    async def outer_asyncio() -> None:
        await caget(p + "m:a")
        trio.run(in_trio)
        await both.use("asyncio", asyncio.sleep)

    if inner == "trio":
        asyncio.run(outer_asyncio())
    else:
        trio.run(outer_trio)
    assert context.all_contexts() == []
