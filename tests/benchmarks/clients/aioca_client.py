"""aioca, this one and 2.1: they have one API."""

import asyncio
import sys
import time

from common import TIMEOUT, Lap, answer, each, names, peak_rss, per_item, request, rss

import aioca
from aioca import FORMAT_TIME, caget, camonitor, caput, connect


async def sleep(seconds):
    if "trio" in sys.modules:
        import trio

        await trio.sleep(seconds)
    else:
        await asyncio.sleep(seconds)


async def laps_of(repeat, once):
    laps = []
    for _ in range(repeat + 1):
        with Lap() as lap:
            await once()
        laps.append(lap)
    return laps[1:]  # the first one warms up


async def do_connect(count, **_):
    with Lap() as lap:
        await connect(names("P", count), timeout=TIMEOUT)
    return {"s": lap.wall, "cpu_us": lap.cpu / count * 1e6}


async def do_get_list(count, repeat, **_):
    pvs = names("P", count)
    await connect(pvs, timeout=TIMEOUT)
    laps = await laps_of(repeat, lambda: caget(pvs, format=FORMAT_TIME, timeout=TIMEOUT))
    return per_item(laps, count)


async def do_put_list(count, repeat, **_):
    pvs = names("P", count)
    await connect(pvs, timeout=TIMEOUT)
    values = [1.5] * count
    return per_item(
        await laps_of(repeat, lambda: caput(pvs, values, wait=True, timeout=TIMEOUT)), count
    )


async def do_get_one(count, repeat, **_):
    async def once():
        for _ in range(count):
            await caget("P0", format=FORMAT_TIME)

    await connect("P0", timeout=TIMEOUT)
    return each(await laps_of(repeat, once), count)


async def do_put_one(count, repeat, **_):
    async def once():
        for _ in range(count):
            await caput("P0", 1.5, wait=True)

    await connect("P0", timeout=TIMEOUT)
    return each(await laps_of(repeat, once), count)


async def do_small_lists(count, repeat, tasks, **_):
    import anyio

    lists = [names("P", count * tasks)[i * count : (i + 1) * count] for i in range(tasks)]
    await connect(names("P", count * tasks), timeout=TIMEOUT)

    async def once():
        async with anyio.create_task_group() as group:
            for pvs in lists:
                group.start_soon(lambda pvs=pvs: caget(pvs, format=FORMAT_TIME, timeout=TIMEOUT))

    return per_item(await laps_of(repeat, once), count * tasks)


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
    seen = updates[0] - before
    for subscription in subscriptions:
        subscription.close()
    return {
        "per_second": seen / lap.wall,
        "cpu_us": lap.cpu / max(seen, 1) * 1e6,
        "rss_mb": rss() / 1e6,
    }


async def do_iterate(count, seconds, **_):
    pvs = names("M", count)
    await connect(pvs, timeout=TIMEOUT)
    seen = 0
    async with camonitor(pvs, format=FORMAT_TIME, all_updates=True) as updates:
        start = time.perf_counter() + 2
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
    return {"per_second": seen / lap.wall, "cpu_us": lap.cpu / max(seen, 1) * 1e6}


async def do_merge(count, seconds, **_):
    """The default policy, and consumers that each take a millisecond of waiting."""
    updates = [0]

    async def callback(value, index):
        updates[0] += 1
        await sleep(0.001)

    pvs = names("M", count)
    await connect(pvs, timeout=TIMEOUT)
    camonitor(pvs, callback, format=FORMAT_TIME)
    await sleep(2)
    before = updates[0]
    with Lap() as lap:
        await sleep(seconds)
    seen = updates[0] - before
    return {
        "per_second": seen / lap.wall,
        "cpu_us": lap.cpu / max(seen, 1) * 1e6,
        "rss_mb": rss() / 1e6,
    }


async def do_array(repeat, **_):
    import numpy

    await connect("BIG", timeout=TIMEOUT)
    data = numpy.arange(1_000_000.0)
    puts = await laps_of(repeat, lambda: caput("BIG", data, wait=True, timeout=TIMEOUT))
    base = rss()
    gets = await laps_of(repeat, lambda: caget("BIG", timeout=TIMEOUT))
    peak = peak_rss()
    seen = [0]
    subscription = camonitor(
        "BIG", lambda value: seen.__setitem__(0, seen[0] + 1), all_updates=True
    )
    while not seen[0]:
        await sleep(0.001)
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
        "peak_mb": (peak - base) / 1e6,
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
    }


def main():
    spec = request()
    loop = spec.pop("loop", "asyncio")
    work = globals()[f"do_{spec.pop('work')}"]

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
