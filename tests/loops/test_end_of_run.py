"""The end of a run, and calls without a loop."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from aioca import caget, camonitor, caput, get_channel_infos, purge_channel_caches
from aioca._ca import tokens
from aioca._channels import context
from tests.support.loops import both_backends, finish, use_it

# -- The end of a run ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("end", ["returns", "fails"])
def test_end_of_run_with_monitors(
    p: str, backend: str, kind: str, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Open monitors end with the run. No callback runs later, and no error is reported."""
    seen: list[float] = []
    over = False

    def callback(value: float) -> None:
        assert not over
        seen.append(value)

    async def async_callback(value: float) -> None:
        callback(value)
        await anyio.sleep(0.01 if len(seen) == 1 else 100)

    async def main() -> None:
        camonitor(p + "ticks", callback if kind == "sync" else async_callback, all_updates=True)
        with anyio.fail_after(10):
            while len(seen) < 2:
                await anyio.sleep(0.01)  # poll
        if end == "fails":
            raise ZeroDivisionError

    with caplog.at_level(logging.WARNING):
        try:
            anyio.run(main, backend=backend)
        except ZeroDivisionError:
            assert end == "fails"
        else:
            assert end == "returns"
        over = True
        assert context.all_contexts() == []
        assert get_channel_infos() == []
        assert tokens.token_count() == 0
        count = len(seen)
        time.sleep(0.25)  # two updates of the PV: nothing must happen: no event to await
    assert len(seen) == count
    assert [record.getMessage() for record in caplog.records] == []


ENDING = """
    import sys, time
    import anyio
    from aioca._ca import tokens as _tokens
    from aioca import camonitor, get_channel_infos
    backend, kind = sys.argv[1:]
    late, calls, over = [], 0, False
    pvs = [f"BUSY{i}" for i in range(50)]

    def callback(value, index):
        global calls
        calls += 1
        if over:
            late.append(value)

    async def async_callback(value, index):
        callback(value, index)
        await anyio.sleep(0)

    async def other():
        # A generator that takes a while to end: updates go on coming while the run ends.
        try:
            yield
        finally:
            try:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.25)
            except RuntimeError:
                time.sleep(0.25)

    async def main():
        others = [other() for _ in range(4)]
        for each in others:
            await anext(each)
        keep.extend(others)
        camonitor(pvs * 10, callback if kind == "sync" else async_callback, all_updates=True)
        while calls < 1000:
            await anyio.sleep(0)

    for _ in range(2):
        keep, over, calls = [], False, 0
        anyio.run(main, backend=backend)
        over = True
        assert get_channel_infos() == [], get_channel_infos()
        assert _tokens.token_count() == 0
    time.sleep(0.2)
    assert not late
    print("done")
"""


@both_backends
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_end_of_run_under_traffic(
    start: Callable[..., subprocess.Popen[str]], backend: str, kind: str
) -> None:
    """5,000 updates a second arrive while the loop and slow generators of the run end.

    There is no error, nothing on stderr, and no later callback.
    """
    assert finish(start(ENDING, backend, kind)) == ("done\n", "")


def _bare_loop(main: Callable[[], Any]) -> None:
    """Run a loop as old programs do: without shutdown_asyncgens, which aioca relies on."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()


def test_bare_loop_noticed_by_traffic(p: str) -> None:
    """The next update, on a libca thread, detects the closed loop and ends the context."""
    seen: list[float] = []

    async def main() -> None:
        camonitor(p + "ticks", seen.append)
        while not seen:
            await asyncio.sleep(0.01)  # poll

    _bare_loop(main)
    assert seen
    end = time.monotonic() + 5
    while context.all_contexts():  # get_channel_infos() would check for closed loops itself
        assert time.monotonic() < end, "not noticed"
        time.sleep(0.01)  # poll
    assert tokens.token_count() == 0
    count = len(seen)
    time.sleep(0.25)  # two updates of the PV: nothing must happen: no event to await
    assert len(seen) == count


@pytest.mark.parametrize("by", ["get_channel_infos", "purge_channel_caches", "the next run"])
def test_bare_loop_noticed_without_traffic(p: str, by: str) -> None:
    async def main() -> None:
        camonitor(p + "m:a", lambda _: None)
        await caget(p + "m:b")

    _bare_loop(main)
    if by == "get_channel_infos":
        assert get_channel_infos() == []
    elif by == "purge_channel_caches":
        purge_channel_caches()
    else:
        asyncio.run(use_it(p + "m:b"))
    assert context.all_contexts() == []
    assert tokens.token_count() == 0


WAITING = """
    import asyncio, sys
    import anyio
    from aioca._channels import context as _context
    from aioca._ca import tokens as _tokens
    from aioca import caget, camonitor, get_channel_infos
    waits_in = sys.argv[1]

    async def wait():
        if waits_in == "caget":
            await caget("absent", timeout=None)
        elif waits_in == "iteration":
            async with camonitor("absent") as updates:
                await anext(updates)
        else:
            async with anyio.create_task_group() as group:
                camonitor("absent", lambda _: None, task_group=group)

    async def main():
        task = asyncio.ensure_future(wait())
        task._log_destroy_pending = False
        await caget("PV1")

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    assert get_channel_infos() == []
    assert not _context.all_contexts()
    assert _tokens.token_count() == 0, _tokens.owners
    print("done")
"""


@pytest.mark.parametrize("waits_in", ["caget", "iteration", "task group"])
def test_bare_loop_closed_with_tasks_waiting(
    start: Callable[..., subprocess.Popen[str]], waits_in: str
) -> None:
    """A task that waits for aioca never runs again, as its loop is closed.

    Ending its operation must not fail.
    """
    out, err = finish(start(WAITING, waits_in), None)
    assert out == "done\n", err


# -- No loop ---------------------------------------------------------------------------------------


def _step(coroutine: Any) -> None:
    """Run a coroutine without a loop."""
    try:
        coroutine.send(None)
    finally:
        coroutine.close()


@pytest.mark.parametrize(
    "call",
    [
        lambda: _step(caget("X")),
        lambda: _step(caput("X", 1)),
        lambda: camonitor("X"),
        lambda: camonitor("X", lambda _: None),
    ],
    ids=["caget", "caput", "camonitor", "camonitor callback"],
)
def test_no_running_loop(call: Callable[[], None]) -> None:
    with pytest.raises(RuntimeError, match="no event loop is running in this thread"):
        call()
    assert get_channel_infos() == []


def test_no_running_loop_in_a_worker_thread(p: str, backend: str) -> None:
    """A loop that runs in another thread is not used."""

    async def main() -> None:
        with pytest.raises(RuntimeError, match="no event loop is running in this thread"):
            await anyio.to_thread.run_sync(camonitor, p + "m:a")

    anyio.run(main, backend=backend)
