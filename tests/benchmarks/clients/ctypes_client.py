"""The least that a client in Python can do through ctypes: the limit of aioca, as C is that of all.

One call of libca for each request. One callback for each reply, which copies its bytes, and makes a
float of them. There is no event loop, no attribute but the value, no error handling, and no time
limit: a reply that is lost ends the benchmark.
"""

import ctypes
import struct
import threading
from ctypes import c_byte, c_int, c_long, c_size_t, c_uint, c_ulong, c_void_p

from common import TIMEOUT, Lap, answer, laps_of, monitored, names, per_item, request
from epicscorelibs.lib import ca_dsoinfo

TIME_DOUBLE, DOUBLE, NORMAL, DBE_VALUE_ALARM = 20, 6, 1, 5
BYTES = 24  # of a DBR_TIME_DOUBLE with one element
ca = ctypes.CDLL(ca_dsoinfo.sofilename)
memory = (ctypes.c_char * (1 << 62)).from_address(0)
number = struct.Struct("=16xd").unpack
# On x86-64 the members of the struct arrive behind six arguments: see aioca._ca.callbacks
EVENT = ctypes.CFUNCTYPE(
    None, *[c_byte] * 6, c_size_t, c_size_t, c_long, c_long, c_size_t, c_int
)  # fmt: skip
CONNECTION = ctypes.CFUNCTYPE(None, c_size_t, c_long)
keep_state = ctypes.pythonapi.PyGILState_Ensure


class Replies:
    """Counts replies, and keeps their bytes."""

    def __init__(self, count):
        self.done = threading.Event()
        left = iter(range(count - 1, -1, -1)).__next__
        raws = self.raws = []
        add, done = raws.append, self.done.set

        def on_reply(_1, _2, _3, _4, _5, _6, usr, chid, type, number, start, status):
            add(memory[start : start + BYTES])
            if not left():
                done()

        def on_completion(_1, _2, _3, _4, _5, _6, usr, chid, type, number, start, status):
            add(status)
            if not left():
                done()

        self.on_reply, self.on_completion = EVENT(on_reply), EVENT(on_completion)


def connected(pvs):
    """The chids of PVs, when all are connected."""
    left = iter(range(len(pvs) - 1, -1, -1)).__next__
    done = threading.Event()
    kept = threading.local()

    def on_connection(chid, op):
        if not hasattr(kept, "state"):
            kept.state = keep_state()
        if not left():
            done.set()

    connected.callback = CONNECTION(on_connection)
    chids = [c_size_t() for _ in pvs]
    for pv, chid in zip(pvs, chids, strict=True):
        ca.ca_create_channel(pv.encode(), connected.callback, None, 0, ctypes.byref(chid))
    ca.ca_flush_io()
    assert done.wait(TIMEOUT)
    return chids


def do_connect(count, **_):
    pvs = names("P", count)
    with Lap() as lap:
        connected(pvs)
    return {"s": lap.wall, "cpu_us": lap.cpu / count * 1e6}


def do_get_list(count, repeat, **_):
    chids = connected(names("P", count))
    dbr, one = c_long(TIME_DOUBLE), c_ulong(1)
    get = ca.ca_array_get_callback

    def once():
        replies = Replies(count)
        callback = replies.on_reply
        for chid in chids:
            get(dbr, one, chid, callback, None)
        ca.ca_flush_io()
        assert replies.done.wait(TIMEOUT)
        return [number(raw)[0] for raw in replies.raws]

    return per_item(laps_of(repeat, once), count)


def do_put_list(count, repeat, **_):
    chids = connected(names("P", count))
    dbr, one, data = c_long(DOUBLE), c_ulong(1), struct.pack("=d", 1.5)
    put = ca.ca_array_put_callback
    part = 1000  # an IOC can lose completions of more: see aioca._channels.put_limit

    def once():
        for start in range(0, count, part):
            some = chids[start : start + part]
            replies = Replies(len(some))
            for chid in some:
                put(dbr, one, chid, data, replies.on_completion, None)
            ca.ca_flush_io()
            assert replies.done.wait(TIMEOUT)

    return per_item(laps_of(repeat, once), count)


def do_monitor(count, seconds, **_):
    chids = connected(names("M", count))
    updates = [0]
    first = threading.Event()

    def callback(value):
        updates[0] += 1

    def on_update(_1, _2, _3, _4, _5, _6, usr, chid, type, count, start, status):
        (value,) = number(memory[start : start + BYTES])
        callback(value)
        if not first.is_set():
            first.set()

    on_update = EVENT(on_update)
    ca.ca_create_subscription.argtypes = (
        c_long, c_ulong, c_size_t, c_long, c_void_p, c_size_t, c_void_p,
    )  # fmt: skip
    for chid in chids:
        ca.ca_create_subscription(TIME_DOUBLE, 1, chid, DBE_VALUE_ALARM, on_update, 0, None)
    ca.ca_flush_io()
    assert first.wait(TIMEOUT)
    pause = threading.Event()
    pause.wait(2)
    before = updates[0]
    with Lap() as lap:
        pause.wait(seconds)
    return monitored(updates[0] - before, lap)


ca.ca_create_channel.argtypes = (ctypes.c_char_p, CONNECTION, c_void_p, c_uint, c_void_p)
assert ca.ca_context_create(1) == NORMAL
spec = request()
answer(globals()[f"do_{spec.pop('work')}"](**spec))
