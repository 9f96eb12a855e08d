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
  callbacks, and those need the GIL to end.
- The trampolines are module globals, so C can never reach one that was collected.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
from collections.abc import Callable
from ctypes import c_char_p, c_int, c_long, c_short, c_size_t, c_uint, c_ulong, c_ushort, c_void_p
from typing import Protocol

from epicscorelibs.lib import Com_dsoinfo, ca_dsoinfo

# The statuses that this package decides by; every other one only passes through.
ECA_NORMAL = 1
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
        ("ctx", c_char_p),
        ("file", c_char_p),
        ("line", c_uint),
    ]


_EVENT = ctypes.CFUNCTYPE(None, _EventArgs)
_CONNECTION = ctypes.CFUNCTYPE(None, _ConnectionArgs)
_EXCEPTION = ctypes.CFUNCTYPE(None, _ExceptionArgs)
# The second argument is a va_list. In each calling convention that epicscorelibs is built for
# it travels as one word (a pointer to it, or itself a pointer), which can be handed on as such.
_PRINTF = ctypes.CFUNCTYPE(c_int, c_char_p, c_void_p)


# -- Prototypes ------------------------------------------------------------------------------------


def _prototype(name: str, restype: object, *argtypes: object) -> Callable[..., int]:
    function = getattr(_ca, name)
    function.restype = restype
    function.argtypes = argtypes
    return function  # type: ignore[no-any-return]


_message = _prototype("ca_message", c_char_p, c_long)
_host_name = _prototype("ca_host_name", c_char_p, c_size_t)
context_create = _prototype("ca_context_create", c_int, c_int)
current_context = _prototype("ca_current_context", c_void_p)
attach_context = _prototype("ca_attach_context", c_int, c_void_p)
detach_context = _prototype("ca_detach_context", None)
is_preemptive = _prototype("ca_preemtive_callback_is_enabled", c_int)
_add_exception_event = _prototype("ca_add_exception_event", c_int, _EXCEPTION, c_size_t)
_replace_printf_handler = _prototype("ca_replace_printf_handler", c_int, c_void_p)
_create_channel = _prototype(
    "ca_create_channel", c_int, c_char_p, _CONNECTION, c_size_t, c_uint, c_void_p
)
flush_io = _prototype("ca_flush_io", c_int)
_puser = _prototype("ca_puser", c_size_t, c_size_t)
_get_callback = _prototype(
    "ca_array_get_callback", c_int, c_long, c_ulong, c_size_t, _EVENT, c_size_t
)
_put_callback = _prototype(
    "ca_array_put_callback", c_int, c_long, c_ulong, c_size_t, c_char_p, _EVENT, c_size_t
)
_put_callback_at = ctypes.CFUNCTYPE(c_int, c_long, c_ulong, c_size_t, c_size_t, _EVENT, c_size_t)(
    ("ca_array_put_callback", _ca)
)
_put = _prototype("ca_array_put", c_int, c_long, c_ulong, c_size_t, c_char_p)
_put_at = ctypes.CFUNCTYPE(c_int, c_long, c_ulong, c_size_t, c_size_t)(("ca_array_put", _ca))
_create_subscription = _prototype(
    "ca_create_subscription", c_int,
    c_long, c_ulong, c_size_t, c_long, _EVENT, c_size_t, c_void_p,
)  # fmt: skip

clear_subscription = _prototype("ca_clear_subscription", c_int, c_size_t)
clear_channel = _prototype("ca_clear_channel", c_int, c_size_t)
field_type = _prototype("ca_field_type", c_short, c_size_t)
element_count = _prototype("ca_element_count", c_ulong, c_size_t)
read_access = _prototype("ca_read_access", c_uint, c_size_t)
write_access = _prototype("ca_write_access", c_uint, c_size_t)

# Where the value starts in each DBR type, and how long one element of it is: libca's own.
_DBR_TYPES = 39
VALUE_OFFSET = tuple((c_ushort * _DBR_TYPES).in_dll(_ca, "dbr_value_offset"))
VALUE_SIZE = tuple((c_ushort * _DBR_TYPES).in_dll(_ca, "dbr_value_size"))


_vsnprintf = _com.epicsVsnprintf
_vsnprintf.restype = c_int
_vsnprintf.argtypes = (c_char_p, c_size_t, c_char_p, c_void_p)


def message(status: int) -> str:
    """Libca's words for an ECA status."""
    text: bytes = _message(status)  # type: ignore[assignment]
    return text.decode("utf-8", "replace")


def host_name(chid: int) -> str:
    """``host:port`` of the server that the channel is or was last connected to."""
    text: bytes = _host_name(chid)  # type: ignore[assignment]
    return text.decode("utf-8", "replace")


# -- The table of tokens ---------------------------------------------------------------------------


class Listener(Protocol):
    """Who hears what libca has to say beside the callbacks. Called on a thread of libca."""

    def exception(self, status: int, op: int, context: str) -> None:
        """Libca reports a failure that has no callback of its own."""

    def printed(self, text: str) -> None:
        """Libca would have printed this on stderr."""


class Owner(Protocol):
    """Who a token belongs to. Every method is called on a thread of libca."""

    def arrive(self, index: int, dbr: int, raw: Raw) -> None:
        """A reply or an update: the DBR bytes, or the ECA status of a failure."""

    def connection_changed(self, up: bool, native_type: int, native_count: int) -> None:
        """A channel of this owner went up or down."""

    def exception(self, status: int, op: int, context: str) -> None:
        """Libca reports a failure that has no callback of its own."""


# Bytes of one DBR, or, when there is none, the ECA status that says why. An array of more
# than _BIG bytes comes as a bytearray, so that numpy can use it without another copy.
Raw = bytes | bytearray | int

# One owner may have many requests out (a list of PVs): the low bits of a token say which.
_INDEX_BITS = 24
_INDEX_MASK = (1 << _INDEX_BITS) - 1
_KEY_MASK = (1 << (64 - _INDEX_BITS)) - 1
MAX_INDEX = _INDEX_MASK

_owners: dict[int, Owner] = {}
_keys = itertools.count(1)


def register(owner: Owner) -> int:
    """Enter an owner into the table; ``token + index`` is what C may be given."""
    key = next(_keys) & _KEY_MASK
    while key == 0 or key in _owners:
        key = next(_keys) & _KEY_MASK
    _owners[key] = owner
    return key << _INDEX_BITS


def unregister(token: int) -> None:
    """Make the token miss from now on. Idempotent; safe on any thread."""
    _owners.pop(token >> _INDEX_BITS, None)


def token_count() -> int:
    """How many owners are in the table (for leak checks)."""
    return len(_owners)


# -- The trampolines -------------------------------------------------------------------------------

# All of memory as one array: a slice of it copies bytes out of C in a quarter of the time
# of ctypes.string_at(), and two thirds of from_address().raw. From about a page on a memoryview of
# it is faster still, as it copies by block.
_memory = (ctypes.c_char * (1 << 62)).from_address(0)
_memory_view = memoryview(_memory).cast("B")
_BIG = 4096

# ctypes makes a Python thread state for a foreign thread's callback and destroys it when the
# callback ends, which costs more than all the rest of it (18 us against 4.5 us). One
# PyGILState_Ensure that is never released keeps the state. It cannot be given back when libca
# ends the thread, some 20 kB, so only a thread that turns out busy gets one: a circuit that
# lives for a few callbacks leaves nothing behind.
_KEEP_AFTER = 256
_thread = threading.local()
_callbacks_seen: dict[int, int] = {}
_gilstate_ensure = ctypes.pythonapi.PyGILState_Ensure


def _keep_thread_state() -> None:
    ident = threading.get_ident()
    seen = _callbacks_seen.get(ident, 0) + 1
    if seen < _KEEP_AFTER:
        _callbacks_seen[ident] = seen
        return
    del _callbacks_seen[ident]
    _gilstate_ensure()
    _thread.kept = True


def _on_event(args: _EventArgs) -> None:
    """Runs on a libca thread: a reply to a get, the end of a put, or an update."""
    try:
        _thread.kept  # noqa: B018
    except AttributeError:
        _keep_thread_state()
    usr = args.usr
    owner = _owners.get(usr >> _INDEX_BITS)
    if owner is None:
        return
    dbr = args.type
    raw: Raw = args.status
    if raw == ECA_NORMAL:
        start = args.dbr
        if not start:
            raw = b""  # the end of a put
        elif 0 <= dbr < _DBR_TYPES:
            size = VALUE_OFFSET[dbr] + VALUE_SIZE[dbr] * args.count
            if size <= _BIG:
                raw = _memory[start : start + size]  # type: ignore[assignment]
            else:
                raw = bytearray(_memory_view[start : start + size])
        else:
            raw = ECA_BADTYPE
    owner.arrive(usr & _INDEX_MASK, dbr, raw)


def _on_connection(args: _ConnectionArgs) -> None:
    """Runs on a libca thread: a channel went up or down."""
    try:
        _thread.kept  # noqa: B018
    except AttributeError:
        _keep_thread_state()
    chid = args.chid
    owner = _owners.get(_puser(chid) >> _INDEX_BITS)
    if owner is None:
        return
    if args.op == OP_CONN_UP:
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
    owner = _owners.get(_puser(args.chid) >> _INDEX_BITS) if args.chid else None
    concerned = list(_listeners.copy().values()) if owner is None else [owner]
    for listener in concerned:
        listener.exception(args.stat, args.op, (args.ctx or b"").decode("utf-8", "replace"))


def _on_printf(format: bytes, arguments: int) -> int:
    """Runs on a libca thread, or on ours within a call: text that was meant for stderr."""
    buffer = ctypes.create_string_buffer(1024)
    length = _vsnprintf(buffer, len(buffer), format, arguments)
    for listener in list(_listeners.copy().values())[:1]:
        listener.printed(buffer.value.decode("utf-8", "replace").strip())
    return int(length)


_event_trampoline = _EVENT(_on_event)
_connection_trampoline = _CONNECTION(_on_connection)
_exception_trampoline = _EXCEPTION(_on_exception)
_printf_trampoline = _PRINTF(_on_printf)


# -- Requests --------------------------------------------------------------------------------------
# Each returns an ECA status. They work on any thread, as they go by chid.


def get(dbr: int, count: int, chid: int, token: int) -> int:
    """Ask for a value; ``count`` 0 is the server's current length."""
    return _get_callback(dbr, count, chid, _event_trampoline, token)


def put(dbr: int, count: int, chid: int, data: Data) -> int:
    """Send a value. libca has copied ``data`` when this returns."""
    if isinstance(data, bytes):
        return _put(dbr, count, chid, data)
    return int(_put_at(dbr, count, chid, data.__array_interface__["data"][0]))


def put_notify(dbr: int, count: int, chid: int, data: Data, token: int) -> int:
    """Send a value and have the end of its processing reported to the token."""
    if isinstance(data, bytes):
        return _put_callback(dbr, count, chid, data, _event_trampoline, token)
    address = data.__array_interface__["data"][0]
    return int(_put_callback_at(dbr, count, chid, address, _event_trampoline, token))


def create_subscription(dbr: int, count: int, chid: int, mask: int, token: int) -> tuple[int, int]:
    """Subscribe; returns the ECA status and the evid."""
    evid = c_size_t()
    status = _create_subscription(
        dbr, count, chid, mask, _event_trampoline, token, ctypes.byref(evid)
    )
    return status, evid.value


class _Array(Protocol):
    @property
    def __array_interface__(self) -> dict[str, tuple[int, bool]]: ...


Data = bytes | _Array


# -- Contexts: what works on the calling thread's own only (see `_client`) -------------------------


def create_channel(name: bytes, token: int) -> tuple[int, int]:
    """Create a channel in the thread's context; returns the ECA status and the chid."""
    chid = c_size_t()
    status = _create_channel(name, _connection_trampoline, token, 0, ctypes.byref(chid))
    return status, chid.value


def route_messages() -> None:
    """Have the thread's context tell our listeners what it would print."""
    _add_exception_event(_exception_trampoline, 0)
    _replace_printf_handler(ctypes.cast(_printf_trampoline, c_void_p))


def silence_messages() -> None:
    """Have the thread's context call nothing of Python any more, and print nothing."""
    # libCom's own, which prints nothing. libca's own exception handler prints through it.
    _replace_printf_handler(ctypes.cast(_com.errlogVprintfNoConsole, c_void_p))
    _add_exception_event(_EXCEPTION(), 0)


def in_main_interpreter() -> bool:
    """Whether this is the interpreter that ctypes runs the callbacks of foreign threads in."""
    api = ctypes.pythonapi
    api.PyInterpreterState_Get.restype = api.PyInterpreterState_Main.restype = c_void_p
    return bool(api.PyInterpreterState_Get() == api.PyInterpreterState_Main())


def forget_all() -> None:
    """In a forked child: no token of the parent's will be heard of again."""
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
