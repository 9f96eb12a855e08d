"""Faults on the way between client and server, made by a proxy.

The IOC is at a port at which nobody searches. Two proxies lead to it: a faulty one, and one that
works, for names that end in ``:direct``, which are aliases of the same records. So a test can
look at a record, and write to it, beside the way that it has just broken.

In none of these tests may Channel Access block the loop: see `heartbeat`.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import random
import secrets
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
import numpy as np
import pytest
from line import Line, Way
from program import Program
from proxy import CaProxy

import aioca
from aioca import (
    CADisconnected,
    CANothing,
    CATimeout,
    caget,
    cainfo,
    camonitor,
    caput,
    connect,
    purge_channel_caches,
    wait_for_value,
)
from aioca.testing import SoftIoc, loopback_environment
from conftest import PORTS

pytestmark = pytest.mark.anyio

SHORT = 0.2  # seconds for a call that is to fail
GRACE = 1.0  # that it may be late by, on a busy machine
BIG = 100_000  # elements of the waveforms: 800 kB
MANY_BIG = 10  # of them
LINES = 30

DATABASE = """
    record(ao, "$(P)x") { field(FLNK, "$(P)x:history") }
    record(compress, "$(P)x:history") {
        field(INP, "$(P)x") field(ALG, "Circular Buffer") field(NSAM, "500")
    }
    record(waveform, "$(P)w") {
        field(FTVL, "DOUBLE") field(NELM, "100000") field(FLNK, "$(P)w:first")
    }
    record(calc, "$(P)w:first") {
        field(INPA, "$(P)w") field(CALC, "A") field(FLNK, "$(P)w:history")
    }
    record(compress, "$(P)w:history") {
        field(INP, "$(P)w:first") field(ALG, "Circular Buffer") field(NSAM, "500")
    }
    alias("$(P)x", "$(P)x:direct")
    alias("$(P)w", "$(P)w:direct")
    alias("$(P)x:history", "$(P)x:history:direct")
    alias("$(P)w:history", "$(P)w:history:direct")
"""


def big_records(count: int) -> str:
    """Arrays of which it is known what they have been written with."""
    return "".join(
        f"""
        record(waveform, "$(P)b{i}") {{
            field(FTVL, "DOUBLE") field(NELM, "100000") field(FLNK, "$(P)b{i}:first")
        }}
        record(calc, "$(P)b{i}:first") {{
            field(INPA, "$(P)b{i}") field(CALC, "A") field(FLNK, "$(P)b{i}:history")
        }}
        record(compress, "$(P)b{i}:history") {{
            field(INP, "$(P)b{i}:first") field(ALG, "Circular Buffer") field(NSAM, "500")
        }}
        alias("$(P)b{i}:history", "$(P)b{i}:history:direct")
        """
        for i in range(count)
    )


def lines_of_records(count: int) -> str:
    """Arrays and numbers, of which each will have a line of its own."""
    return "".join(
        f"""
        record(waveform, "$(P)w{i}") {{ field(FTVL, "DOUBLE") field(NELM, "5000") }}
        record(ao, "$(P)x{i}") {{ field(FLNK, "$(P)x{i}:history") }}
        record(compress, "$(P)x{i}:history") {{
            field(INP, "$(P)x{i}") field(ALG, "Circular Buffer") field(NSAM, "500")
        }}
        alias("$(P)w{i}", "$(P)w{i}:direct")
        alias("$(P)x{i}", "$(P)x{i}:direct")
        alias("$(P)x{i}:history", "$(P)x{i}:history:direct")
        """
        for i in range(count)
    )


# -- Where it all takes place ----------------------------------------------------------------------


class Net(NamedTuple):
    """An IOC and the ways to it."""

    ioc: SoftIoc
    proxy: CaProxy  # the faulty one
    p: str  # the prefix of the records

    async def history(self, record: str) -> list[float]:
        """The values that the record has been processed with since `forget`."""
        return list(await caget(f"{self.p}{record}:history:direct", timeout=10))

    async def forget(self, record: str) -> None:
        await caput(f"{self.p}{record}:history:direct.RES", 1, wait=True)


@pytest.fixture(scope="module")
def hidden_ioc() -> Iterator[SoftIoc]:
    database = DATABASE + big_records(MANY_BIG) + lines_of_records(LINES)
    with SoftIoc(database, {"P": f"F{secrets.token_hex(4)}:"}) as ioc:
        yield ioc


def is_direct(name: str) -> bool:
    return name.partition(".")[0].endswith(":direct")


@pytest.fixture
def net(hidden_ioc: SoftIoc) -> Iterator[Net]:
    with (
        CaProxy(PORTS[1], hidden_ioc.port, passes=lambda name: not is_direct(name)) as proxy,
        CaProxy(PORTS[2], hidden_ioc.port, passes=is_direct),
    ):
        yield Net(hidden_ioc, proxy, str(hidden_ioc.macros["P"]))


async def until(condition: Callable[[], bool], timeout: float = 20) -> None:
    """For what there is no event for."""
    with anyio.fail_after(timeout):
        while not condition():
            await anyio.sleep(0.005)


@contextlib.contextmanager
def ends_after(seconds: float) -> Iterator[None]:
    """It must take so long, but for what a busy machine makes of it."""
    begun = time.monotonic()
    yield
    took = time.monotonic() - begun
    assert seconds - 0.02 < took < seconds + GRACE, took


def is_whole(value: Any, count: int) -> bool:
    """Whether an array is one that was written: of one number only."""
    return len(value) == count and bool((value == value[0]).all())


# -- The loop is not blocked -----------------------------------------------------------------------

LONGEST = 0.05
_SOURCES = str(Path(aioca.__file__).parent)


class Heart:
    """A task that wants to run every 5 ms, and a thread that looks at what else the loop does.

    On a busy machine a loop is late for reasons that are none of ours. So a gap counts only

    - if the loop's thread slept in one and the same call that aioca had made, as often as it was
      looked at: it waited there, for a lock or for a server; or
    - if that thread itself has used the time, and in aioca; but not for collecting garbage, which
      takes the longer the more there is in the process.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self.beats = 0
        self.faults: list[str] = []
        self._thread = threading.get_ident()
        self._state = Path(f"/proc/self/task/{threading.get_native_id()}/stat")
        self._last = time.monotonic()
        self._stop = threading.Event()
        self._collecting = 0.0  # seconds that the loop's thread has collected garbage for
        gc.callbacks.append(self._collects)
        self._seen: list[str] = []  # in this gap: where it was, or "" if that was not in aioca
        self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._watcher.start()

    async def beat(self) -> None:
        used = time.thread_time() - self._collecting
        while True:
            self._last = time.monotonic()
            self._seen = []
            await anyio.sleep(0.005)
            gap, before = time.monotonic() - self._last, used
            used = time.thread_time() - self._collecting
            self.longest = max(self.longest, gap)
            ours = list(filter(None, self._seen))
            if gap > LONGEST and used - before > LONGEST and len(ours) > len(self._seen) / 2:
                self.faults.append(f"worked for {used - before:.3f} s in {Counter(ours)}")
            self.beats += 1

    def _collects(self, phase: str, info: dict[str, int]) -> None:
        if threading.get_ident() == self._thread:
            self._collecting += time.thread_time() * (1 if phase == "stop" else -1)

    async def next_beat(self) -> None:
        beats = self.beats
        while self.beats == beats:
            await anyio.sleep(0.001)

    def _watch(self) -> None:
        """Thread."""
        place: tuple[object, ...] = ()
        since, looks = 0.0, 0
        while not self._stop.wait(0.004):
            now = time.monotonic()
            if now - self._last < 0.015:
                place = ()
                continue
            frame = sys._current_frames().get(self._thread)
            if frame is None:
                continue
            file = frame.f_code.co_filename
            ours = file.startswith(_SOURCES)
            self._seen.append(f"{Path(file).name}:{frame.f_code.co_name}" if ours else "")
            if not ours or not self._sleeps():
                place = ()
                continue
            here = self._last, file, frame.f_lineno, frame.f_lasti
            del frame
            if here != place:
                place, since, looks = here, now, 0
            looks += 1
            if now - since > LONGEST and looks > 5:
                self.faults.append(f"slept for {now - since:.3f} s in {file}:{here[2]}")

    def _sleeps(self) -> bool:
        return self._state.read_text().rpartition(")")[2].split()[0] in "SD"

    def stop(self) -> None:
        gc.callbacks.remove(self._collects)
        self._stop.set()
        self._watcher.join()


@contextlib.asynccontextmanager
async def heartbeat() -> AsyncIterator[Heart]:
    """A block in which Channel Access may not block the loop for more than 50 ms."""
    heart = Heart()
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(heart.beat)
            await heart.next_beat()
            yield heart
            await heart.next_beat()
            group.cancel_scope.cancel()
    finally:
        heart.stop()
    assert not heart.faults, heart.faults[-1]


async def test_heartbeat_notices() -> None:
    """A call into C that waits, if it is the package's; what the test does itself is its affair."""
    async with heartbeat() as heart:
        time.sleep(0.2)
    assert heart.longest > 0.19
    lock = threading.Lock()
    with lock, pytest.raises(AssertionError, match="slept"):
        async with heartbeat():
            waits = compile("lock.acquire(timeout=0.2)", f"{_SOURCES}/no_such_file.py", "exec")
            exec(waits, {"lock": lock})
    with pytest.raises(AssertionError, match="worked"):
        async with heartbeat():
            text = "for _ in range(5_000_000): pass"
            works = compile(text, f"{_SOURCES}/no_such_file.py", "exec")
            exec(works)
            await anyio.sleep(0.01)


# -- Stalled ---------------------------------------------------------------------------------------


async def test_get_that_stalls(net: Net) -> None:
    """It ends by its deadline; its reply, which comes late, is taken for that of no other."""
    pv = net.p + "w"
    await caput(pv + ":direct", np.full(BIG, 1.0), wait=True)
    await connect(pv)
    async with heartbeat():
        net.proxy.stall_after(300_000, Way.TO_CLIENT)
        for _ in range(2):  # in the middle of the reply, and behind that
            with (
                ends_after(SHORT),
                pytest.raises(CATimeout, match=r"reading.*not replied") as caught,
            ):
                await caget(pv, timeout=SHORT)
            assert caught.value.name == pv
            assert pv in str(caught.value)
        await net.proxy.until(lambda: Way.TO_CLIENT in net.proxy.stalled)
        (nothing,) = await caget([pv], timeout=SHORT, throw=False)
        assert not nothing
        assert (nothing.name, nothing.ok) == (pv, False)
        await caput(pv + ":direct", np.full(BIG, 2.0), wait=True)
        net.proxy.resume()
        value = await caget(pv)
        assert is_whole(value, BIG)
        assert value[0] == 2


@pytest.mark.parametrize("way", [Way.TO_SERVER, Way.TO_CLIENT, Way.BOTH], ids=str)
async def test_put_that_stalls(net: Net, way: Way) -> None:
    """That it may have been carried out is said; and it is, once, when the server hears of it."""
    pv = net.p + "x"
    await net.forget("x")
    await caput(pv, 1, wait=True)
    async with heartbeat():
        net.proxy.stall(way)
        with ends_after(SHORT), pytest.raises(CATimeout, match=r"writing.*unknown") as caught:
            await caput(pv, 2, wait=True, timeout=SHORT)
        assert caught.value.name == pv
        assert pv in str(caught.value)
        if way is Way.TO_CLIENT:
            assert await net.history("x") == [1, 2]
        else:
            assert await net.history("x") == [1]
        net.proxy.resume()
        await caput(pv, 3, wait=True)
        assert await net.history("x") == [1, 2, 3]
        assert await caget(pv) == 3


async def test_put_that_stalls_in_its_middle(net: Net) -> None:
    pv = net.p + "w"
    await net.forget("w")
    await connect(pv)
    async with heartbeat():
        net.proxy.stall_after(300_000, Way.TO_SERVER)
        with ends_after(SHORT), pytest.raises(CATimeout, match="unknown") as caught:
            await caput(pv, np.full(BIG, 7.0), wait=True, timeout=SHORT)
        assert caught.value.name == pv
        assert await net.history("w") == []
        net.proxy.resume()
        await caput(pv, np.full(BIG, 8.0), wait=True)
        assert await net.history("w") == [7, 8]
        value = await caget(pv)
        assert is_whole(value, BIG)
        assert value[0] == 8


async def test_monitor_that_stalls(net: Net) -> None:
    """Nothing comes meanwhile; then what was on its way, in order, and the last value."""
    pv = net.p + "x"
    await caput(pv + ":direct", 0, wait=True)
    async with (
        heartbeat(),
        camonitor(pv, all_updates=True) as updates,
        camonitor(pv) as latest,
    ):
        assert await anext(updates) == 0
        assert await anext(latest) == 0
        net.proxy.stall(Way.TO_CLIENT)
        for value in range(1, 51):
            await caput(pv + ":direct", value, wait=True)
        with anyio.move_on_after(0.1) as scope:  # nothing must come
            await anext(updates)
        assert scope.cancelled_caught
        with ends_after(SHORT), pytest.raises(CATimeout) as caught:
            await wait_for_value(pv, 50, timeout=SHORT)
        assert caught.value.name == pv
        assert pv in str(caught.value)
        net.proxy.resume()
        seen = [0.0]
        with anyio.fail_after(10):
            while seen[-1] != 50:
                seen.append(+await anext(updates))
            while await anext(latest) != 50:
                pass
        assert seen == sorted(set(seen))


# -- The other server ------------------------------------------------------------------------------


async def test_server_beside_one_that_stalls(
    net: Net, own_ioc: Callable[..., SoftIoc], unique: str
) -> None:
    """Its gets and monitors go on undisturbed: every update comes, none of them late."""
    other = SoftIoc(
        'record(calc, "$(P)tick") { field(SCAN, ".1 second") field(INPA, "$(P)tick")'
        ' field(CALC, "A+1") } record(ao, "$(P)y") {}',
        {"P": unique},
        port=PORTS[3],
    )
    bad, good = net.p + "x", unique + "y"
    with other:
        await connect([bad, good, unique + "tick"])
        async with (
            heartbeat() as heart,
            camonitor(unique + "tick", all_updates=True) as ticks,
            camonitor(bad) as updates,
            anyio.create_task_group() as group,
        ):
            await anext(updates)
            first = +await anext(ticks)
            net.proxy.stall()
            failed: list[CANothing] = []

            async def fail(how: Callable[..., Any], *args: Any, **options: Any) -> None:
                failed.append(await how(bad, *args, timeout=1, throw=False, **options))

            for number in range(10):
                group.start_soon(fail, caget)
                group.start_soon(lambda number=number: fail(caput, number, wait=True))
            slowest = 0.0
            for number in range(200):
                begun = time.monotonic()
                await caput(good, number, wait=True)
                assert await caget(good) == number
                slowest = max(slowest, time.monotonic() - begun - heart.longest)
            assert slowest < 0.2, slowest  # 1 ms, if the machine has nothing else to do
            seen = [+await anext(ticks) for _ in range(10)]
            assert seen == [first + 1 + i for i in range(10)]
            # Nor did one of them wait in the queue: the next one is yet to come.
            begun = time.monotonic()
            await anext(ticks)
            assert time.monotonic() - begun < 0.1 + GRACE
            with anyio.fail_after(1 + GRACE):
                await until(lambda: len(failed) == 20)
            assert {(one.name, one.ok) for one in failed} == {(bad, False)}
            net.proxy.resume()
            assert await caget(good) == 199
    # The puts that had timed out may still be carried out, after `resume`.
    await caget(bad)


# -- Writes that nobody takes ----------------------------------------------------------------------


def resident() -> int:
    """Bytes of memory that this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def test_big_puts_to_a_server_that_stalls(net: Net) -> None:
    """From about a megabyte on they are refused; what was said to be sent arrives, in order."""
    pv = net.p + "w"
    await net.forget("w")
    await connect(pv)
    value = np.empty(BIG)
    sent, unknown, refused = [], [], []
    async with heartbeat():
        net.proxy.stall()
        before = resident()
        for number in range(1, 51):
            value[:] = number
            try:
                await caput(pv, value, timeout=0.05 if number <= 10 else 0.005)
            except CATimeout as error:
                assert error.name == pv
                assert "not sent" in str(error)
                assert pv in str(error)
                refused.append(number)
            else:
                sent.append(number)
        assert sent == [1, 2], "800 kB are not over a megabyte, 1600 kB are"
        for number in range(51, 61):
            value[:] = number
            with ends_after(0.05), pytest.raises(CATimeout) as caught:
                await caput(pv, value, wait=True, timeout=0.05)
            assert caught.value.name == pv
            if "unknown" in str(caught.value):
                unknown.append(number)
            else:
                refused.append(number)
        assert len(unknown) < 3
        assert resident() - before < 16e6, "50 values have 40 MB"
        net.proxy.resume()
        last = 61
        value[:] = last
        with anyio.fail_after(20):
            await caput(pv, value, wait=True, timeout=None)
        done = await net.history("w")
        assert done == [*sent, *(n for n in done if n in unknown), last]
        assert len(done) == len(set(done))
        assert not set(done) & set(refused)
        got = await caget(pv)
        assert is_whole(got, BIG)
        assert got[0] == last
        # It takes writes again.
        await caput(pv, np.full(BIG, 62.0))
        await caput(pv, np.full(BIG, 63.0))
        await caput(pv, np.full(BIG, 64.0), wait=True)
        assert (await net.history("w"))[-3:] == [62, 63, 64]


async def test_nothing_blocks_behind_what_a_server_does_not_take(net: Net) -> None:
    """No request waits for libca's queue to drain: eight megabytes of writes are in it."""
    pvs = [f"{net.p}b{i}" for i in range(MANY_BIG)]
    for i in range(MANY_BIG):
        await net.forget(f"b{i}")
    await connect(pvs)
    small = net.p + "x"
    await caput(small, 1, wait=True)
    async with heartbeat():
        net.proxy.stall()
        await caput(pvs, np.full(BIG, 1.0), repeat_value=True)
        done = await caput(
            pvs, np.full(BIG, 2.0), repeat_value=True, wait=True, timeout=SHORT, throw=False
        )
        assert {(one.ok, "unknown" in str(one)) for one in done} == {(False, True)}
        got = await caget([small, *pvs], timeout=0.1, throw=False)
        assert [(one.name, one.ok) for one in got] == [(pv, False) for pv in (small, *pvs)]
        for _ in range(20):
            await caput(small, 2)
        async with camonitor(small) as updates:
            with anyio.move_on_after(0.1):  # nothing must come
                raise AssertionError(await anext(updates))
        with pytest.raises(CATimeout, match="unknown"):
            await caput(small, 3, wait=True, timeout=0.1)
        net.proxy.resume()
        with anyio.fail_after(20):
            await caput(pvs, np.full(BIG, 3.0), repeat_value=True, wait=True, timeout=None)
        for i in range(MANY_BIG):
            assert await net.history(f"b{i}") == [1, 2, 3]
        assert await caget(small) == 3


# -- Cut -------------------------------------------------------------------------------------------


class Follower:
    """A monitor of which everything is kept, and looked at as it comes."""

    def __init__(self, pv: str, count: int) -> None:
        self.pv = pv
        self.count = count
        self.values: list[float] = []
        self.disconnections = 0
        self.wrong: list[Any] = []
        self.subscription = camonitor(pv, self._update, all_updates=True, notify_disconnect=True)

    def _update(self, value: Any) -> None:
        if not value.ok:
            self.disconnections += 1
            if value.name != self.pv:
                self.wrong.append(value)
            return
        number = float(value[0] if self.count > 1 else value)
        whole = self.count == 1 or is_whole(value, self.count)
        # A value that was the last one before a reconnection comes again.
        if not whole or (self.values and number < self.values[-1]):
            self.wrong.append(+value)
        self.values.append(number)


@pytest.mark.parametrize(
    "reconnections",
    [0, pytest.param(3, marks=pytest.mark.soak)],
    ids=["once", "again and again"],
)
async def test_cut_at_any_byte(net: Net, reconnections: int) -> None:
    """Cut in the middle of messages: of a stream of arrays, and of writes and their replies.

    Every call ends; no value that was never written is delivered; a write is not repeated; and
    every monitor is told, once, comes back, and ends with the last value.

    Each PV has its own circuit. After a disconnection libca takes up to ten seconds to search:
    where there is no time for that, new channels show what was done.
    """
    patience = 2 if reconnections else 0.3
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # for who wants to see a failure again
    rng = random.Random(seed)
    number = 0
    stop = False

    async def write() -> None:
        """All arrays get the same new value, over and over."""
        nonlocal number
        while not stop:
            number += 1
            value = np.full(5000, float(number))
            await caput([pv + ":direct" for pv in arrays], value, repeat_value=True, wait=True)
            await anyio.sleep(0.01)

    async def read(pv: str) -> None:
        while not stop:
            at_least = number
            try:
                value = await caget(pv, timeout=patience)
            except (CADisconnected, CATimeout) as error:
                assert error.name == pv and pv in str(error)
                errors.add(pv)
            else:
                assert is_whole(value, 5000), value
                assert at_least - 1 <= value[0] <= number
            await anyio.sleep(rng.random() * 0.02)

    async def put(pv: str) -> None:
        """Different values, with wait; which of them have failed is kept."""
        for value in range(1, 400):
            if stop:
                return
            tried[pv] = value
            try:
                await caput(pv, value, wait=True, timeout=patience)
            except (CADisconnected, CATimeout) as error:
                assert error.name == pv
                failed[pv].append((value, str(error)))
            await anyio.sleep(0.01)

    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(Line(net.ioc.port)) for _ in range(LINES)]
        names = [net.p + ("w" if i % 3 else "x") + str(i) for i in range(LINES)]
        net.proxy.routes = dict(zip(names, lines, strict=True))
        arrays = [name for i, name in enumerate(names) if i % 3]
        scalars = [name for i, name in enumerate(names) if not i % 3]
        errors = set[str]()
        tried, failed = dict[str, int](), {pv: list[tuple[int, str]]() for pv in scalars}
        for pv in scalars:
            await net.forget(pv.removeprefix(net.p))
            await caput(pv + ":direct", 0, wait=True)
        await caput([pv + ":direct" for pv in arrays], np.zeros(5000), True, wait=True)
        await connect(names)
        assert all(line.opened == 1 for line in lines)
        async with heartbeat(), anyio.create_task_group() as group:
            followers = [Follower(pv, 5000 if pv in arrays else 1) for pv in names]
            await until(lambda: all(f.values for f in followers))
            group.start_soon(write)
            for pv in arrays:
                group.start_soon(read, pv)
            for pv in scalars:
                group.start_soon(put, pv)
            for wave in range(1, max(reconnections, 1) + 1):
                for i, line in enumerate(lines):
                    reset = rng.random() < 0.5
                    if i % 3:  # an update has 40 kB
                        line.cut_after(rng.randrange(300_000), Way.TO_CLIENT, reset=reset)
                    elif rng.random() < 0.5:  # a put-callback has 32 bytes to the server,
                        line.cut_after(rng.randrange(150), Way.TO_SERVER, reset=reset)
                    else:  # and 16 and an update of 24 from there
                        line.cut_after(rng.randrange(150), Way.TO_CLIENT, reset=reset)
                await until(lambda wave=wave: all(line.cuts == wave for line in lines))
                await until(lambda wave=wave: all(f.disconnections == wave for f in followers))
                if reconnections:
                    before = [len(f.values) for f in followers]
                    await until(
                        lambda before=before: all(
                            len(f.values) > n for f, n in zip(followers, before, strict=True)
                        )
                    )
            stop = True
        assert errors, "no get was under way at any cut"
        assert any(failed.values()), "no put was under way at any cut"
        assert all(follower.disconnections == wave for follower in followers)
        last = {pv: float(number) for pv in arrays}
        for pv in scalars:
            done = (await net.history(pv.removeprefix(net.p)))[1:]  # without that of the reset
            assert done == sorted(set(done)), "written twice, or not in order"
            known = {value for value, _ in failed[pv]}
            assert set(range(1, tried[pv] + 1)) - set(done) <= known, "lost without a word"
            assert all("unknown" in text or "connecting" in text for _, text in failed[pv])
            last[pv] = done[-1] if done else 0.0
        if reconnections:
            assert all(line.opened == wave + 1 for line in lines)
            await until(lambda: all(f.values[-1] == last[f.pv] for f in followers))
        for follower in followers:
            assert not follower.wrong, (follower.pv, follower.wrong[:3])
        if not reconnections:
            purge_channel_caches()  # the new ones are searched for at once
        for pv, value in zip(names, await caget(names), strict=True):
            assert pv in scalars or is_whole(value, 5000)
            assert np.max(value) == last[pv]
        purge_channel_caches()  # before the lines end


# -- Slow ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["delay", "trickle"])
async def test_slow_but_right(net: Net, fault: str) -> None:
    """Values come late, or a byte at a time: all of them, right, and in order."""
    x, w = net.p + "x", net.p + "w"
    await caput([x + ":direct", w + ":direct"], [0, np.zeros(300)], wait=True)
    await net.forget("x")
    async with heartbeat():
        if fault == "trickle":
            net.proxy.trickle()
        else:
            net.proxy.delay(0.02)
        async with camonitor(x, all_updates=True) as updates:
            assert await anext(updates) == 0
            for number in range(1, 6):
                await caput(x, number, wait=True)
                value = np.arange(300.0) + number
                _, array, scalar = (
                    await caput(w, value, wait=True),
                    *await caget([w, x]),
                )
                assert (array == value).all()
                assert scalar == number
            with anyio.fail_after(10):
                assert [+await anext(updates) for _ in range(5)] == list(range(1, 6))
        # Without wait, nothing is lost or overtaken either.
        for number in range(6, 41):
            await caput(x, number)
        await caput(x, 41, wait=True)
        assert await net.history("x") == list(range(1, 42))
        assert net.proxy.opened == 1


# -- Mute ------------------------------------------------------------------------------------------


async def test_server_that_accepts_and_says_nothing(net: Net) -> None:
    """Calls end by their deadline; when the circuit is cut, the channel finds the server."""
    pv = net.p + "x"
    async with heartbeat():
        net.proxy.mute()
        for function in (connect, cainfo, caget):
            with ends_after(SHORT), pytest.raises(CATimeout, match="connecting") as caught:
                await function(pv, timeout=SHORT)
            assert caught.value.name == pv
            assert pv in str(caught.value)
        with ends_after(SHORT), pytest.raises(CATimeout, match="connecting"):
            await caput(pv, 1, wait=True, timeout=SHORT)
        await net.proxy.until(lambda: net.proxy.muted >= 1)
        assert net.proxy.opened == 0
        net.proxy.mute(False)
        net.proxy.cut()
        assert await connect(pv, timeout=15)
        await caput(pv, 5, wait=True)
        assert await caget(pv) == 5


@pytest.mark.soak
async def test_server_that_has_been_mute_for_long(net: Net) -> None:
    """Likewise when the channel is no longer a young one: libca itself searches then."""
    pv = net.p + "x"
    async with heartbeat():
        net.proxy.mute()
        with ends_after(7), pytest.raises(CATimeout, match="connecting"):
            await connect(pv, timeout=7)
        assert net.proxy.muted == 1
        net.proxy.mute(False)
        net.proxy.cut(reset=False)
        assert await connect(pv, timeout=20)
        assert (await caget(pv, timeout=1)).ok


@pytest.mark.soak
async def test_server_that_stays_mute_is_not_waited_for(net: Net) -> None:
    """The circuit is never cut, but a new one is answered: so the channel gets one."""
    pv = net.p + "x"
    async with heartbeat():
        net.proxy.mute()
        with pytest.raises(CATimeout):
            await connect(pv, timeout=1)
        net.proxy.mute(False)
        assert await connect(pv, timeout=20)
        assert net.proxy.circuits == 1
        async with camonitor(pv) as updates:
            assert +await anext(updates) == await caget(pv)


@pytest.mark.parametrize(
    "found_again",
    [False, pytest.param(True, marks=pytest.mark.soak)],
    ids=["not besieged", "found again"],
)
async def test_server_that_answers_searches_but_refuses_to_be_connected_to(
    net: Net, found_again: bool
) -> None:
    """It is not besieged meanwhile; and found when it accepts again."""
    pv = net.p + "x"
    async with heartbeat():
        net.proxy.refuse()
        seconds = 5 if found_again else 1.5
        with ends_after(seconds), pytest.raises(CATimeout, match="connecting") as caught:
            await connect(pv, timeout=seconds)
        assert caught.value.name == pv
        # libca by itself searches once, and again after ten seconds. A PV that nobody has is
        # searched for about four times in the first half second, then ever more seldom: so for
        # each of the four channels that there may be here. Searched for anew at once after each
        # refusal, it would be 31 times a second.
        assert 1 <= net.proxy.searches <= 4 * 4, net.proxy.searches
        if found_again:
            net.proxy.refuse(False)
            assert await connect(pv, timeout=20)
            assert net.proxy.opened == 1


# -- Two servers with the same PV ------------------------------------------------------------------


async def test_two_servers_with_the_same_pv(
    own_ioc: Callable[..., SoftIoc], unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One of them is used, and stays the one; the log names the PV."""
    database = 'record(ao, "$(P)x") { field(VAL, "$(V)") field(PINI, "YES") }'
    iocs = [own_ioc(database, {"P": unique, "V": number}) for number in (1, 2)]
    for ioc in iocs:
        await anyio.to_thread.run_sync(ioc.start)
    pv = unique + "x"
    async with heartbeat(), camonitor(pv, notify_disconnect=True, all_updates=True) as updates:
        value = await anext(updates)
        mine, other = iocs if value == 1 else reversed(iocs)

        def said() -> bool:
            return any(
                record.name == "aioca"
                and record.levelno >= logging.WARNING
                and pv in record.getMessage()
                and str(other.port) in record.getMessage()
                for record in caplog.records
            )

        await until(said)
        host = (await cainfo(pv)).host
        assert host.endswith(f":{mine.port}")
        for _ in range(20):
            assert await caget(pv) == value
        # When the other one goes, that is none of its business.
        await anyio.to_thread.run_sync(other.kill)
        await caput(pv, 17, wait=True)
        assert await anext(updates) == 17
        assert (await cainfo(pv)).host == host
        assert mine.client_count() == 1


# -- Past the time at which a server counts as lost ------------------------------------------------

FOLLOW = """
    import json, sys
    import anyio
    from aioca import caget, camonitor, run

    async def main():
        def update(value):
            print(json.dumps(["update", float(value)] if value.ok else ["lost", value.name]))
        async with camonitor(sys.argv[1], update, all_updates=True, notify_disconnect=True):
            await anyio.to_thread.run_sync(sys.stdin.readline)
            print(json.dumps(["got", float(await caget(sys.argv[1], timeout=10))]))

    run(main(), backend=sys.argv[2])
"""
WRITE = """
    import sys
    from aioca import caput, run

    async def main():
        await caput(sys.argv[1], float(sys.argv[2]), wait=True)

    run(main())
"""


def environment(ports: list[int]) -> dict[str, str]:
    return {**loopback_environment(ports), "EPICS_CA_CONN_TMO": "2"}


def write(pv: str, value: float) -> None:
    """By another client."""
    with Program(WRITE, pv, value, environment=environment(PORTS)) as program:
        program.finish()


@pytest.mark.soak
def test_stalled_until_it_counts_as_lost(net: Net) -> None:
    """What the monitor then has last is what somebody else has written meanwhile. Both backends."""
    pv = net.p + "x"
    write(pv + ":direct", 1)
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(Program(FOLLOW, pv, name, environment=environment(PORTS)))
            for name in ("asyncio", "trio")
        ]
        for client in clients:
            assert client.event() == ["update", 1]
        net.proxy.stall()
        write(pv + ":direct", 2)
        for client in clients:
            assert client.event(20) == ["lost", pv]
        write(pv + ":direct", 3)
        net.proxy.resume()
        for client in clients:
            events = client.until(["update", 3], 30)
            # What was under way when it stalled may come before, and the last one twice.
            assert events in ([["update", 3]], [["update", 2], ["update", 3]])
        write(pv + ":direct", 4)
        for client in clients:
            assert client.until(["update", 4])[:-1] in ([], [["update", 3]])
            client.tell("")
            assert client.event() == ["got", 4]
            assert client.finish() == []


# -- Very many PVs ---------------------------------------------------------------------------------

MANY = 5000


@pytest.mark.soak
async def test_many_monitors_through_a_kill(own_ioc: Callable[..., SoftIoc], unique: str) -> None:
    """Each of them is told once that its PV has gone, and has the new value when it is back."""
    database = "".join(
        f'record(ao, "$(P){i}") {{ field(VAL, "{i}$(V)") field(PINI, "YES") }}\n'
        for i in range(MANY)
    )
    ioc = own_ioc(database, {"P": unique, "V": ".25"})
    await anyio.to_thread.run_sync(ioc.start)
    seen: list[list[float | None]] = [[] for _ in range(MANY)]
    left = MANY

    def update(index: int, value: Any) -> None:
        nonlocal left
        seen[index].append(+value if value.ok else None)
        left -= 1

    async with heartbeat():
        subscriptions = []
        for i in range(MANY):
            subscriptions.append(
                camonitor(
                    f"{unique}{i}", partial(update, i), all_updates=True, notify_disconnect=True
                )
            )
            if not i % 100:
                await anyio.sleep(0)
        await until(lambda: left <= 0, 60)
        assert seen == [[i + 0.25] for i in range(MANY)]
        left = MANY
        ioc.kill()
        await until(lambda: left <= 0, 30)
        assert all(values[1:] == [None] for values in seen)
        left = MANY
        ioc.macros["V"] = ".75"
        await anyio.to_thread.run_sync(ioc.start)
        await until(lambda: left <= 0, 90)
        assert seen == [[i + 0.25, None, i + 0.75] for i in range(MANY)]
        for i, subscription in enumerate(subscriptions):
            subscription.close()
            if not i % 100:
                await anyio.sleep(0)
