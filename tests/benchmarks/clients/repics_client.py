"""repics, its asyncio front end."""

import asyncio

from common import (
    TIMEOUT,
    Counted,
    Lap,
    answer,
    async_laps_of,
    each,
    monitored,
    names,
    per_item,
    request,
    rss,
)
from repics.ca.asyncio import caget, camonitor, caput, connect


async def do_connect(count, **_):
    with Lap() as lap:
        await connect(names("P", count), timeout=TIMEOUT)
    return {"s": lap.wall, "cpu_us": lap.cpu / count * 1e6}


async def do_get_list(count, repeat, **_):
    pvs = names("P", count)
    await connect(pvs, timeout=TIMEOUT)
    return per_item(
        await async_laps_of(repeat, lambda: caget(pvs, form="time", timeout=TIMEOUT)), count
    )


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
            await caget("P0", form="time")

    await connect("P0", timeout=TIMEOUT)
    return each(await async_laps_of(repeat, once), count)


async def do_put_one(count, repeat, **_):
    async def once():
        for _ in range(count):
            await caput("P0", 1.5, wait=True)

    await connect("P0", timeout=TIMEOUT)
    return each(await async_laps_of(repeat, once), count)


async def do_small_lists(count, repeat, tasks, **_):
    lists = [names("P", count * tasks)[i * count : (i + 1) * count] for i in range(tasks)]
    await connect(names("P", count * tasks), timeout=TIMEOUT)

    async def once():
        await asyncio.gather(*(caget(pvs, form="time", timeout=TIMEOUT) for pvs in lists))

    return per_item(await async_laps_of(repeat, once), count * tasks)


async def do_monitor(count, seconds, **_):
    updates = [0]

    def callback(value, index):
        updates[0] += 1

    pvs = names("M", count)
    await connect(pvs, timeout=TIMEOUT)
    camonitor(pvs, callback, form="time", all_updates=True)
    await asyncio.sleep(2)
    before = updates[0]
    with Lap() as lap:
        await asyncio.sleep(seconds)
    seen = updates[0] - before
    return monitored(seen, lap)


async def do_most(count, seconds, **_):
    pvs = names("M", count)
    counted = Counted(count)
    await connect(pvs, timeout=TIMEOUT)
    camonitor(pvs, counted.received, form="time", all_updates=True)
    await asyncio.sleep(4)
    counted.start()
    with Lap() as lap:
        await asyncio.sleep(seconds)
    return counted.figures(lap)


async def do_array(repeat, **_):
    import numpy

    await connect("BIG", timeout=TIMEOUT)
    data = numpy.arange(1_000_000.0)
    puts = await async_laps_of(repeat, lambda: caput("BIG", data, wait=True, timeout=TIMEOUT))
    gets = await async_laps_of(repeat, lambda: caget("BIG", form="plain", timeout=TIMEOUT))
    return {"get_ms": each(gets, 1)["us"] / 1000, "put_ms": each(puts, 1)["us"] / 1000}


async def do_memory(count, **_):
    pvs = names("P", count)
    await connect(pvs[:100], timeout=TIMEOUT)
    start = rss()
    await connect(pvs, timeout=TIMEOUT)
    connected = rss()
    camonitor(pvs, lambda value, index: None, form="time")
    await asyncio.sleep(3)
    return {
        "channel_bytes": (connected - start) / count,
        "subscription_bytes": (rss() - connected) / count,
        "both_bytes": (rss() - start) / count,
    }


async def report():
    spec = request()
    answer(await globals()[f"do_{spec.pop('work')}"](**spec))


asyncio.run(report())
