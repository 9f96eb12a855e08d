"""The portal passes jobs from libca's threads into the loop: it loses none and never blocks."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise
from types import SimpleNamespace

import anyio
import anyio.lowlevel
import pytest
import trio

from aioca import camonitor, get_channel_infos
from aioca._ca.thread_states import FREE_THREADED
from aioca._portal import queue
from aioca._portal.current import portal_for, running_loop
from aioca._portal.interface import Portal
from aioca.testing import SoftIoc

pytestmark = pytest.mark.anyio
WITH_UVLOOP = True
UNIT = True


@pytest.fixture
async def ended() -> list[str]:
    """The calls that `portal` makes at the end of its run."""
    return []


@pytest.fixture
async def portal(ended: list[str]) -> AsyncIterator[Portal]:
    """A separate portal into the loop of the test."""
    made = portal_for(running_loop())
    made.on_end(lambda: ended.append("ended"))
    yield made
    await made._sentinel.aclose()
    assert ended == ["ended"]


@pytest.fixture
def many_switches() -> Iterator[None]:
    """Make threads interrupt each other far more often than usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def no_deadlock() -> Iterator[None]:
    """End the process after a time: nothing else could end a loop that waits for a lock."""
    faulthandler.dump_traceback_later(60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def in_threads(*targets: Callable[[], None]) -> list[threading.Thread]:
    threads = [threading.Thread(target=target) for target in targets]
    for thread in threads:
        thread.start()
    return threads


# -- No job is lost or out of order ----------------------------------------------------------------


@pytest.mark.parametrize(
    "burst", [1, queue._MIN_PAIRS_TO_POLL - 1, queue._MIN_PAIRS_TO_POLL * 10], ids=str
)
async def test_every_job_in_order(portal: Portal, many_switches: None, burst: int) -> None:
    """Several threads post at once, in small bursts and in bursts that start the polling."""
    per_thread, seen = 3000, [[0], [0], [0]]
    wrong: list[tuple[int, int]] = []

    def job(which: int, number: int) -> None:
        if number != seen[which][0] + 1:
            wrong.append((which, number))
        seen[which][0] = number

    def thread(which: int) -> None:
        for number in range(1, per_thread + 1):
            portal.post(lambda number=number: job(which, number))
            if number % burst == 0:
                time.sleep(0)  # so that the loop drains in between

    threads = in_threads(*(lambda which=which: thread(which) for which in range(3)))
    with anyio.fail_after(20):
        while seen != [[per_thread]] * 3 and not wrong:
            await anyio.sleep(0.001)  # poll: there is no event for a lost job
    assert wrong == []
    for each in threads:
        each.join()


async def test_last_update_is_never_lost(portal: Portal, many_switches: None) -> None:
    """A subscription has one slot, and posts a job only if none is posted yet.

    The job clears the flag before it reads the slot. So the last value written is the last read.
    """
    rounds, per_round = 300, 40
    written = scheduled = read = 0
    arrived = anyio.Event()

    def deliver() -> None:
        nonlocal scheduled, read
        scheduled = 0
        read = written
        if read % per_round == 0:
            arrived.set()

    def update(value: int) -> None:
        nonlocal written, scheduled
        written = value
        if not scheduled:
            scheduled = 1
            portal.post(deliver)

    more = threading.Semaphore(0)

    def thread() -> None:
        for start in range(rounds):
            more.acquire()
            for value in range(per_round):
                update(start * per_round + value + 1)

    (running,) = in_threads(thread)
    with anyio.fail_after(20):
        for each in range(1, rounds + 1):
            arrived = anyio.Event()
            more.release()
            while read != each * per_round:
                await arrived.wait()
    running.join()


async def test_posted_during_the_drain(portal: Portal) -> None:
    """The jobs that a job posts run after all earlier jobs."""
    seen: list[object] = []
    done = anyio.Event()

    def first() -> None:
        portal.post(lambda: seen.append("posted by the first"))
        portal.post(done.set)
        seen.append("first")

    portal.post(first)
    portal.post(lambda: seen.append("second"))
    with anyio.fail_after(5):
        await done.wait()
    assert seen == ["first", "second", "posted by the first"]


async def test_job_that_raises(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is logged with its traceback. Later jobs run, and the loop is not affected."""
    records: list[logging.LogRecord] = []
    logger = logging.Logger("apart")  # a test fails if the real logger has such a record
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger.addHandler(handler)
    monkeypatch.setattr(queue, "logger", logger)
    done = anyio.Event()

    portal.post(lambda: 1 / 0)
    portal.post(done.set)
    with anyio.fail_after(5):
        await done.wait()
    (record,) = records
    assert "please report this" in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ZeroDivisionError)


# -- All tasks run ---------------------------------------------------------------------------------


async def _beat(beats: list[float]) -> None:
    while True:
        beats.append(time.monotonic())
        await anyio.lowlevel.checkpoint()


async def test_a_slow_queue_leaves_room_for_tasks(portal: Portal) -> None:
    """Many jobs are posted at once: the drain pauses from time to time."""
    beats: list[float] = []
    done = anyio.Event()
    for _ in range(400):
        portal.post(lambda: time.sleep(0.001))
    portal.post(done.set)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(_beat, beats)
            await done.wait()
            group.cancel_scope.cancel()
    # This is 400 ms of work. A drain reads the clock after every 16 jobs and stops after 5 ms. The
    # tasks had about 12 turns. Without pauses they would have almost none.
    assert len(beats) >= 6


async def test_flood_leaves_room_for_tasks(portal: Portal) -> None:
    """A thread posts without a pause: the tasks of the loop still run."""
    beats: list[float] = []
    stop = threading.Event()
    jobs = 0

    def job() -> None:
        nonlocal jobs
        jobs += 1

    def thread() -> None:
        while not stop.is_set():
            portal.post(job)
            if len(portal.queue) > 100_000:
                time.sleep(0.001)  # limits the memory

    (running,) = in_threads(thread)
    try:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(_beat, beats)
                while len(beats) < 20:  # then the flood is stopped
                    await anyio.sleep(0.01)
                group.cancel_scope.cancel()
    finally:
        stop.set()
        running.join()
    # Without a GIL the drain waits for the queue's lock, which the flood takes again and again
    assert jobs > (20 if FREE_THREADED else 1000)
    gaps = [after - before for before, after in pairwise(beats)]
    assert max(gaps) < 1  # on a busy machine; 0.02 on an idle one
    with anyio.fail_after(20):
        while portal.queue:
            await anyio.sleep(0.001)  # poll


async def test_lone_job_does_not_wait_for_the_poll(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next drain is delayed only if there are many jobs. The delay ends with the load."""
    monkeypatch.setattr(queue, "_POLL_SECONDS", 0.5)

    async def delivered() -> float:
        done = anyio.Event()
        start = time.monotonic()
        in_threads(lambda: portal.post(done.set))[0].join()
        with anyio.fail_after(5):
            await done.wait()
        return time.monotonic() - start

    for _ in range(5):
        assert await delivered() < 0.3
    for _ in range(queue._MIN_PAIRS_TO_POLL * 2):
        portal.post(lambda: None)
    while portal.queue:
        await anyio.lowlevel.checkpoint()
    assert 0.3 < await delivered() < 2.0  # delivered by polling
    for _ in range(5):
        assert await delivered() < 0.3


async def test_polling_stops_without_load(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The portal runs nothing in an idle loop."""
    drains = 0
    drain = type(portal)._drain

    def counted(self: Portal) -> None:
        nonlocal drains
        drains += 1
        drain(self)

    monkeypatch.setattr(type(portal), "_drain", counted)
    for _ in range(queue._MIN_PAIRS_TO_POLL * 2):
        portal.post(lambda: None)
    with anyio.fail_after(5):
        while portal.queue or portal.awake:
            await anyio.sleep(0.001)  # poll
    assert drains == 2  # one with the jobs, and one that finds none
    await anyio.sleep(0.05)  # many times _POLL_SECONDS: nothing must happen: no event to await
    assert drains == 2


# -- The end ---------------------------------------------------------------------------------------


def _run_for_portal(backend: str, ends: list[str], error: Exception | None) -> Portal:
    async def main() -> Portal:
        made.append(portal_for(running_loop()))
        made[0].on_end(lambda: ends.append(threading.current_thread().name))
        if error is not None:
            raise error
        return made[0]

    made: list[Portal] = []
    try:
        anyio.run(main, backend=backend)
    except ValueError as raised:
        assert raised is error
    return made[0]


@pytest.mark.parametrize("error", [None, ValueError("of main")], ids=["returned", "failed"])
def test_end_of_run(backend: str, error: Exception | None) -> None:
    """The portal reports the end once. Later jobs from any thread are silently dropped."""
    ends: list[str] = []
    portal = _run_for_portal(backend, ends, error)
    assert ends == [threading.current_thread().name]
    assert portal.is_closed()
    ran: list[int] = []
    in_threads(lambda: portal.post(lambda: ran.append(1)))[0].join()
    portal.post(lambda: ran.append(2))
    portal.close()
    assert ends == [threading.current_thread().name]
    assert ran == []


def test_loop_closed_without_telling() -> None:
    """The first post from a thread detects this, reports it once, and does not raise."""
    ends: list[str] = []
    errors: list[BaseException] = []

    async def main() -> Portal:
        portal = portal_for(running_loop())
        portal.on_end(lambda: ends.append(threading.current_thread().name))
        return portal

    loop = asyncio.new_event_loop()
    portal = loop.run_until_complete(main())
    loop.close()
    assert ends == []

    def post() -> None:
        try:
            for _ in range(3):
                portal.post(lambda: None)
        except BaseException as error:
            errors.append(error)

    (thread,) = in_threads(post)
    thread.join()
    assert errors == []
    assert ends == [thread.name]


def test_posts_while_the_run_ends(backend: str) -> None:
    """Threads post while the loop ends: there is no error, and no job runs after the end."""
    late: list[int] = []
    errors: list[BaseException] = []
    over = stop = False

    async def main() -> Portal:
        portal = portal_for(running_loop())
        portal.on_end(lambda: None)
        started.set()
        portals.append(portal)
        await anyio.sleep(0.02)  # some traffic, during which the run ends
        return portal

    def job() -> None:
        if over:
            late.append(1)

    def thread() -> None:
        try:
            started.wait()
            while not stop:
                for portal in portals:
                    portal.post(job)
                time.sleep(0)
        except BaseException as error:
            errors.append(error)

    started, portals = threading.Event(), list[Portal]()
    threads = in_threads(thread, thread)
    for _ in range(5):
        over = False
        portals.clear()
        anyio.run(main, backend=backend)
        over = True
        time.sleep(0.01)  # posts to the loop that has ended
    stop = True
    for each in threads:
        each.join()
    assert errors == []
    assert late == []


# -- Timers ----------------------------------------------------------------------------------------


async def test_after(portal: Portal) -> None:
    seen: list[str] = []
    done = anyio.Event()
    portal.after(0.01, lambda: seen.append("first"))
    cancelled = portal.after(0.02, lambda: seen.append("cancelled"))
    portal.after(0.05, done.set)
    cancelled()
    cancelled()
    with anyio.fail_after(5):
        await done.wait()
    assert seen == ["first"]


async def test_after_that_raises(portal: Portal, caplog: pytest.LogCaptureFixture) -> None:
    """Without handling, it would be an internal error of trio."""
    done = anyio.Event()

    def fail() -> None:
        portal.after(0.0, done.set)
        raise ZeroDivisionError

    portal.after(0.0, fail)
    with anyio.fail_after(5):
        await done.wait()
    assert "an internal job of aioca failed" in caplog.text
    caplog.clear()


def test_which_loop(backend: str) -> None:
    async def main() -> object:
        return running_loop()

    with pytest.raises(RuntimeError, match="no event loop is running"):
        running_loop()
    loop = anyio.run(main, backend=backend)
    expected = asyncio.AbstractEventLoop if backend == "asyncio" else trio.lowlevel.TrioToken
    assert isinstance(loop, expected)
    with pytest.raises(RuntimeError, match="no event loop is running"):
        running_loop()


# -- With libca ------------------------------------------------------------------------------------

FAST = "".join(
    f'record(calc, "$(P){i}") {{ field(SCAN, ".1 second") field(INPA, "$(P){i}")'
    ' field(CALC, "A+1") }\n'
    for i in range(100)
)


async def test_clear_during_callbacks(
    own_ioc: Callable[..., SoftIoc], unique: str, no_deadlock: None
) -> None:
    """ca_clear_subscription waits for a running callback, which needs the GIL.

    The callback posts to the loop that is waiting. There is no deadlock, as a post never blocks. No
    callback runs afterwards.
    """
    own_ioc(FAST, {"P": unique}).start()
    pvs = [f"{unique}{i}" for i in range(100)]
    updates = late = cycles = 0
    closed: set[int] = set()

    def callback(value: object, index: int) -> None:
        nonlocal updates
        updates += 1

    with anyio.fail_after(30):
        async with camonitor(pvs * 10, callback, all_updates=True):  # 10,000 in a second
            while updates < 1000:
                await anyio.lowlevel.checkpoint()
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                cycle = cycles

                def until_closed(value: object, index: int, cycle: int = cycle) -> None:
                    nonlocal late
                    late += cycle in closed

                some = camonitor(pvs, until_closed)
                for _ in range(cycles % 5):
                    await anyio.lowlevel.checkpoint()
                some.close()
                closed.add(cycle)
                cycles += 1
                await anyio.lowlevel.checkpoint()
    assert late == 0
    assert cycles > 10
    assert updates > 5000
    assert {info.subscriber_count for info in get_channel_infos()} == {0}


@pytest.mark.parametrize("seconds", [0.0, 0.001])
def test_trio_drains_at_the_end_of_its_run(seconds: float) -> None:
    """trio calls what is left in its queue, and a drain that finds more asks for another one."""
    portals: list[Portal] = []

    async def main() -> None:
        portals.append(portal_for(running_loop()))

    trio.run(main)
    portals[0]._drain_after(seconds)


# -- A late drain ----------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [True, False])
async def test_a_late_drain_lets_other_threads_queue_their_items(
    portal: Portal, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """A busy loop keeps the GIL: a thread of libca then has received more than it has queued."""
    received, pauses = iter(range(100)), 0
    numbers: list[int] = []
    portal.receivers[1] = SimpleNamespace(receive=numbers.append)

    def pause(seconds: float) -> None:  # the other thread runs: twice it has three items, then none
        nonlocal pauses
        pauses += 1
        assert 0 < seconds < 0.001
        if pauses <= 2:
            for _ in range(3):
                portal.put(1, next(received))

    monkeypatch.setattr(queue.time, "sleep", pause)
    for _ in range(2):
        portal.put(1, next(received))
    portal._due = time.monotonic() + (-1 if late else 60)
    portal._drain()
    assert (pauses, numbers) == ((3, list(range(8))) if late else (0, [0, 1]))


async def test_a_late_drain_does_not_wait_for_long(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that always queue more do not keep it."""
    sleep = time.sleep
    numbers: list[int] = []
    portal.receivers[1] = SimpleNamespace(receive=numbers.append)

    def pause(seconds: float) -> None:
        sleep(seconds)
        for _ in range(3):
            portal.put(1, 0)

    monkeypatch.setattr(queue.time, "sleep", pause)
    portal.put(1, 0)
    portal.put(1, 0)
    start = time.monotonic()
    portal._due = start - 1
    portal._drain()
    assert len(numbers) > 2
    assert time.monotonic() - start < 1
