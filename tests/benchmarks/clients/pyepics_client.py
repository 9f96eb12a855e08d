"""pyepics: PV objects. A list of PVs is asked for, then collected."""

import time

import epics
from common import (
    TIMEOUT,
    Lap,
    answer,
    each,
    in_threads,
    laps_of,
    monitored,
    names,
    per_item,
    request,
    rss,
)


def pvs_of(kind, count, **options):
    pvs = [epics.PV(name, form="time", **options) for name in names(kind, count)]
    for pv in pvs:
        if not pv.wait_for_connection(TIMEOUT):
            raise SystemExit(f"{pv.pvname} did not connect")
    return pvs


def do_connect(count, **_):
    with Lap() as lap:
        pvs_of("P", count, auto_monitor=False)
    return {"s": lap.wall, "cpu_us": lap.cpu / count * 1e6}


def do_get_list(count, repeat, **_):
    chids = [pv.chid for pv in pvs_of("P", count, auto_monitor=False)]
    return per_item(laps_of(repeat, lambda: get_all(chids)), count)


def get_all(chids):
    """Read a list as pyepics' caget_many() does, for TIME: ask for all, then collect."""
    from epics import ca

    for chid in chids:
        ca.get_with_metadata(chid, ftype=ca.promote_type(chid, use_time=True), wait=False)
    for chid in chids:
        ca.get_complete_with_metadata(
            chid, ftype=ca.promote_type(chid, use_time=True), timeout=TIMEOUT
        )


def do_threads(count, threads, repeat, **_):
    pvs = pvs_of("P", threads, auto_monitor=False)

    def work(thread):
        epics.ca.use_initial_context()
        for _ in range(count // threads):
            pvs[thread].get(use_monitor=False)

    return per_item(laps_of(repeat, lambda: in_threads(threads, work)), count)


def do_thread_lists(count, threads, repeat, **_):
    chids = [pv.chid for pv in pvs_of("P", count * threads, auto_monitor=False)]

    def work(thread):
        epics.ca.use_initial_context()
        get_all(chids[thread * count : (thread + 1) * count])

    return per_item(laps_of(repeat, lambda: in_threads(threads, work)), count * threads)


def do_get_one(count, repeat, **_):
    (pv,) = pvs_of("P", 1, auto_monitor=False)

    def once():
        for _ in range(count):
            pv.get(use_monitor=False)

    return each(laps_of(repeat, once), count)


def do_put_one(count, repeat, **_):
    (pv,) = pvs_of("P", 1, auto_monitor=False)

    def once():
        for _ in range(count):
            pv.put(1.5, wait=True)

    return each(laps_of(repeat, once), count)


def do_monitor(count, seconds, **_):
    updates = [0]

    def callback(**_):
        updates[0] += 1

    # Not add_callback(): it asks for the limits of each PV, and in a flood waits for them in vain
    pvs = pvs_of("M", count, auto_monitor=True, callback=callback)
    time.sleep(2)
    assert len(pvs) == count
    before = updates[0]
    with Lap() as lap:
        time.sleep(seconds)
    seen = updates[0] - before
    return monitored(seen, lap)


def do_array(repeat, **_):
    import numpy

    pv = epics.PV("BIG", auto_monitor=False)
    pv.wait_for_connection(TIMEOUT)
    data = numpy.arange(1_000_000.0)
    puts = laps_of(repeat, lambda: pv.put(data, wait=True, timeout=TIMEOUT))
    gets = laps_of(repeat, lambda: pv.get(use_monitor=False, timeout=TIMEOUT))
    return {"get_ms": each(gets, 1)["us"] / 1000, "put_ms": each(puts, 1)["us"] / 1000}


def do_memory(count, **_):
    first = pvs_of("P", 100, auto_monitor=False)
    start = rss()
    pvs = pvs_of("P", count, auto_monitor=False)
    connected = rss()
    for pv in pvs:
        pv.auto_monitor = True
        pv.add_callback(lambda **_: None)
    time.sleep(3)
    return {
        "channel_bytes": (connected - start) / (count - len(first)),
        "subscription_bytes": (rss() - connected) / count,
        "both_bytes": (rss() - start) / count,
    }


spec = request()
answer(globals()[f"do_{spec.pop('work')}"](**spec))
