"""cothread.catools."""

import cothread
from common import TIMEOUT, Lap, answer, each, laps_of, monitored, names, per_item, request, rss
from cothread.catools import FORMAT_TIME, caget, camonitor, caput, connect


def do_connect(count, **_):
    with Lap() as lap:
        connect(names("P", count), timeout=TIMEOUT)
    return {"s": lap.wall, "cpu_us": lap.cpu / count * 1e6}


def do_get_list(count, repeat, **_):
    pvs = names("P", count)
    connect(pvs, timeout=TIMEOUT)
    return per_item(laps_of(repeat, lambda: caget(pvs, format=FORMAT_TIME, timeout=TIMEOUT)), count)


def do_put_list(count, repeat, **_):
    pvs = names("P", count)
    connect(pvs, timeout=TIMEOUT)
    values = [1.5] * count
    return per_item(laps_of(repeat, lambda: caput(pvs, values, wait=True, timeout=TIMEOUT)), count)


def do_get_one(count, repeat, **_):
    def once():
        for _ in range(count):
            caget("P0", format=FORMAT_TIME)

    connect("P0", timeout=TIMEOUT)
    return each(laps_of(repeat, once), count)


def do_put_one(count, repeat, **_):
    def once():
        for _ in range(count):
            caput("P0", 1.5, wait=True)

    connect("P0", timeout=TIMEOUT)
    return each(laps_of(repeat, once), count)


def do_monitor(count, seconds, **_):
    updates = [0]

    def callback(value, index):
        updates[0] += 1

    pvs = names("M", count)
    connect(pvs, timeout=TIMEOUT)
    camonitor(pvs, callback, format=FORMAT_TIME, all_updates=True)
    cothread.Sleep(2)
    before = updates[0]
    with Lap() as lap:
        cothread.Sleep(seconds)
    seen = updates[0] - before
    return monitored(seen, lap)


def do_array(repeat, **_):
    import numpy

    connect("BIG", timeout=TIMEOUT)
    data = numpy.arange(1_000_000.0)
    puts = laps_of(repeat, lambda: caput("BIG", data, wait=True, timeout=TIMEOUT))
    gets = laps_of(repeat, lambda: caget("BIG", timeout=TIMEOUT))
    return {"get_ms": each(gets, 1)["us"] / 1000, "put_ms": each(puts, 1)["us"] / 1000}


def do_memory(count, **_):
    pvs = names("P", count)
    connect(pvs[:100], timeout=TIMEOUT)
    start = rss()
    connect(pvs, timeout=TIMEOUT)
    connected = rss()
    camonitor(pvs, lambda value, index: None, format=FORMAT_TIME)
    cothread.Sleep(3)
    return {
        "channel_bytes": (connected - start) / count,
        "subscription_bytes": (rss() - connected) / count,
        "both_bytes": (rss() - start) / count,
    }


spec = request()
answer(globals()[f"do_{spec.pop('work')}"](**spec))
