"""The trampolines: C functions that libca calls, each of which calls one method of a token owner.

Invariants:

- A trampoline runs on a libca thread that holds libca's callback lock. It copies bytes, calls one
  short method and returns. It takes no lock of this package, runs no user code, does not block
  and never raises.
- DBR memory belongs to the circuit, which reuses it. The callback copies exactly the number of
  elements that it was given. Nothing reads that memory after the callback.
- The trampolines are never freed, so C can never call one that was garbage collected.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable
from ctypes import c_int, c_long, c_size_t, c_uint, c_void_p
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
from .thread_states import keep_thread_state
from .tokens import DBR_BITS, DBR_MASK, INDEX_MASK, KEY_SHIFT, Raw, owner_of

# -- Copying DBR data ------------------------------------------------------------------------------

# All of the process's memory as one array. A slice of this array copies bytes out of C in a quarter
# of the time of ctypes.string_at(), and in two thirds of the time of from_address().raw. From about
# a page on, a slice of a memoryview of the array is faster still, as it copies whole blocks.
# Tricks of the benchmark: ``memory`` (row monitor_10k), ``memory_view`` (row array).
memory = (ctypes.c_char * (1 << 62)).from_address(0)
_memory_view = memoryview(memory).cast("B")
_BLOCK_COPY_MIN_BYTES = 4096  # a page: larger DBRs are copied through the memoryview


def copied(expected: int, dbr: int, count: int, start: int, status: int) -> Raw:
    """Copy the DBR of an event; return the copy, or the ECA status of a failure. Never raises."""
    if status != ECA_NORMAL:
        return status
    if not start:
        return b""  # the completion of a put-callback has no data
    if dbr != expected or not 0 <= dbr < DBR_TYPES or count < 0:
        return ECA_BADTYPE
    size = VALUE_OFFSET[dbr] + VALUE_SIZE[dbr] * count
    if size <= _BLOCK_COPY_MIN_BYTES:
        return memory[start : start + size]  # type: ignore[return-value]
    try:
        return bytearray(_memory_view[start : start + size])
    except MemoryError:  # a server can send any count
        return ECA_ALLOCMEM


# -- Arguments of the callbacks --------------------------------------------------------------------


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


class _AccessArgs(ctypes.Structure):
    _fields_ = [("chid", c_size_t), ("rights", c_uint)]  # bit 0: read, bit 1: write


# Signature of an event callback: six arguments to ignore (see `_spread`), then the fields of
# libca's struct event_handler_args.
OnEvent = Callable[[int, int, int, int, int, int, int, int, int, int, int, int], None]

_EVENT = ctypes.CFUNCTYPE(None, _EventArgs)
_CONNECTION = ctypes.CFUNCTYPE(None, _ConnectionArgs)
_ACCESS = ctypes.CFUNCTYPE(None, _AccessArgs)
_SPREAD_EVENT = ctypes.CFUNCTYPE(
    None, *[ctypes.c_byte] * 6, c_size_t, c_size_t, c_long, c_long, c_size_t, c_int
)
_POINTER_EVENT = ctypes.CFUNCTYPE(None, c_size_t)
# Both calling conventions below pass a struct of two words in the first two registers.
_SPREAD_CONNECTION = ctypes.CFUNCTYPE(None, c_size_t, c_long)
_unpack_event = struct.Struct("NNllNi").unpack_from


def _spread(on_event: OnEvent) -> Any:
    """Make the C function for the calling convention of x86-64, except on Windows.

    A struct of this size is passed on the stack. Its members lie where the seventh argument and the
    following ones would be, after the six that are passed in registers. With this declaration
    ctypes passes the members as Python integers. It makes no struct to unpack, which saves a
    quarter of the time of a callback. Trick ``spread`` of the benchmark: rows monitor_10k,
    get_list.
    """
    return _SPREAD_EVENT(on_event)


def _by_pointer(on_event: OnEvent) -> Any:
    """Make the C function for the calling convention of 64-bit ARM (AAPCS64).

    A struct of more than 16 bytes is copied by the caller, which passes the address of the copy.
    """

    def unpacked(start: int) -> None:
        on_event(0, 0, 0, 0, 0, 0, *_unpack_event(_memory_view, start))

    return _POINTER_EVENT(unpacked)


def _by_struct(on_event: OnEvent) -> Any:
    """Make the C function for any calling convention: ctypes makes a struct for each callback."""

    def unpacked(args: Any) -> None:
        on_event(0, 0, 0, 0, 0, 0, *_unpack_event(args))

    return _EVENT(unpacked)


_FAST_WAYS = {"x86_64": _spread, "aarch64": _by_pointer, "arm64": _by_pointer}


def _fast_way() -> Callable[[OnEvent], Any] | None:
    """Return the fast way of this processor if a call through C shows that it works, or None."""
    if os.name != "posix" or ctypes.sizeof(c_void_p) != 8:
        return None
    way = _FAST_WAYS.get(os.uname().machine)
    if way is None:
        return None
    heard: list[tuple[int, ...]] = []

    def hear(*args: int) -> None:
        heard.append(args[6:])

    # Should the first member arrive in place of an address, it is out of range: nothing is read
    sent = (1 << 63 | 1, (1 << 64) - 2, -3, 1 << 40, 1 << 62, -6)
    trampoline = way(hear)
    ctypes.cast(trampoline, _EVENT)(_EventArgs(*sent))
    two = (1 << 63 | 5, -7)
    connection = _SPREAD_CONNECTION(lambda *args: heard.append(args))
    ctypes.cast(connection, _CONNECTION)(_ConnectionArgs(*two))
    return way if heard == [sent, two] else None


_FAST = _fast_way()
_kept_trampolines: list[object] = []  # never freed: C may call them until the process ends


def event_trampoline(on_event: OnEvent) -> Trampoline:
    """Make a C function that calls ``on_event`` on a libca thread. It is never freed.

    ``on_event`` gets ``(*six arguments to ignore, usr, chid, dbr, count, start, status)``.
    """
    return _kept((_FAST or _by_struct)(on_event))


def _kept(trampoline: Any) -> Trampoline:
    _kept_trampolines.append(trampoline)
    return ctypes.cast(trampoline, c_void_p)


# -- The callbacks ---------------------------------------------------------------------------------


def _on_reply(
    _1: int, _2: int, _3: int, _4: int, _5: int, _6: int,
    usr: int, _chid: int, dbr: int, count: int, start: int, status: int,
) -> None:  # fmt: skip
    """Pass the reply to a get, or the end of a put-callback, to its owner. On a libca thread."""
    owner = owner_of(usr >> KEY_SHIFT)
    if owner is None:
        return
    if status == ECA_NORMAL and count == 1 and start and usr & DBR_MASK == dbr:
        raw: Any = memory[start : start + SCALAR_SIZE[dbr]]  # the fast path, for nearly all replies
    else:
        raw = copied(usr & DBR_MASK, dbr, count, start, status)
    owner.arrive(usr >> DBR_BITS & INDEX_MASK, raw)


def _on_connection(chid: int, op: int) -> None:
    """Tell the owner of a channel that it connected or disconnected. On a libca thread."""
    keep_thread_state()
    key = puser(chid) >> KEY_SHIFT
    owner = owner_of(key)
    if owner is None:
        return
    if op == OP_CONN_UP:
        owner.connection_changed(key, True, field_type(chid), element_count(chid))
    else:
        owner.connection_changed(key, False, -1, 0)


def _on_access(args: Any) -> None:
    """Tell the owner of a channel that its access rights changed.

    On a libca thread; also on the thread that calls `libca.report_access`. Rare: so the struct is
    not spread, and no thread state is kept for it.
    """
    owner = owner_of(puser(args.chid) >> KEY_SHIFT)
    if owner is not None:
        owner.access_changed()


def _connection_trampoline() -> Trampoline:
    if _FAST:
        trampoline: Any = _SPREAD_CONNECTION(_on_connection)
    else:

        def unpacked(args: Any) -> None:
            _on_connection(args.chid, args.op)

        trampoline = _CONNECTION(unpacked)
    return _kept(trampoline)


reply_trampoline = event_trampoline(_on_reply)
connection_trampoline = _connection_trampoline()
access_trampoline = _kept(_ACCESS(_on_access))
