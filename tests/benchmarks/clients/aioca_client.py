"""aioca, this one and 2.1: they have one API."""

import asyncio
import gc
import os
import subprocess
import sys
import time
from contextlib import contextmanager

from common import (
    TIMEOUT,
    Counted,
    Lap,
    Peak,
    answer,
    async_laps_of,
    each,
    monitored,
    names,
    per_item,
    request,
    rss,
)

import aioca
from aioca import FORMAT_TIME, caget, camonitor, caput, connect


async def sleep(seconds):
    if "trio" in sys.modules:
        import trio

        await trio.sleep(seconds)
    else:
        await asyncio.sleep(seconds)


async def do_connect(count, **_):
    with Lap() as lap:
        await connect(names("P", count), timeout=TIMEOUT)
    return {"s": lap.wall, "cpu_us": lap.cpu / count * 1e6}


async def do_get_list(count, repeat, **_):
    pvs = names("P", count)
    await connect(pvs, timeout=TIMEOUT)
    laps = await async_laps_of(repeat, lambda: caget(pvs, format=FORMAT_TIME, timeout=TIMEOUT))
    return per_item(laps, count)


async def do_put_list(count, repeat, **_):
    pvs = names("P", count)
    await connect(pvs, timeout=TIMEOUT)
    values = [1.5] * count
    return per_item(
        await async_laps_of(repeat, lambda: caput(pvs, values, wait=True, timeout=TIMEOUT)), count
    )


async def do_get_one(count, repeat, **_):
    async def once():
        for _ in range(count):
            await caget("P0", format=FORMAT_TIME)

    await connect("P0", timeout=TIMEOUT)
    return each(await async_laps_of(repeat, once), count)


async def do_put_one(count, repeat, **_):
    async def once():
        for _ in range(count):
            await caput("P0", 1.5, wait=True)

    await connect("P0", timeout=TIMEOUT)
    return each(await async_laps_of(repeat, once), count)


async def do_small_lists(count, repeat, tasks, **_):
    import anyio

    lists = [names("P", count * tasks)[i * count : (i + 1) * count] for i in range(tasks)]
    await connect(names("P", count * tasks), timeout=TIMEOUT)

    async def once():
        async with anyio.create_task_group() as group:
            for pvs in lists:
                group.start_soon(lambda pvs=pvs: caget(pvs, format=FORMAT_TIME, timeout=TIMEOUT))

    return per_item(await async_laps_of(repeat, once), count * tasks)


async def do_monitor(count, seconds, **_):
    updates = [0]

    def callback(value, index):
        updates[0] += 1

    pvs = names("M", count)
    await connect(pvs, timeout=TIMEOUT)
    subscriptions = camonitor(pvs, callback, format=FORMAT_TIME, all_updates=True)
    await sleep(2)
    before = updates[0]
    with Lap() as lap:
        await sleep(seconds)
    assert len(subscriptions) == count
    return monitored(updates[0] - before, lap)


async def do_most(count, seconds, **_):
    """As many updates as the server sends, from another processor: are all delivered?"""
    pvs = names("M", count)
    counted = Counted(count)
    await connect(pvs, timeout=TIMEOUT)
    subscriptions = camonitor(pvs, counted.received, format=FORMAT_TIME, all_updates=True)
    await sleep(4)
    counted.start()
    with Lap() as lap:
        await sleep(seconds)
    assert len(subscriptions) == count
    return counted.figures(lap)


@contextmanager
def busy_processors(seconds):
    """A process on each processor that keeps it busy, until so many seconds are over."""
    command = [
        sys.executable,
        "-c",
        f"import time\nend = time.time() + {seconds}\nwhile time.time() < end: pass",
    ]
    processes = [subprocess.Popen(command) for _ in range(os.cpu_count() if seconds else 0)]
    yield
    for process in processes:
        process.kill()
        process.wait()


async def do_iterate(count, seconds, starved=0, **_):
    """``starved``: seconds at the start in which other programs keep all processors busy."""
    pvs = names("M", count)
    await connect(pvs, timeout=TIMEOUT)
    with busy_processors(starved):
        return await iterate(pvs, starved + 2, seconds)


async def iterate(pvs, warm, seconds):
    seen = 0
    async with camonitor(pvs, format=FORMAT_TIME, all_updates=True) as updates:
        start = time.perf_counter() + warm
        lap = None
        async for _ in updates:
            now = time.perf_counter()
            if lap is None:
                if now > start:
                    lap = Lap().__enter__()
                continue
            seen += 1
            if now > start + seconds:
                break
        lap.__exit__()
        answer(monitored(seen, lap))  # here: closing them all in the flood is not measured


def compute(seconds):
    """Keep the processor, and the GIL."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


async def do_merge(count, seconds, **_):
    """The default policy, and one consumer of all that takes a millisecond for each value."""
    updates = [0]

    def callback(value, index):
        updates[0] += 1
        compute(0.001)

    pvs = names("M", count)
    await connect(pvs, timeout=TIMEOUT)
    subscriptions = camonitor(pvs, callback, format=FORMAT_TIME)
    await sleep(2)
    before = updates[0]
    dropped = sum(s.dropped_callbacks for s in subscriptions)
    with Lap() as lap:
        await sleep(seconds)
    seen = updates[0] - before
    dropped = sum(s.dropped_callbacks for s in subscriptions) - dropped
    # Without the millisecond: what all that came has cost
    arrived = max(seen + dropped, 1)
    return {
        "per_second": seen / lap.wall,
        "dropped_per_second": dropped / lap.wall,
        "cpu_us": (lap.cpu - seen * 0.001) / arrived * 1e6,
        "rss_mb": rss() / 1e6,
    }


async def do_busy(count, seconds, task=0.0, callback=0.0, **_):
    """All updates, while a task computes so long at a time, and each callback so long.

    The records count up, so what is missing or out of order is seen; and they say when they did.
    """
    last, lost, wrong, late, seen = {}, [0], [0], [0.0], [0]

    def received(value, index):
        before = last.get(index)
        last[index] = value
        if before is not None:
            lost[0] += int(value - before - 1)
            wrong[0] += value <= before
        seen[0] += 1
        late[0] = max(late[0], time.time() - value.timestamp)
        if callback:
            compute(callback)

    async def computing():
        while True:
            if task:
                compute(task)
            await sleep(0)
            if not task:
                await sleep(0.01)

    import anyio

    pvs = names("M", count)
    await connect(pvs, timeout=TIMEOUT)
    async with anyio.create_task_group() as group:
        group.start_soon(computing)
        subscriptions = camonitor(pvs, received, format=FORMAT_TIME, all_updates=True)
        await sleep(2)
        lost[0] = wrong[0] = seen[0] = 0
        late[0] = 0.0
        with Lap() as lap:
            await sleep(seconds)
        assert len(subscriptions) == count
        answer(
            {
                "per_second": seen[0] / lap.wall,
                "lost": lost[0],
                "out_of_order": wrong[0],
                "late_ms": late[0] * 1000,
            }
        )


async def do_latency(repeat, immediate=False, **_):
    """One update at a time on an idle loop: from a put to the callback of a monitor."""
    if immediate:
        from aioca._portal import queue

        queue._MIN_PAIRS_TO_POLL = 1 << 60  # a wake for each update, never a timer
    import anyio

    arrived = [anyio.Event()]
    await connect("P0", timeout=TIMEOUT)
    subscription = camonitor("P0", lambda value: arrived[0].set(), format=FORMAT_TIME)
    await arrived[0].wait()
    walls = []
    for number in range(repeat + 100):
        arrived[0] = anyio.Event()
        start = time.perf_counter()
        await caput("P0", number + 1.5)
        await arrived[0].wait()
        walls.append(time.perf_counter() - start)
    subscription.close()
    walls = sorted(walls[100:])
    return {
        "p50_us": walls[len(walls) // 2] * 1e6,
        "p99_us": walls[len(walls) * 99 // 100] * 1e6,
    }


async def do_array(repeat, **_):
    import numpy

    await connect("BIG", timeout=TIMEOUT)
    data = numpy.arange(1_000_000.0)
    puts = await async_laps_of(repeat, lambda: caput("BIG", data, wait=True, timeout=TIMEOUT))
    gets = await async_laps_of(repeat, lambda: caget("BIG", timeout=TIMEOUT))
    with Peak() as of_get:
        await caget("BIG", timeout=TIMEOUT)
    seen = [0]
    subscription = camonitor(
        "BIG", lambda value: seen.__setitem__(0, seen[0] + 1), all_updates=True
    )
    while not seen[0]:
        await sleep(0.001)
    with Peak() as of_monitor:
        before = seen[0]
        with Lap() as lap:
            for _ in range(repeat):
                await caput("BIG", data, wait=True, timeout=TIMEOUT)
            while seen[0] < before + repeat:
                await sleep(0.0005)
    subscription.close()
    return {
        "get_ms": each(gets, 1)["us"] / 1000,
        "put_ms": each(puts, 1)["us"] / 1000,
        "put_and_monitor_ms": lap.wall / repeat * 1000,
        "get_peak_mb": of_get.bytes / 1e6,
        "monitor_peak_mb": of_monitor.bytes / 1e6,
    }


async def do_memory(count, **_):
    pvs = names("P", count)
    await connect(pvs[:100], timeout=TIMEOUT)
    await caget(pvs[:100], timeout=TIMEOUT)
    start = rss()
    await connect(pvs, timeout=TIMEOUT)
    connected = rss()
    camonitor(pvs, lambda value, index: None, format=FORMAT_TIME)
    await sleep(3)
    return {
        "channel_bytes": (connected - start) / count,
        "subscription_bytes": (rss() - connected) / count,
        "both_bytes": (rss() - start) / count,
    }


def do_loops(count, **_):
    """Memory that a program gains with each run of a loop that has a monitor of each policy."""

    async def one_run():
        arrived = asyncio.Event()
        limits = ({}, {"all_updates": True}, {"max_pending": 3})
        monitors = [camonitor("P0", lambda value: arrived.set(), **limit) for limit in limits]
        await arrived.wait()
        for monitor in monitors:
            monitor.close()

    def runs(number):
        for _ in range(number):
            asyncio.run(one_run())
        gc.collect()
        return rss()

    before = runs(count)  # the first ones fill caches
    return {"run_bytes": (runs(count) - before) / count}


def main():
    spec = request()
    loop = spec.pop("loop", "asyncio")
    spec.pop("without", None)  # `without_client` has read it
    work = globals()[f"do_{spec.pop('work')}"]
    if not asyncio.iscoroutinefunction(work):
        answer(work(**spec))

    async def report():
        answer(await work(**spec))

    if loop == "asyncio":
        asyncio.run(report())
    else:
        if loop == "trio":
            import trio  # noqa: F401
        aioca_run(report, loop)


def aioca_run(report, loop):
    import anyio

    if loop == "trio":
        anyio.run(report, backend="trio")
    else:
        anyio.run(report, backend_options={"use_uvloop": True})


if __name__ == "__main__":
    assert aioca.__version__
    main()
