"""libca through ctypes: the prototypes, the trampolines and the table of tokens.

This is the only module that calls into C. It knows nothing of channels, values or event
loops: it turns a C callback into one method call on whoever owns the token.

What must stay true here:

- C is given integer tokens, never the address of a Python object. A token whose owner has
  left the table is a lookup that misses, so nothing that C still holds can dangle.
- A trampoline runs on a thread of libca that holds libca's callback lock. It copies bytes,
  calls one short method and returns. It takes no lock of ours, runs no user code, waits for
  nobody and never raises.
- DBR memory belongs to the circuit and is reused: it is copied inside the callback, exactly
  as many elements as the callback names, and never looked at afterwards.
- libca is called through ``CDLL``, which releases the GIL: ``ca_clear_*`` waits for running
  callbacks, and those need the GIL to end. So may whoever holds another lock of libca.
- The trampolines are module globals, so C can never reach one that was collected.
- A request of the loop's is made `unblocked`, or it would wait while a server that has stopped
  leaves some 350 kB unread.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import struct
import threading
from collections.abc import Callable
from ctypes import c_char_p, c_int, c_long, c_short, c_size_t, c_uint, c_ulong, c_ushort, c_void_p
from typing import Any, Protocol

from epicscorelibs.lib import Com_dsoinfo, ca_dsoinfo, dbCore_dsoinfo

# The statuses that this package decides by; every other one only passes through.
ECA_NORMAL = 1
ECA_ALLOCMEM = 48
ECA_TIMEOUT = 80
ECA_BADTYPE = 114
ECA_GETFAIL = 152
ECA_PUTFAIL = 160
ECA_BADCOUNT = 176
ECA_BADSTR = 186
ECA_DISCONN = 192
ECA_NORDACCESS = 368
ECA_NOWTACCESS = 376
ECA_CHANDESTROY = 440

OP_PUT = 1
OP_CONN_UP = 6

# libca refuses 1008 bytes; from 992 on it accepts the name, and the search datagram that it
# no longer fits into then blocks every later search of the context.
MAX_NAME_BYTES = 991


def _load(dsoinfo: object) -> ctypes.CDLL:
    # By the same file name as epicscorelibs.path.get_lib() gives: two names for one library
    # would be two copies of it, each with its own idea of the thread's context. Those names
    # are read from the dsoinfo modules because importing epicscorelibs.path costs 0.2 s and
    # drags in setuptools.
    return ctypes.CDLL(dsoinfo.sofilename, mode=ctypes.RTLD_GLOBAL)  # type: ignore[attr-defined]


_com = _load(Com_dsoinfo)
_ca = _load(ca_dsoinfo)
# The same libraries for calls that only look at what belongs to the thread: the GIL is kept, since
# giving it up while libca's threads want it means to wait for it.
_com_quick = ctypes.PyDLL(Com_dsoinfo.sofilename)
_ca_quick = ctypes.PyDLL(ca_dsoinfo.sofilename)


# -- What the callbacks are given ------------------------------------------------------------------


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


class _ExceptionArgs(ctypes.Structure):
    _fields_ = [
        ("usr", c_size_t),
        ("chid", c_size_t),
        ("type", c_long),
        ("count", c_long),
        ("addr", c_size_t),
        ("stat", c_long),
        ("op", c_long),
        ("ctx", c_size_t),
        ("file", c_size_t),
        ("line", c_uint),
    ]


_EVENT = ctypes.CFUNCTYPE(None, _EventArgs)
_CONNECTION = ctypes.CFUNCTYPE(None, _ConnectionArgs)
_EXCEPTION = ctypes.CFUNCTYPE(None, _ExceptionArgs)
# The second argument is a va_list. In each calling convention that epicscorelibs is built for
# it travels as one word (a pointer to it, or itself a pointer), which can be handed on as such.
_PRINTF = ctypes.CFUNCTYPE(c_int, c_char_p, c_void_p)
_ERRLOG = ctypes.CFUNCTYPE(None, c_void_p, c_char_p)


# -- Prototypes ------------------------------------------------------------------------------------


def _prototype(
    name: str, restype: object, *argtypes: object, library: ctypes.CDLL = _ca
) -> Callable[..., int]:
    function = getattr(library, name)
    function.restype = restype
    function.argtypes = argtypes
    return function  # type: ignore[no-any-return]


_message = _prototype("ca_message", c_char_p, c_long)
_host_name = _prototype("ca_host_name", c_char_p, c_size_t)
context_create = _prototype("ca_context_create", c_int, c_int)
current_context = _prototype("ca_current_context", c_void_p, library=_ca_quick)
attach_context = _prototype("ca_attach_context", c_int, c_void_p, library=_ca_quick)
detach_context = _prototype("ca_detach_context", None, library=_ca_quick)
is_preemptive = _prototype("ca_preemtive_callback_is_enabled", c_int)
_add_exception_event = _prototype("ca_add_exception_event", c_int, _EXCEPTION, c_size_t)
_replace_printf_handler = _prototype("ca_replace_printf_handler", c_int, c_void_p)
_create_channel = _prototype(
    "ca_create_channel", c_int, c_char_p, _CONNECTION, c_size_t, c_uint, c_void_p
)
flush_io = _prototype("ca_flush_io", c_int)
_puser = _prototype("ca_puser", c_size_t, c_size_t, library=_ca_quick)
_create_subscription = _prototype(
    "ca_create_subscription", c_int,
    c_long, c_ulong, c_size_t, c_long, c_void_p, c_size_t, c_void_p,
)  # fmt: skip

# These are called once for each PV of a list. They have no argtypes: converting Python's integers
# would take two thirds of the time of a call. So they must be given C objects of the right size.
get_callback = _ca["ca_array_get_callback"]
_put_callback = _ca["ca_array_put_callback"]
_put = _ca["ca_array_put"]

_clear_subscription = _prototype("ca_clear_subscription", c_int, c_size_t)
_clear_channel = _prototype("ca_clear_channel", c_int, c_size_t)
field_type = _prototype("ca_field_type", c_short, c_size_t)
element_count = _prototype("ca_element_count", c_ulong, c_size_t)
read_access = _prototype("ca_read_access", c_uint, c_size_t)
write_access = _prototype("ca_write_access", c_uint, c_size_t)

# Where the value starts in each DBR type, and how long one element of it is: libca's own.
_DBR_TYPES = 39
VALUE_OFFSET = tuple((c_ushort * _DBR_TYPES).in_dll(_ca, "dbr_value_offset"))
VALUE_SIZE = tuple((c_ushort * _DBR_TYPES).in_dll(_ca, "dbr_value_size"))
SCALAR_SIZE = tuple(map(sum, zip(VALUE_OFFSET, VALUE_SIZE, strict=True)))  # of one element


_strnlen = _com.epicsStrnLen
_strnlen.restype = c_size_t
_strnlen.argtypes = (c_size_t, c_size_t)
_LONGEST_TEXT = 400  # of what an exception says
_vsnprintf = _com.epicsVsnprintf
_vsnprintf.restype = c_int
_vsnprintf.argtypes = (c_char_p, c_size_t, c_char_p, c_void_p)


def message(status: int) -> str:
    """Libca's words for an ECA status."""
    text: bytes = _message(status)  # type: ignore[assignment]
    return text.decode("utf-8", "replace")


NO_HOST = "<disconnected>"


def host_name(chid: c_size_t) -> str:
    """``host:port`` of the server that the channel is or was last connected to, or NO_HOST."""
    text: bytes = _host_name(chid)  # type: ignore[assignment]
    return text.decode("utf-8", "replace")


# -- The table of tokens ---------------------------------------------------------------------------


class Listener(Protocol):
    """Who hears what libca has to say beside the callbacks. Called on a thread of libca."""

    def exception(self, status: int, op: int, context: str, from_server: bool) -> None:
        """Libca, or a server through it, reports a failure that has no callback of its own."""

    def printed(self, text: str) -> None:
        """Libca would have printed this on stderr."""


class Requester(Protocol):
    """Who has asked for replies."""

    def arrive(self, index: int, raw: Raw) -> None:
        """On a thread of libca: the DBR bytes, or the ECA status of a failure."""


class ChannelOwner(Protocol):
    """Whose a channel is. Called on a thread of libca."""

    def connection_changed(self, up: bool, native_type: int, native_count: int) -> None:
        """The channel went up or down."""

    def exception(self, status: int, op: int, context: str, from_server: bool) -> None:
        """Libca, or a server through it, reports a failure that has no callback of its own."""


# Bytes of one DBR, or, when there is none, the ECA status that says why. An array of more
# than _BIG bytes comes as a bytearray, so that numpy can use it without another copy.
Raw = bytes | bytearray | int

# A token: who; which of the many requests that one owner may have out (a list of PVs); and the DBR
# type that was asked for, so that a reply of any other is known by it.
_DBR_BITS = 6
_INDEX_BITS = 20
INDEX_ONE = 1 << _DBR_BITS
_DBR_MASK = (1 << _DBR_BITS) - 1
_INDEX_MASK = (1 << _INDEX_BITS) - 1
_KEY_SHIFT = _DBR_BITS + _INDEX_BITS
_KEY_MASK = (1 << (64 - _KEY_SHIFT)) - 1
MAX_INDEX = _INDEX_MASK

_owners: dict[int, Any] = {}  # each a Requester or a ChannelOwner
_keys = itertools.count(1)


def register(owner: Requester | ChannelOwner) -> int:
    """Enter an owner; ``token + index * INDEX_ONE + dbr`` is what C may be given."""
    key = next(_keys) & _KEY_MASK
    while key == 0 or key in _owners:
        key = next(_keys) & _KEY_MASK
    _owners[key] = owner
    return key << _KEY_SHIFT


def unregister(token: int) -> None:
    """Make the token miss from now on. Idempotent; safe on any thread."""
    _owners.pop(token >> _KEY_SHIFT, None)


def token_count() -> int:
    """How many owners are in the table (for leak checks)."""
    return len(_owners)


# -- The trampolines -------------------------------------------------------------------------------

# All of memory as one array: a slice of it copies bytes out of C in a quarter of the time
# of ctypes.string_at(), and two thirds of from_address().raw. From about a page on a memoryview of
# it is faster still, as it copies by block.
memory = (ctypes.c_char * (1 << 62)).from_address(0)
_memory_view = memoryview(memory).cast("B")
_BIG = 4096

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
Trampoline = c_void_p
_for_ever: list[object] = []  # C may call what was once handed to it as long as the process lives


def event_trampoline(on_event: OnEvent) -> Trampoline:
    """What libca can be told to call; ``on_event(*six words to ignore, usr, chid, dbr, count,
    start, status)`` is called then, on a thread of libca. It is kept for ever.
    """
    if _SPREAD:
        trampoline: Any = _SPREAD_EVENT(on_event)
    else:
        trampoline = _EVENT(lambda args: on_event(0, 0, 0, 0, 0, 0, *_unpack_event(args)))
    _for_ever.append(trampoline)
    return ctypes.cast(trampoline, c_void_p)


def copied(expected: int, dbr: int, count: int, start: int, status: int) -> Raw:
    """What an event says: a copy of its DBR, or the ECA status of a failure."""
    if status != ECA_NORMAL:
        return status
    if not start:
        return b""  # the end of a put
    if dbr != expected or not 0 <= dbr < _DBR_TYPES or count < 0:
        return ECA_BADTYPE
    size = VALUE_OFFSET[dbr] + VALUE_SIZE[dbr] * count
    if size <= _BIG:
        return memory[start : start + size]  # type: ignore[return-value]
    try:
        return bytearray(_memory_view[start : start + size])
    except MemoryError:  # a server may name any count
        return ECA_ALLOCMEM


def _on_reply(
    _1: int, _2: int, _3: int, _4: int, _5: int, _6: int,
    usr: int, _chid: int, dbr: int, count: int, start: int, status: int,
) -> None:  # fmt: skip
    """Runs on a libca thread: the reply to a get, or the end of a put."""
    owner = _owners.get(usr >> _KEY_SHIFT)
    if owner is None:
        return
    if status == ECA_NORMAL and count == 1 and start and usr & _DBR_MASK == dbr:
        raw: Any = memory[start : start + SCALAR_SIZE[dbr]]  # nearly all of them
    else:
        raw = copied(usr & _DBR_MASK, dbr, count, start, status)
    index = usr >> _DBR_BITS & _INDEX_MASK
    if not index % _KEEP_EVERY:
        keep_thread_state(_KEEP_EVERY if index else 1)
    owner.arrive(index, raw)


def _on_connection(chid: int, op: int) -> None:
    """Runs on a libca thread: a channel went up or down."""
    keep_thread_state()
    owner = _owners.get(_puser(chid) >> _KEY_SHIFT)
    if owner is None:
        return
    if op == OP_CONN_UP:
        owner.connection_changed(True, field_type(chid), element_count(chid))
    else:
        owner.connection_changed(False, -1, 0)


# Who hears of what belongs to no channel.
_listeners: dict[int, Listener] = {}


def add_listener(token: int, listener: Listener) -> None:
    _listeners[token] = listener


def remove_listener(token: int) -> None:
    _listeners.pop(token, None)


def _on_exception(args: _ExceptionArgs) -> None:
    """Runs on a libca thread: a failure that no callback of ours hears of."""
    owner = _owners.get(_puser(args.chid) >> _KEY_SHIFT) if args.chid else None
    concerned = list(_listeners.copy().values()) if owner is None else [owner]
    # A server's text need not have an end.
    text = ctypes.string_at(args.ctx, _strnlen(args.ctx, _LONGEST_TEXT)) if args.ctx else b""
    for listener in concerned:
        # Only what libca itself has found has a place in its source.
        listener.exception(
            args.stat, args.op, text.decode("utf-8", "replace"), from_server=not args.file
        )


def _on_printf(format: bytes, arguments: int) -> int:
    """Runs on a libca thread, or on ours within a call: text that was meant for stderr."""
    buffer = ctypes.create_string_buffer(1024)
    length = _vsnprintf(buffer, len(buffer), format, arguments)
    for listener in list(_listeners.copy().values())[:1]:
        listener.printed(buffer.value.decode("utf-8", "replace").strip())
    return int(length)


# How what libca writes into libCom's error log begins; all else there is somebody else's.
_LIBCA_SAYS = re.compile(rb"\s*(Unexpected problem with CA circuit|CAC?\b|cac\b|CA\.Client)")


def _on_errlog(_private: int, message: bytes) -> None:
    """Runs on libCom's thread for the error log: a message to it."""
    if _LIBCA_SAYS.match(message):
        for listener in list(_listeners.copy().values())[:1]:
            listener.printed(message.decode("utf-8", "replace").strip())
    else:
        try:
            os.write(2, message)  # where the error log would have written it
        except OSError:
            pass


reply_trampoline = event_trampoline(_on_reply)
_connection_trampoline = (
    ctypes.cast(_SPREAD_CONNECTION(_on_connection), _CONNECTION)
    if _SPREAD
    else _CONNECTION(lambda args: _on_connection(args.chid, args.op))
)
_exception_trampoline = _EXCEPTION(_on_exception)
_printf_trampoline = _PRINTF(_on_printf)
_errlog_trampoline = _ERRLOG(_on_errlog)


# -- Without waiting -------------------------------------------------------------------------------

# What libca marks its own threads with: on those, requests do not wait for a server that is slow to
# take what was sent before, as that would be a deadlock. They are queued, which is what we want.
_mark_of, _set_mark = _com_quick.epicsThreadPrivateGet, _com_quick.epicsThreadPrivateSet
_mark_of.restype = c_void_p
_set_mark.restype = None
_mark: c_void_p | None  # where libca keeps the id of it; None if this build does not show that
try:
    _mark = c_void_p.in_dll(_ca, "caClientCallbackThreadId")
except ValueError:
    _mark = None
_DEEP = 1000  # more than this is libca's own mark, an address


class _Unblocked:
    """See `unblocked`. The mark says how deep the thread is in it."""

    __slots__ = ()

    def __enter__(self) -> None:
        if _mark:
            depth = _mark_of(_mark) or 0
            if depth < _DEEP:
                _set_mark(_mark, c_void_p(depth + 1))

    def __exit__(self, *_: object) -> None:
        if _mark:
            depth = _mark_of(_mark) or 0
            if 0 < depth < _DEEP:
                _set_mark(_mark, c_void_p(depth - 1))


unblocked = _Unblocked()
"""A block in which this thread's requests do not wait for any server."""


# -- Requests --------------------------------------------------------------------------------------
# Each returns an ECA status. They work on any thread, as they go by chid.


# Arguments as C has them
C_DBR = tuple(c_long(dbr) for dbr in range(_DBR_TYPES))
Usr = c_size_t
Chid = c_size_t
c_count = c_ulong  # 0 is the server's current length
ONE = c_count(1)


# get_callback(C_DBR[dbr], count, chid, reply_trampoline, usr) asks for a value; ``usr`` holds a
# token, and can be given another one when it returns.


def put(dbr: int, count: int, chid: c_size_t, data: Data) -> int:
    """Send a value. libca has copied ``data`` when this returns."""
    c_number = ONE if count == 1 else c_count(count)
    return _put(C_DBR[dbr], c_number, chid, _address(data))  # type: ignore[no-any-return]


def put_notify(dbr: int, count: int, chid: c_size_t, data: Data, usr: c_size_t) -> int:
    """Send a value and have the end of its processing reported to the token in ``usr``."""
    return _put_callback(  # type: ignore[no-any-return]
        C_DBR[dbr], ONE if count == 1 else c_count(count), chid, _address(data),
        reply_trampoline, usr,
    )  # fmt: skip


def _address(data: Data) -> bytes | c_void_p:
    if type(data) is bytes:
        return data
    return c_void_p(data.__array_interface__["data"][0])  # type: ignore[union-attr]


def clear_subscription(evid: int) -> None:
    """End a subscription; waits for the callback that libca makes just now."""
    with unblocked:
        _clear_subscription(evid)


def clear_channel(chid: c_size_t) -> None:
    """End a channel and all that belongs to it; waits like `clear_subscription`."""
    with unblocked:
        _clear_channel(chid)


def create_subscription(
    dbr: int, count: int, chid: c_size_t, mask: int, trampoline: Trampoline, usr: int
) -> tuple[int, int]:
    """Subscribe; returns the ECA status and the evid."""
    evid = c_size_t()
    status = _create_subscription(dbr, count, chid, mask, trampoline, usr, ctypes.byref(evid))
    return status, evid.value


class _Array(Protocol):
    @property
    def __array_interface__(self) -> dict[str, tuple[int, bool]]: ...


Data = bytes | _Array


# -- Contexts: what works on the calling thread's own only (see `_client`) -------------------------


def create_channel(name: bytes, token: int, priority: int = 0) -> tuple[int, c_size_t]:
    """Create a channel in the thread's context; returns the ECA status and the chid."""
    chid = c_size_t()
    status = _create_channel(name, _connection_trampoline, token, priority, ctypes.byref(chid))
    return status, chid


def route_messages() -> None:
    """Have the thread's context tell our listeners what it would print."""
    _add_exception_event(_exception_trampoline, 0)
    _replace_printf_handler(ctypes.cast(_printf_trampoline, c_void_p))
    _route_error_log()


_error_log_is_ours = False
_forked = False


def _route_error_log() -> None:
    global _error_log_is_ours
    # An IOC in this process has the error log for its own, and its shell can switch it off. In a
    # forked child its thread is not there, and each call would wait for it.
    if not (_error_log_is_ours or _forked or _is_loaded(dbCore_dsoinfo)):
        _error_log_is_ours = True
        _com.errlogAddListener(_errlog_trampoline, c_void_p(0))
        _com.eltc(0)


def _is_loaded(dsoinfo: object) -> bool:
    try:
        ctypes.CDLL(dsoinfo.sofilename, mode=os.RTLD_NOLOAD)  # type: ignore[attr-defined]
    except (OSError, AttributeError):  # Windows has no RTLD_NOLOAD
        return False
    return True


def silence_messages() -> None:
    """Have the thread's context call nothing of Python any more, and print nothing."""
    if _error_log_is_ours:
        _com.errlogRemoveListeners(_errlog_trampoline, c_void_p(0))
    # libCom's own, which prints nothing
    _replace_printf_handler(ctypes.cast(_com.errlogVprintfNoConsole, c_void_p))
    # One that does nothing: libca's own ends the process where a server reports something fatal.
    _add_exception_event(ctypes.cast(_ca.ca_version, _EXCEPTION), 0)
    # Clearing a channel waits for the callback that is being made just now, to our old handlers.
    status, chid = create_channel(b"aioca", 0)
    if status == ECA_NORMAL:
        _clear_channel(chid)


def in_main_interpreter() -> bool:
    """Whether this is the interpreter that ctypes runs the callbacks of foreign threads in."""
    api = ctypes.pythonapi
    api.PyInterpreterState_Get.restype = api.PyInterpreterState_Main.restype = c_void_p
    return bool(api.PyInterpreterState_Get() == api.PyInterpreterState_Main())


def forget_all() -> None:
    """In a forked child: no token of the parent's will be heard of again."""
    global _error_log_is_ours, _forked
    _error_log_is_ours, _forked = False, True
    _owners.clear()
    _listeners.clear()
    _callbacks_seen.clear()


def skip_exit_handlers() -> None:
    """In a forked child: have exit() end the process before it comes to libCom's handlers.

    They wait for threads that the child does not have (that of the CA repeater's watchdog, where
    the repeater runs in the parent), for ever. Handlers run last in, first out, and Python is
    done by then; glibc's on_exit() passes the exit status, which _exit() takes.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):
        libc.on_exit(libc._exit, None)
