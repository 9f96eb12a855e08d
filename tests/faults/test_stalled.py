"""A connection that stalls."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
import pytest

from aioca import CANothing, CATimeout, caget, camonitor, caput, connect, wait_for_value
from aioca.testing import SoftIoc
from tests.support.iocs import PORTS
from tests.support.line import Way
from tests.support.network import (
    GRACE,
    MANY_BIG,
    SHORT,
    SOURCES,
    Heart,
    Net,
    ends_after,
    heartbeat,
    is_whole,
)
from tests.support.waiting import until, wait_until

pytestmark = pytest.mark.anyio

BIG = 100_000  # elements of the waveforms: 800 kB


# -- The loop is not blocked -----------------------------------------------------------------------


async def test_heartbeat_notices() -> None:
    """A call into C that waits, if it is the package's; what the test does itself is its affair."""
    async with heartbeat() as heart:
        time.sleep(0.2)
    assert heart.longest > 0.19
    lock = threading.Lock()
    lock.acquire()

    def release_when_noticed(heart: Heart) -> None:
        wait_until(lambda: heart.faults, 20)
        lock.release()

    with pytest.raises(AssertionError, match="slept"):
        async with heartbeat() as heart:
            waits = compile("lock.acquire()", f"{SOURCES}/no_such_file.py", "exec")
            with ThreadPoolExecutor() as pool:
                pool.submit(release_when_noticed, heart)
                exec(waits, {"lock": lock})
    with pytest.raises(AssertionError, match="worked"):
        async with heartbeat():
            text = "for _ in range(5_000_000): pass"
            works = compile(text, f"{SOURCES}/no_such_file.py", "exec")
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
