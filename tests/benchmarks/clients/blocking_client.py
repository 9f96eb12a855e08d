"""aioca.blocking: plain calls, from one thread and from several."""

from common import TIMEOUT, answer, each, in_threads, laps_of, names, per_item, request

from aioca import FORMAT_TIME
from aioca.blocking import caget, caput, connect


def do_get_list(count, repeat, **_):
    pvs = names("P", count)
    connect(pvs, timeout=TIMEOUT)
    return per_item(laps_of(repeat, lambda: get(pvs)), count)


def do_get_one(count, repeat, **_):
    connect("P0", timeout=TIMEOUT)

    def once():
        for _ in range(count):
            caget("P0", format=FORMAT_TIME)

    return each(laps_of(repeat, once), count)


def do_put_one(count, repeat, **_):
    connect("P0", timeout=TIMEOUT)

    def once():
        for _ in range(count):
            caput("P0", 1.5, wait=True)

    return each(laps_of(repeat, once), count)


def do_threads(count, threads, repeat, **_):
    pvs = names("P", threads)
    connect(pvs, timeout=TIMEOUT)

    def work(thread):
        for _ in range(count // threads):
            caget(pvs[thread], format=FORMAT_TIME)

    return per_item(laps_of(repeat, lambda: in_threads(threads, work)), count)


def do_thread_lists(count, threads, repeat, **_):
    pvs = names("P", count * threads)
    connect(pvs, timeout=TIMEOUT)

    def work(thread):
        get(pvs[thread * count : (thread + 1) * count])

    return per_item(laps_of(repeat, lambda: in_threads(threads, work)), count * threads)


def get(pvs):
    return caget(pvs, format=FORMAT_TIME, timeout=TIMEOUT)


spec = request()
answer(globals()[f"do_{spec.pop('work')}"](**spec))
