"""The trampolines: what libca calls, turned into one method call on whoever owns the token.

What must stay true here:

- A trampoline runs on a thread of libca that holds libca's callback lock. It copies bytes,
  calls one short method and returns. It takes no lock of ours, runs no user code, waits for
  nobody and never raises.
- DBR memory belongs to the circuit and is reused: it is copied inside the callback, exactly
  as many elements as the callback names, and never looked at afterwards.
- The trampolines are kept for ever, so C can never reach one that was collected.
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections.abc import Callable
from ctypes import c_int, c_long, c_size_t, c_void_p
from typing import Any

from .libca import (
    DBR_TYPES,
    ECA_ALLOCMEM,
    ECA_BADTYPE,
    ECA_NORMAL,
    OP_CONN_UP,
    SCALAR_SIZE,
    VALUE_OFFSET,
    VALUE_SIZE,
    Trampoline,
    element_count,
    field_type,
    puser,
)
from .tokens import DBR_BITS, DBR_MASK, INDEX_MASK, KEY_SHIFT, Raw, owner_of

# -- A copy of what arrives ------------------------------------------------------------------------

# All of memory as one array: a slice of it copies bytes out of C in a quarter of the time
# of ctypes.string_at(), and two thirds of from_address().raw. From about a page on a memoryview of
# it is faster still, as it copies by block.
memory = (ctypes.c_char * (1 << 62)).from_address(0)
_memory_view = memoryview(memory).cast("B")
_BIG = 4096


def copied(expected: int, dbr: int, count: int, start: int, status: int) -> Raw:
    """What an event says: a copy of its DBR, or the ECA status of a failure."""
    if status != ECA_NORMAL:
        return status
    if not start:
        return b""  # the end of a put
    if dbr != expected or not 0 <= dbr < DBR_TYPES or count < 0:
        return ECA_BADTYPE
    size = VALUE_OFFSET[dbr] + VALUE_SIZE[dbr] * count
    if size <= _BIG:
        return memory[start : start + size]  # type: ignore[return-value]
    try:
        return bytearray(_memory_view[start : start + size])
    except MemoryError:  # a server may name any count
        return ECA_ALLOCMEM


# -- The thread ------------------------------------------------------------------------------------

# ctypes makes a Python thread state for a foreign thread's callback and destroys it when the
# callback ends, which costs more than all the rest of it (18 us against 4.5 us). One
# PyGILState_Ensure that is never released keeps the state. It cannot be given back when libca
# ends the thread, some 20 kB, so only a thread that turns out busy gets one: a circuit that
# lives for a few callbacks leaves nothing behind.
_KEEP_AFTER = 256
_KEEP_EVERY = 64  # of a list
_thread = threading.local()
_callbacks_seen: dict[int, int] = {}
_gilstate_ensure = ctypes.pythonapi.PyGILState_Ensure


def keep_thread_state(weight: int = 1) -> None:
    """Called by callbacks; by those that are many, for every ``weight``-th of them."""
    try:
        _thread.kept  # noqa: B018
    except AttributeError:
        _keep_thread_state(weight)


def _keep_thread_state(weight: int) -> None:
    ident = threading.get_ident()
    seen = _callbacks_seen.get(ident, 0) + weight
    if seen < _KEEP_AFTER:
        _callbacks_seen[ident] = seen
        return
    _callbacks_seen.pop(ident, None)
    _gilstate_ensure()
    _thread.kept = True


# -- How the arguments arrive ----------------------------------------------------------------------


class _EventArgs(ctypes.Structure):
    _fields_ = [
        ("usr", c_size_t),
        ("chid", c_size_t),
        ("type", c_long),
        ("count", c_long),
        ("dbr", c_size_t),
        ("status", c_int),
    ]


class _ConnectionArgs(ctypes.Structure):
    _fields_ = [("chid", c_size_t), ("op", c_long)]


_EVENT = ctypes.CFUNCTYPE(None, _EventArgs)
_CONNECTION = ctypes.CFUNCTYPE(None, _ConnectionArgs)

# What an event calls: six words of no meaning (see `event_trampoline`), then those of its struct.
OnEvent = Callable[[int, int, int, int, int, int, int, int, int, int, int, int], None]

# In the calling convention of x86-64 but for Windows a struct of this size travels on the stack,
# behind the arguments that do not fit into the six registers: as if its members were the seventh
# argument and the following ones. Declared like that, they arrive as Python integers without a
# struct to be made and taken apart, which is a quarter of the time of a callback.
_SPREAD_EVENT = ctypes.CFUNCTYPE(
    None, *[ctypes.c_byte] * 6, c_size_t, c_size_t, c_long, c_long, c_size_t, c_int
)
# Likewise; a struct of two words travels in the first two registers.
_SPREAD_CONNECTION = ctypes.CFUNCTYPE(None, c_size_t, c_long)


def _arrives_spread() -> bool:
    """Whether it is like that here: tried, where it should be."""
    if os.name != "posix" or os.uname().machine != "x86_64" or ctypes.sizeof(c_void_p) != 8:
        return False
    heard: list[tuple[int, ...]] = []
    sent = (1 << 63 | 1, (1 << 64) - 2, -3, 1 << 40, 1 << 62, -6)
    trampoline = _SPREAD_EVENT(lambda *args: heard.append(args[6:]))
    ctypes.cast(trampoline, _EVENT)(_EventArgs(*sent))
    two = (1 << 63 | 5, -7)
    connection = _SPREAD_CONNECTION(lambda *args: heard.append(args))
    ctypes.cast(connection, _CONNECTION)(_ConnectionArgs(*two))
    return heard == [sent, two]


_SPREAD = _arrives_spread()
_unpack_event = struct.Struct("NNllNi").unpack_from
_for_ever: list[object] = []  # C may call what was once handed to it as long as the process lives


def event_trampoline(on_event: OnEvent) -> Trampoline:
    """What libca can be told to call; ``on_event(*six words to ignore, usr, chid, dbr, count,
    start, status)`` is called then, on a thread of libca. It is kept for ever.
    """
    if _SPREAD:
        trampoline: Any = _SPREAD_EVENT(on_event)
    else:

        def unpacked(args: Any) -> None:
            on_event(0, 0, 0, 0, 0, 0, *_unpack_event(args))

        trampoline = _EVENT(unpacked)
    return _kept(trampoline)


def _kept(trampoline: Any) -> Trampoline:
    _for_ever.append(trampoline)
    return ctypes.cast(trampoline, c_void_p)


# -- What libca calls ------------------------------------------------------------------------------


def _on_reply(
    _1: int, _2: int, _3: int, _4: int, _5: int, _6: int,
    usr: int, _chid: int, dbr: int, count: int, start: int, status: int,
) -> None:  # fmt: skip
    """Runs on a libca thread: the reply to a get, or the end of a put."""
    owner = owner_of(usr >> KEY_SHIFT)
    if owner is None:
        return
    if status == ECA_NORMAL and count == 1 and start and usr & DBR_MASK == dbr:
        raw: Any = memory[start : start + SCALAR_SIZE[dbr]]  # nearly all of them
    else:
        raw = copied(usr & DBR_MASK, dbr, count, start, status)
    index = usr >> DBR_BITS & INDEX_MASK
    if not index % _KEEP_EVERY:
        keep_thread_state(_KEEP_EVERY if index else 1)
    owner.arrive(index, raw)


def _on_connection(chid: int, op: int) -> None:
    """Runs on a libca thread: a channel went up or down."""
    keep_thread_state()
    owner = owner_of(puser(chid) >> KEY_SHIFT)
    if owner is None:
        return
    if op == OP_CONN_UP:
        owner.connection_changed(True, field_type(chid), element_count(chid))
    else:
        owner.connection_changed(False, -1, 0)


def _connection_trampoline() -> Trampoline:
    if _SPREAD:
        trampoline: Any = _SPREAD_CONNECTION(_on_connection)
    else:

        def unpacked(args: Any) -> None:
            _on_connection(args.chid, args.op)

        trampoline = _CONNECTION(unpacked)
    return _kept(trampoline)


reply_trampoline = event_trampoline(_on_reply)
connection_trampoline = _connection_trampoline()


def after_fork() -> None:
    """In a forked child: the threads of libca did not come along."""
    _callbacks_seen.clear()
