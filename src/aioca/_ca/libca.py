"""libca through ctypes: the libraries, the prototypes, and the calls that go by a channel.

It knows nothing of channels, values or event loops. What libca calls is in `_trampolines` and
`_messages`; of those calls that have libca call back, each is given the trampoline and a token.

What must stay true here:

- libca is called through ``CDLL``, which releases the GIL: ``ca_clear_*`` waits for running
  callbacks, and those need the GIL to end. So may whoever holds another lock of libca.
- A request of the loop's is made `unblocked`, or it would wait while a server that has stopped
  leaves some 350 kB unread.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from ctypes import c_char_p, c_int, c_long, c_short, c_size_t, c_uint, c_ulong, c_ushort, c_void_p
from typing import Protocol

from epicscorelibs.lib import Com_dsoinfo, ca_dsoinfo, dbCore_dsoinfo

# The statuses that this package decides by; every other one only passes through.
ECA_NORMAL = 1
ECA_ALLOCMEM = 48
ECA_TOLARGE = 72
ECA_TIMEOUT = 80
ECA_BADTYPE = 114
ECA_GETFAIL = 152
ECA_PUTFAIL = 160
ECA_BADCOUNT = 176
ECA_BADSTR = 186
ECA_DISCONN = 192
ECA_NORDACCESS = 368
ECA_NOWTACCESS = 376
ECA_NOCONVERT = 400
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
    # drags in setuptools. Local: the libca that pyepics brings, loaded before and bound later,
    # would otherwise call into ours.
    return ctypes.CDLL(dsoinfo.sofilename, mode=ctypes.RTLD_LOCAL)  # type: ignore[attr-defined]


com = _load(Com_dsoinfo)
ca = _load(ca_dsoinfo)
# The same libraries for calls that only look at what belongs to the thread: the GIL is kept, since
# giving it up while libca's threads want it means to wait for it.
_com_quick = ctypes.PyDLL(Com_dsoinfo.sofilename)
_ca_quick = ctypes.PyDLL(ca_dsoinfo.sofilename)


# -- Prototypes ------------------------------------------------------------------------------------


def prototype(
    name: str, restype: object, *argtypes: object, library: ctypes.CDLL = ca
) -> Callable[..., int]:
    """One of libca's functions, told what it takes and returns."""
    function = getattr(library, name)
    function.restype = restype
    function.argtypes = argtypes
    return function  # type: ignore[no-any-return]


_message = prototype("ca_message", c_char_p, c_long)
_host_name = prototype("ca_host_name", c_char_p, c_size_t)
context_create = prototype("ca_context_create", c_int, c_int)
current_context = prototype("ca_current_context", c_void_p, library=_ca_quick)
attach_context = prototype("ca_attach_context", c_int, c_void_p, library=_ca_quick)
detach_context = prototype("ca_detach_context", None, library=_ca_quick)
is_preemptive = prototype("ca_preemtive_callback_is_enabled", c_int)
_create_channel = prototype(
    "ca_create_channel", c_int, c_char_p, c_void_p, c_size_t, c_uint, c_void_p
)
flush_io = prototype("ca_flush_io", c_int)
puser = prototype("ca_puser", c_size_t, c_size_t, library=_ca_quick)
_create_subscription = prototype(
    "ca_create_subscription", c_int,
    c_long, c_ulong, c_size_t, c_long, c_void_p, c_size_t, c_void_p,
)  # fmt: skip

# These are called once for each PV of a list. They have no argtypes: converting Python's integers
# would take two thirds of the time of a call. So they must be given C objects of the right size.
get_callback = ca["ca_array_get_callback"]
_put_callback = ca["ca_array_put_callback"]
_put = ca["ca_array_put"]

_clear_subscription = prototype("ca_clear_subscription", c_int, c_size_t)
_clear_channel = prototype("ca_clear_channel", c_int, c_size_t)
field_type = prototype("ca_field_type", c_short, c_size_t)
element_count = prototype("ca_element_count", c_ulong, c_size_t)
read_access = prototype("ca_read_access", c_uint, c_size_t)
write_access = prototype("ca_write_access", c_uint, c_size_t)

# Where the value starts in each DBR type, and how long one element of it is: libca's own.
DBR_TYPES = 39
VALUE_OFFSET = tuple((c_ushort * DBR_TYPES).in_dll(ca, "dbr_value_offset"))
VALUE_SIZE = tuple((c_ushort * DBR_TYPES).in_dll(ca, "dbr_value_size"))
SCALAR_SIZE = tuple(map(sum, zip(VALUE_OFFSET, VALUE_SIZE, strict=True)))  # of one element


def message(status: int) -> str:
    """Libca's words for an ECA status."""
    text: bytes = _message(status)  # type: ignore[assignment]
    return text.decode("utf-8", "replace")


NO_HOST = "<disconnected>"


def host_name(chid: c_size_t) -> str:
    """``host:port`` of the server that the channel is or was last connected to, or NO_HOST."""
    text: bytes = _host_name(chid)  # type: ignore[assignment]
    return text.decode("utf-8", "replace")


# -- Without waiting -------------------------------------------------------------------------------

# What libca marks its own threads with: on those, requests do not wait for a server that is slow to
# take what was sent before, as that would be a deadlock. They are queued, which is what we want.
_mark_of, _set_mark = _com_quick.epicsThreadPrivateGet, _com_quick.epicsThreadPrivateSet
_mark_of.restype = c_void_p
_set_mark.restype = None
_mark: c_void_p | None  # where libca keeps the id of it; None if this build does not show that
try:
    _mark = c_void_p.in_dll(ca, "caClientCallbackThreadId")
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
C_DBR = tuple(c_long(dbr) for dbr in range(DBR_TYPES))
Trampoline = c_void_p  # what libca can be told to call: see `_trampolines`
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


def put_notify(
    dbr: int, count: int, chid: c_size_t, data: Data, trampoline: Trampoline, usr: c_size_t
) -> int:
    """Send a value and have the end of its processing reported to the token in ``usr``."""
    return _put_callback(  # type: ignore[no-any-return]
        C_DBR[dbr], ONE if count == 1 else c_count(count), chid, _address(data), trampoline, usr
    )


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


def create_channel(
    name: bytes, trampoline: Trampoline, token: int, priority: int
) -> tuple[int, c_size_t]:
    """Create a channel in the thread's context; returns the ECA status and the chid."""
    chid = c_size_t()
    status = _create_channel(name, trampoline, token, priority, ctypes.byref(chid))
    return status, chid


# -- The process -----------------------------------------------------------------------------------


def has_ioc() -> bool:
    """Whether the libraries of an IOC are loaded into this process."""
    try:
        ctypes.CDLL(dbCore_dsoinfo.sofilename, mode=os.RTLD_NOLOAD)
    except (OSError, AttributeError):  # Windows has no RTLD_NOLOAD
        return False
    return True


def in_main_interpreter() -> bool:
    """Whether this is the interpreter that ctypes runs the callbacks of foreign threads in."""
    api = ctypes.pythonapi
    api.PyInterpreterState_Get.restype = api.PyInterpreterState_Main.restype = c_void_p
    return bool(api.PyInterpreterState_Get() == api.PyInterpreterState_Main())


def skip_exit_handlers() -> None:
    """In a forked child: have exit() end the process before it comes to libCom's handlers.

    They wait for threads that the child does not have (that of the CA repeater's watchdog, where
    the repeater runs in the parent), for ever. Handlers run last in, first out, and Python is
    done by then; glibc's on_exit() passes the exit status, which _exit() takes.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):
        libc.on_exit(libc._exit, None)
