"""Event loops and processes start and end, several at once: nothing is left of any of them.

A test that may end its process runs in a separate one: see `start` and `finish`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import importlib
import itertools
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
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
    run,
)
from aioca._ca import tokens
from aioca._channels import context
from aioca.testing import SoftIoc
from conftest import programs

both_backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])

BUSY = 50
DATABASE = (
    'record(ao, "PV1") {} record(ao, "PV2") { field(VAL, "5") } record(ao, "PV3") {}\n'
    'record(calc, "TICK") { field(SCAN, ".1 second") field(INPA, "TICK") field(CALC, "A+1") }\n'
    + "".join(
        f'record(calc, "BUSY{i}") {{ field(SCAN, ".1 second") field(INPA, "BUSY{i}")'
        ' field(CALC, "A+1") }\n'
        for i in range(BUSY)
    )
)


@pytest.fixture(scope="module")
def busy_ioc() -> Iterator[SoftIoc]:
    """An IOC for the child processes; the test process does not search its port."""
    with SoftIoc(DATABASE) as ioc:
        yield ioc


@pytest.fixture
def start(busy_ioc: SoftIoc) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start programs that find `busy_ioc`: ``start(text, *arguments)``."""
    with programs(busy_ioc.port) as start:
        yield start


def interrupt_at(process: subprocess.Popen[str], line: str) -> list[str]:
    """Wait for a line of output, send SIGINT like Ctrl-C, and return the lines so far."""
    assert process.stdout is not None
    lines: list[str] = []
    for text in process.stdout:  # ends when the process ends
        lines.append(text.rstrip("\n"))
        if lines[-1] == line:
            process.send_signal(signal.SIGINT)
            return lines
    raise AssertionError(f"it ended first: {lines}\n{process.stderr and process.stderr.read()}")


def finish(process: subprocess.Popen[str], returncode: int | None = 0) -> tuple[str, str]:
    """Wait for the process to end, check its exit status, and return both outputs."""
    try:
        out, err = process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError(f"it did not end: {process.communicate()}") from None
    if returncode is not None:
        assert process.returncode == returncode, (out, err)
    return out, err


# -- One run after the other -----------------------------------------------------------------------

REPEATED = """
    import gc, os, resource, sys, threading, time
    import anyio, asyncio
    from aioca._channels import context as _context
    from aioca._ca import tokens as _tokens
    from aioca import caget, camonitor, caput, get_channel_infos

    how = sys.argv[1]

    async def main():
        updates = 0
        def callback(value):
            nonlocal updates
            updates += 1
        async def async_callback(value):
            await anyio.sleep(10)
        camonitor([f"BUSY{i}" for i in range(20)], lambda value, index: callback(value))
        camonitor("TICK", async_callback)
        async with camonitor("TICK") as stream:
            await anext(stream)
        await caput("PV1", await caget("PV2"), wait=True)
        while updates < 20:
            await anyio.sleep(0.001)

    def once():
        if how == "trio.run":
            import trio
            trio.run(main)
        elif how == "asyncio.run":
            asyncio.run(main())
        else:
            anyio.run(main, backend=how)
        assert get_channel_infos() == [] and not _context.all_contexts(), "channels"
        assert _tokens.token_count() == 0, "tokens"

    def rss():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize() / 1e6

    def measure():
        gc.collect()
        return (
            len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")),
            threading.active_count(),
        )

    for _ in range(8):
        once()
    time.sleep(0.3)  # the threads of libca end after their circuit
    before, memory = measure(), rss()
    for _ in range(30):
        once()
    end = time.monotonic() + 5
    while any(a > b for a, b in zip(measure(), before)) and time.monotonic() < end:
        time.sleep(0.05)
    after = measure()
    assert all(a <= b for a, b in zip(after, before)), (before, after)
    assert rss() - memory < 8, (memory, rss())
    print("done")
"""


def test_repeated_runs(start: Callable[..., subprocess.Popen[str]]) -> None:
    """30 short runs, each with open monitors at its end, leave nothing behind.

    No channel, token, thread or file descriptor is left, and almost no memory.
    """
    processes = {
        how: start(REPEATED, how) for how in ("asyncio.run", "trio.run", "asyncio", "trio")
    }
    for how, process in processes.items():
        assert finish(process) == ("done\n", ""), how


async def _use_it(pv: str) -> None:
    await caput(pv, await caget(pv))


def test_runs_of_different_backends_in_turn(p: str) -> None:
    for _ in range(3):
        for backend in ("asyncio", "trio"):
            anyio.run(_use_it, p + "m:a", backend=backend)
            assert get_channel_infos() == []


# -- Several at once -------------------------------------------------------------------------------


@pytest.mark.parametrize("first_to_end", [0, 1])
@pytest.mark.parametrize(
    "backends", [("asyncio", "asyncio"), ("asyncio", "trio"), ("trio", "trio")], ids="+".join
)
def test_two_threads(p: str, backends: tuple[str, str], first_to_end: int) -> None:
    """Each thread has its own channel to the PV. The end of one does not affect the other."""
    pv = p + "ticks"
    updates: tuple[list[float], list[float]] = ([], [])
    wrong_thread: list[str] = []
    stop = (threading.Event(), threading.Event())
    errors: list[BaseException] = []

    async def main(which: int) -> None:
        thread = threading.current_thread()

        def callback(value: float) -> None:
            if threading.current_thread() is not thread:
                wrong_thread.append(threading.current_thread().name)
            updates[which].append(value)

        camonitor(pv, callback)
        while not stop[which].is_set():
            await anyio.sleep(0.005)  # poll: the event belongs to another thread
            await caget(pv)

    def loop(which: int) -> None:
        try:
            anyio.run(main, which, backend=backends[which])
        except BaseException as error:
            errors.append(error)

    def wait_for(condition: Callable[[], object]) -> None:
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end
            assert errors == []
            time.sleep(0.005)  # poll

    threads = [threading.Thread(target=loop, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: len(updates[0]) > 1 and len(updates[1]) > 1)
        assert [info.name for info in get_channel_infos()] == [pv, pv]
        stop[first_to_end].set()
        threads[first_to_end].join(10)
        assert [info.name for info in get_channel_infos()] == [pv]
        ended, going_on = len(updates[first_to_end]), len(updates[1 - first_to_end])
        wait_for(lambda: len(updates[1 - first_to_end]) > going_on + 1)
        assert len(updates[first_to_end]) == ended
    finally:
        for event in stop:
            event.set()
        for thread in threads:
            thread.join(10)
    assert errors == []
    assert wrong_thread == []
    assert get_channel_infos() == []


def test_purge_from_another_thread(p: str, backend: str) -> None:
    """Each loop closes its own channels. They can be used again at once."""
    seen: list[float] = []

    async def main() -> None:
        with anyio.fail_after(10):
            async with camonitor(p + "ticks") as updates:
                async for value in updates:  # ends when the monitor is closed
                    seen.append(value)
                    if len(seen) == 1:
                        thread.start()
        assert await caget(p + "m:a") is not None

    thread = threading.Thread(target=purge_channel_caches)
    anyio.run(main, backend=backend)
    thread.join()
    assert seen


def test_purge_with_no_loop() -> None:
    purge_channel_caches()
    purge_channel_caches()


# -- asyncio and trio in one thread ----------------------------------------------------------------


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
        asyncio.run(_use_it(p + "m:b"))
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


# -- Interpreter exit ------------------------------------------------------------------------------

EXIT = """
    import os, signal, sys, threading, time
    import anyio
    import aioca
    from aioca import camonitor
    backend, where, end = sys.argv[1:]
    pvs = [f"BUSY{i}" for i in range(50)]
    busy = threading.Event()
    count = 0

    def callback(value, index):
        global count
        count += 1
        if count > 1000:
            busy.set()

    async def main():
        camonitor(pvs * 10, callback)
        while not busy.is_set():
            await anyio.sleep(0.001)
        if where == "daemon":
            await anyio.sleep_forever()
        else:
            await over()

    async def over():
        if end == "SIGINT":
            print("interrupt me")
            await anyio.sleep_forever()
        finish()

    def finish():
        if end == "sys.exit":
            sys.exit(3)
        if end == "exception":
            raise ZeroDivisionError("on purpose")

    if where == "daemon":
        thread = threading.Thread(
            target=anyio.run, args=(main,), kwargs={"backend": backend}, daemon=True
        )
        thread.start()
        busy.wait()
        if end == "SIGINT":
            print("interrupt me")
            time.sleep(60)
        finish()
    else:
        aioca.run(main(), backend=backend)
"""

RETURN_CODES = {"normal": 0, "sys.exit": 3, "exception": 1, "SIGINT": -signal.SIGINT}


@both_backends
@pytest.mark.parametrize("where", ["main", "daemon"])
@pytest.mark.parametrize("end", RETURN_CODES)
@pytest.mark.parametrize("pairs", [1, pytest.param(10, marks=pytest.mark.soak)])
def test_exit_under_traffic(
    start: Callable[..., subprocess.Popen[str]], backend: str, where: str, end: str, pairs: int
) -> None:
    """The interpreter ends in different ways, during 5,000 updates a second.

    The loop has ended, or still runs in a daemon thread. The process does not abort, and aioca
    prints nothing on stderr.
    """
    started = ([start(EXIT, backend, where, end) for _ in range(2)] for _ in range(pairs))
    for process in itertools.chain.from_iterable(started):
        if end == "SIGINT":
            interrupt_at(process, "interrupt me")
        began = time.monotonic()
        _, err = finish(process, RETURN_CODES[end])
        if end == "SIGINT":
            assert time.monotonic() - began < 2
        if end in ("normal", "sys.exit"):
            assert err == ""
        else:
            last = err.rstrip().splitlines()[-1]
            assert last.startswith("KeyboardInterrupt" if end == "SIGINT" else "ZeroDivisionError")
            assert err.startswith("Traceback (most recent call last)")
            for noise in ("Exception ignored", "terminat", "Fatal", "CA.Client", "Event loop"):
                assert noise not in err


EXIT_AT_WORK = """
    import sys, threading, time
    import anyio, aioca
    from aioca import caget, camonitor, caput

    backend, work, delay = sys.argv[1:]
    pvs = [f"BUSY{i}" for i in range(50)] * 6
    begun = threading.Event()

    async def main():
        await caget(pvs)
        while True:
            if work == "stream":
                async with camonitor(pvs) as updates:
                    async for value in updates:
                        begun.set()
            for subscription in camonitor(pvs, lambda value, index: None):
                subscription.close()
            await caget(pvs)
            begun.set()

    def run():
        try:
            aioca.run(main(), backend=backend)
        except (aioca.CADisconnected, RuntimeError):
            pass  # it was closed meanwhile; there is nothing any more that it could use

    threading.Thread(target=run, daemon=True).start()
    begun.wait()
    time.sleep(float(delay))
"""


@both_backends
@pytest.mark.parametrize("work", ["stream", "calls"])
@pytest.mark.parametrize("times", [3, pytest.param(30, marks=pytest.mark.soak)])
def test_exit_with_a_daemon_at_work(
    start: Callable[..., subprocess.Popen[str]], backend: str, work: str, times: int
) -> None:
    """The loop of a daemon thread continues to run while its channels are being closed."""
    for number in range(times):
        _, err = finish(start(EXIT_AT_WORK, backend, work, 0.01 * number), 0)
        assert err == "" or "never retrieved" in err  # asyncio's report about a task


def test_exit_in_a_callback(start: Callable[..., subprocess.Popen[str]]) -> None:
    """sys.exit() in a callback ends the program, as in any callback of asyncio."""
    program = """
        import asyncio, sys
        from aioca import camonitor
        async def main():
            camonitor("TICK", lambda value: sys.exit(4))
            await asyncio.sleep(60)
        asyncio.run(main())
    """
    assert finish(start(program), 4) == ("", "")


# -- fork ------------------------------------------------------------------------------------------

FORK = """
    import os, sys, warnings
    import anyio
    from aioca._ca import tokens as _tokens
    from aioca import caget, camonitor, caput, get_channel_infos
    backend, when = sys.argv[1:]
    warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: fork with threads
    updates = 0

    def callback(value):
        global updates
        updates += 1

    async def use():
        with anyio.fail_after(10):
            await caput("PV1", 3, wait=True)
            assert await caget("PV1") == 3
            async with camonitor("TICK") as stream:
                await anext(stream)
                await anext(stream)

    def child():
        status = 1
        try:
            assert get_channel_infos() == []
            assert _tokens.token_count() == 0
            # Where the fork was made inside a run, that run is the parent's; ours is a thread's.
            import threading
            failed = []
            def thread():
                try:
                    anyio.run(use, backend=backend)
                except BaseException as error:
                    failed.append(error)
            t = threading.Thread(target=thread)
            t.start()
            t.join()
            assert not failed, failed
            assert get_channel_infos() == []
            status = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            if when == "exits":
                sys.exit(status)
            os._exit(status)

    def fork():
        pid = os.fork()
        if not pid:
            child()
        return pid

    async def main():
        camonitor("TICK", callback)
        await use()
        if when == "inside":
            pid = fork()
            before = updates
            status = await anyio.to_thread.run_sync(lambda: os.waitpid(pid, 0)[1])
            assert status == 0, status
            assert updates > before  # the parent went on meanwhile
        await use()

    anyio.run(main, backend=backend)
    if when != "inside":
        assert os.waitpid(fork(), 0)[1] == 0
    anyio.run(main, backend=backend) if when != "inside" else anyio.run(use, backend=backend)
    print("done")
"""


@both_backends
@pytest.mark.parametrize("when", ["inside", "between", "exits"])
def test_fork(start: Callable[..., subprocess.Popen[str]], backend: str, when: str) -> None:
    """The child starts without channels or contexts and can make its own; the parent goes on."""
    out, err = finish(start(FORK, backend, when))
    assert out == "done\n"
    # libCom prints this for each thread that is started in a forked child.
    err = err.replace("Warning: Undefined Behavior!\n", "")
    err = err.replace("         Detected use of epicsThread from child process after fork()\n", "")
    assert err == ""


EXIT_BESIDE_A_BUSY_LOOP = """
    import sys, threading, time
    import anyio
    from aioca import caget, camonitor, caput
    backend, debug = sys.argv[1:]
    ready = threading.Event()

    async def waits():
        await caget("absent", timeout=None)

    async def iterates():
        async with camonitor("PV1") as updates:
            async for value in updates:
                pass

    async def in_a_block():
        async with camonitor("PV1", print):
            await anyio.sleep_forever()

    async def main():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(waits)
            tasks.start_soon(iterates)
            tasks.start_soon(in_a_block)
            camonitor("PV1", print, task_group=tasks)
            camonitor("absent", print, connect_timeout=100)
            await caput("PV1", await caget("PV1"))
            await anyio.wait_all_tasks_blocked()
            ready.set()
            time.sleep(100)  # it does not come to serve anything any more

    options = {"debug": True} if debug == "debug" else {}
    threading.Thread(
        target=anyio.run, args=(main,), kwargs={"backend": backend, "backend_options": options},
        daemon=True,
    ).start()
    ready.wait()
"""


@pytest.mark.parametrize(
    ("backend", "debug"), [("asyncio", ""), ("asyncio", "debug"), ("trio", "")]
)
def test_exit_beside_a_loop_that_is_busy(
    start: Callable[..., subprocess.Popen[str]], backend: str, debug: str
) -> None:
    """A loop in a daemon thread is busy for longer than the exit waits for it.

    The main thread then closes its operations, and nothing is reported.
    """
    _, err = finish(start(EXIT_BESIDE_A_BUSY_LOOP, backend, debug))
    assert err == ""


GIVEN_UP = """
    import asyncio, time
    import trio
    from aioca import caget, camonitor

    async def waits():
        await caget("absent", timeout=None)

    async def guest():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waits)
            camonitor("TICK", lambda value: ready.set(), connect_timeout=100)
            async with camonitor("TICK") as updates:
                async for value in updates:
                    pass

    async def main():
        global ready
        ready = asyncio.Event()
        loop = asyncio.get_running_loop()
        trio.lowlevel.start_guest_run(
            guest, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=print)
        await ready.wait()

    asyncio.run(main())
    print("done")
"""


def test_exit_with_a_guest_that_was_given_up(start: Callable[..., subprocess.Popen[str]]) -> None:
    """The host has ended before the guest, which trio reports. aioca closes its channels."""
    out, err = finish(start(GIVEN_UP))
    assert out == "done\n"
    assert "aioca" not in err
    assert "please report this" not in err


# -- A context that exists already -----------------------------------------------------------------

ADOPTED = """
    import ctypes, sys
    import anyio
    from epicscorelibs.ca import cadef
    libca = ctypes.CDLL(cadef.libca._name)  # the same library, without the prototypes of cadef
    libca.ca_current_context.restype = ctypes.c_void_p
    libca.ca_pend_io.argtypes = [ctypes.c_double]
    backend, preemptive = sys.argv[1], int(sys.argv[2])
    assert libca.ca_context_create(preemptive) == 1
    mine = libca.ca_current_context()
    assert mine

    def use_mine():
        assert libca.ca_current_context() == mine
        chid, value = ctypes.c_void_p(), ctypes.c_double()
        assert libca.ca_create_channel(b"PV2", None, None, 0, ctypes.byref(chid)) == 1
        assert libca.ca_pend_io(5.0) == 1
        assert libca.ca_array_get(6, 1, chid, ctypes.byref(value)) == 1
        assert libca.ca_pend_io(5.0) == 1
        assert value.value == 5.0
        assert libca.ca_clear_channel(chid) == 1

    libca.ca_create_channel.argtypes = [
        ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p]
    libca.ca_array_get.argtypes = [
        ctypes.c_long, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_void_p]
    libca.ca_clear_channel.argtypes = [ctypes.c_void_p]
    use_mine()
    from aioca import caget, camonitor, caput, configure

    async def main():
        with anyio.fail_after(10):
            await caput("PV1", 3, wait=True)
            assert await caget("PV1") == 3
            async with camonitor("TICK") as updates:
                await anext(updates)
                await anext(updates)
            use_mine()
            camonitor("TICK", lambda value: None)

    if preemptive:
        for _ in range(2):
            anyio.run(main, backend=backend)
            use_mine()
        libca.ca_context_destroy()
        anyio.run(lambda: caget("PV2"), backend=backend)  # a context of our own, then
        print("done")
    else:
        try:
            anyio.run(main, backend=backend)
        except RuntimeError as error:
            print(error)
        use_mine()
        # libca has read nothing on our behalf, so there is still something to set
        configure(conn_tmo=20)
"""


@both_backends
def test_adopted_context(start: Callable[..., subprocess.Popen[str]], backend: str) -> None:
    """aioca shares a context of the thread. It stays current and usable, and its owner's."""
    assert finish(start(ADOPTED, backend, 1)) == ("done\n", "")


@both_backends
def test_context_without_preemption(
    start: Callable[..., subprocess.Popen[str]], backend: str
) -> None:
    out, err = finish(start(ADOPTED, backend, 0))
    assert "without preemptive callbacks" in out
    assert err == ""


# -- run() -----------------------------------------------------------------------------------------


def test_run_returns_the_result(p: str, backend: str) -> None:
    async def main() -> str:
        return (await caget(p + "m:a")).name

    assert run(main(), backend=backend) == p + "m:a"
    assert get_channel_infos() == []


def test_run_on_asyncio_by_default() -> None:
    async def main() -> object:
        return asyncio.get_running_loop()

    assert run(main()) is not None


@pytest.mark.parametrize("forever", [False, True])
def test_run_raises_what_the_coroutine_raised(backend: str, forever: bool) -> None:
    error = LookupError("mine")

    async def main() -> None:
        await anyio.lowlevel.checkpoint()
        raise error

    with pytest.raises(LookupError) as info:
        run(main(), forever, backend=backend)
    assert info.value is error


def test_run_with_an_unknown_backend() -> None:
    """An error names the backend. There is no warning about a coroutine never awaited."""

    async def main() -> None:
        raise AssertionError("it ran")

    with pytest.raises(LookupError, match="curio"):
        run(main(), backend="curio")


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="not set")


@pytest.mark.parametrize("outer", ["asyncio", "anyio-asyncio", "anyio-trio"])
@pytest.mark.parametrize("way", ["asyncio.to_thread", "anyio.to_thread", "thread"])
def test_run_in_a_thread_of_a_task(p: str, outer: str, way: str, backend: str) -> None:
    """No loop runs in the thread, though it has the context variables of the task."""

    async def inner() -> tuple[str, str]:
        async with camonitor(p + "m:a", lambda _: None):
            assert await caget(p + "m:a") is not None
        return VARIABLE.get(), type(asyncio._get_running_loop()).__name__

    def blocking() -> tuple[str, str] | None:
        return run(inner(), backend=backend)

    async def main() -> tuple[str, str] | None:
        VARIABLE.set("of the task")
        if way == "asyncio.to_thread" and not outer.endswith("trio"):
            return await asyncio.to_thread(blocking)
        if way == "anyio.to_thread":
            return await anyio.to_thread.run_sync(blocking)
        results: list[Any] = []  # from Python 3.14 on, a thread inherits the variables
        inherited = contextvars.copy_context()
        thread = threading.Thread(target=lambda: results.append(inherited.run(blocking)))
        thread.start()
        thread.join()
        assert await caget(p + "m:b") is not None
        return results[0]  # type: ignore[no-any-return]

    if outer == "asyncio":
        result = asyncio.run(main())
    else:
        result = anyio.run(main, backend=outer.removeprefix("anyio-"))
    assert result is not None
    assert result[0] == "of the task"
    assert (result[1] == "NoneType") == (backend == "trio")


@pytest.mark.parametrize("within", ["task", "callback"])
@pytest.mark.parametrize("outer", ["asyncio", "trio"])
def test_run_where_a_loop_runs(backend: str, outer: str, within: str) -> None:
    """The error says what to do instead. There is no warning about a coroutine never awaited."""

    async def inner() -> None:
        raise AssertionError("it ran")

    def nested() -> None:
        with pytest.raises(RuntimeError, match=r"already running in this thread: await the"):
            run(inner(), backend=backend)
        done.append(True)

    async def main() -> None:
        if within == "task":
            nested()
        elif outer == "asyncio":
            asyncio.get_running_loop().call_soon(nested)
        else:
            trio.lowlevel.current_trio_token().run_sync_soon(nested)
        with anyio.fail_after(10):
            while not done:
                await anyio.sleep(0.001)  # poll

    done: list[bool] = []
    anyio.run(main, backend=outer)


RUN = """
    import sys
    import anyio
    from aioca import camonitor, run
    backend, forever, shape = sys.argv[1], sys.argv[2] == "True", sys.argv[3]

    async def main():
        said = []

        def callback(value):  # main is at rest by then: Ctrl-C must not hit it elsewhere
            if not said:
                said.append(print("running"))

        camonitor("TICK", callback)
        if shape == "has tasks":
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep_forever)
        if shape == "waits":
            await anyio.sleep_forever()

    run(main(), forever, backend=backend)
    print("went on")
"""


@both_backends
@pytest.mark.parametrize("shape", ["returns", "waits", "has tasks"])
def test_run_forever_ends_with_ctrl_c(
    start: Callable[..., subprocess.Popen[str]], backend: str, shape: str
) -> None:
    """There is no traceback, and the program continues after run()."""
    process = start(RUN, backend, True, shape)
    interrupt_at(process, "running")
    assert finish(process) == ("went on\n", "")


@both_backends
def test_run_raises_keyboard_interrupt_unless_forever(
    start: Callable[..., subprocess.Popen[str]], backend: str
) -> None:
    process = start(RUN, backend, False, "waits")
    interrupt_at(process, "running")
    out, err = finish(process, -signal.SIGINT)
    assert out == ""
    assert err.rstrip().splitlines()[-1] == "KeyboardInterrupt"


SEED = """
    from aioca import caget, caput, camonitor, run
    async def do_stuff():
        await caput('PV1', 1234)
        print(await caget('PV2'))
        def callback(value):
            print('callback', value)
        camonitor('PV3', callback)
    run(do_stuff(), forever=True{})
"""


@pytest.mark.parametrize("backend", ["", ", backend='trio'"], ids=["asyncio", "trio"])
def test_seed_program(
    start: Callable[..., subprocess.Popen[str]], busy_ioc: SoftIoc, backend: str
) -> None:
    """The first program of the documentation, unchanged."""
    busy_ioc.command("dbpf PV1 0")
    process = start(SEED.format(backend))
    lines = interrupt_at(process, "callback 0.0")
    assert lines == ["5.0", "callback 0.0"]
    assert finish(process) == ("", "")
    assert "1234" in busy_ioc.command("dbgf PV1")
