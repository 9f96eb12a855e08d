"""libca through ctypes: the function prototypes, and the calls that take a chid.

`library` has loaded libca. This module depends on no channel, value or event loop. The
functions that libca calls are in `callbacks` and `messages`. Each request for a callback is given a
trampoline and a token.

Invariants:

- libca is called through ``CDLL``, which releases the GIL: ``ca_clear_*`` waits for running
  callbacks, which need the GIL to end. A thread that holds another lock of libca may need the GIL
  too.
- The event loop makes its requests in a call of `unblocked`. Otherwise a request would wait while
  a server that has stopped leaves about 350 kB unread.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterable, Sequence
from ctypes import c_char_p, c_int, c_long, c_short, c_size_t, c_uint, c_ulong, c_ushort, c_void_p
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np

from .library import address_of, ca_quick, com_quick, lacks, optional, prototype, required

if TYPE_CHECKING:
    from typing import Any

    import numpy.typing as npt

    Data = bytes | npt.NDArray[Any]

# The statuses that this package handles or reports itself. All others are only passed on.
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

# libca refuses a name of 1008 bytes. From 992 bytes on it accepts the name, which then does not fit
# into a search datagram and blocks every later search of the context.
MAX_NAME_BYTES = 991


# -- Prototypes ------------------------------------------------------------------------------------

_message = prototype("ca_message", c_char_p, c_long)
_host_name = prototype("ca_host_name", c_char_p, c_size_t)
context_create = prototype("ca_context_create", c_int, c_int)
current_context = prototype("ca_current_context", c_void_p, library=ca_quick)
attach_context = prototype("ca_attach_context", c_int, c_void_p, library=ca_quick)
detach_context = prototype("ca_detach_context", None, library=ca_quick)
is_preemptive = prototype("ca_preemtive_callback_is_enabled", c_int)
flush_io = prototype("ca_flush_io", c_int)
puser = prototype("ca_puser", c_size_t, c_size_t, library=ca_quick)
_create_channel = prototype(
    "ca_create_channel", c_int, c_char_p, c_void_p, c_size_t, c_uint, c_void_p
)
_create_subscription = prototype(
    "ca_create_subscription", c_int,
    c_long, c_ulong, c_size_t, c_long, c_void_p, c_size_t, c_void_p,
)  # fmt: skip

# These are called once for each PV of a list. They have no argtypes, because converting Python
# integers would take two thirds of the time of a call. So callers must pass C objects of the right
# size. Trick ``c_objects`` of the benchmark: row get_list.
get_callback = required("ca_array_get_callback")
_put_callback = required("ca_array_put_callback")
_put = required("ca_array_put")

# Both block until a callback that libca is making has returned. Clearing a channel clears its
# subscriptions too.
clear_subscription = prototype("ca_clear_subscription", c_int, c_size_t)
clear_channel = prototype("ca_clear_channel", c_int, c_size_t)
field_type = prototype("ca_field_type", c_short, c_size_t)
element_count = prototype("ca_element_count", c_ulong, c_size_t)
read_access = prototype("ca_read_access", c_uint, c_size_t)
write_access = prototype("ca_write_access", c_uint, c_size_t)
# report_access(chid, access_trampoline) has libca call the trampoline for each change of the access
# rights. If the channel is connected, libca calls it at once, on the calling thread and without its
# callback lock. It cannot be undone: libca would call NULL.
report_access = prototype("ca_replace_access_rights_event", c_int, c_size_t, c_void_p)

# libca's tables: the offset of the value in each DBR type, and the size of one element, in bytes.
DBR_TYPES = 39


def _table(name: str) -> tuple[int, ...]:
    required(name)
    return tuple((c_ushort * DBR_TYPES).from_address(address_of(name) or 0))


VALUE_OFFSET = _table("dbr_value_offset")
VALUE_SIZE = _table("dbr_value_size")
SCALAR_SIZE = tuple(map(sum, zip(VALUE_OFFSET, VALUE_SIZE, strict=True)))  # with one element


def message(status: int) -> str:
    """The text of libca for an ECA status. Any thread."""
    text: bytes = _message(status)  # type: ignore[assignment]
    return text.decode("utf-8", "replace")


NO_HOST = "<disconnected>"  # libca's text where it has no host


def host_name(chid: int) -> str:
    """``host:port`` of the server that the channel is or was last connected to, or NO_HOST."""
    text: bytes = _host_name(chid)  # type: ignore[assignment]
    return text.decode("utf-8", "replace")


# -- Requests that do not block --------------------------------------------------------------------

# libca marks its own threads with a thread-private variable. On a thread with the mark, a request
# does not wait for a server that is slow to read earlier requests, as that would be a deadlock: the
# request is queued. The event loop needs the same, so `unblocked` sets the mark.
_COST = "a request may wait for a server that reads nothing, and the event loop with it"
_mark_of = optional("epicsThreadPrivateGet", _COST, com_quick)
_set_mark = optional("epicsThreadPrivateSet", _COST, com_quick)
_mark: c_void_p | None = None  # libca's variable with the id of the mark; None if it has none
_mark_address = address_of("caClientCallbackThreadId")
if _mark_address is None:
    lacks["caClientCallbackThreadId"] = _COST
elif _mark_of is not None and _set_mark is not None:
    _mark_of.restype, _set_mark.restype = c_void_p, None
    _mark = c_void_p.from_address(_mark_address)
_UNBLOCKED = c_void_p(1)  # libca's own mark is an address


def unblocked(function: Callable[..., object], *arguments: object) -> None:
    """Call a function in which no request of this thread waits for a server. Can be nested."""
    if not _mark:
        function(*arguments)
        return
    before = _mark_of(_mark)
    _set_mark(_mark, _UNBLOCKED)
    try:
        function(*arguments)
    finally:
        _set_mark(_mark, c_void_p(before))


# -- Requests --------------------------------------------------------------------------------------
# Each returns an ECA status, and works on any thread, as it takes a chid.


# Arguments as C types
C_DBR = tuple(c_long(dbr) for dbr in range(DBR_TYPES))
Trampoline = c_void_p  # a function for libca to call: see `callbacks`
Usr = c_size_t
Chid = c_size_t  # outside of calls a chid is an int, which needs a quarter of the memory
c_count = c_ulong  # 0 requests the current length of the array
ONE = c_count(1)


class _Words:
    """Numbers as C arguments: each argument is a window on one array of words."""

    def __init__(self) -> None:
        self.words = np.zeros(MAX_SCALARS, np.uint64)
        window: Any = self.words
        self.arguments = [c_size_t.from_buffer(window, 8 * i) for i in range(MAX_SCALARS)]

    def __repr__(self) -> str:
        return f"<_Words {self.words}>"


class _WordsOfThread(threading.local):
    """The channels and tokens of `get_scalars`, in each thread."""

    def __init__(self) -> None:
        self.chids, self.tokens = _Words(), _Words()


MAX_SCALARS = 256  # of one call of `get_scalars`
_words_of_thread = _WordsOfThread()


def get_scalars(
    c_dbrs: Iterable[c_long], chids: Sequence[int], trampoline: Trampoline, tokens: Any
) -> list[int]:
    """Request one element from each of many channels; return the ECA statuses.

    Args:
        c_dbrs: the DBR types, each from `C_DBR`.
        chids: the channels, at most `MAX_SCALARS`.
        trampoline: the C callback.
        tokens: what libca is to pass to it, an array of uint64.
    """
    count = len(chids)
    c_chids, c_tokens = _words_of_thread.chids, _words_of_thread.tokens
    c_chids.words[:count] = chids
    c_tokens.words[:count] = tokens
    # `map` ends with the shortest of these
    some = c_chids.arguments[:count]
    return list(
        map(get_callback, c_dbrs, repeat(ONE), some, repeat(trampoline), c_tokens.arguments)
    )


# get_callback(C_DBR[dbr], count, c_chid, reply_trampoline, usr) requests a value. ``usr`` holds a
# token. The caller may change ``c_chid`` and ``usr`` as soon as a call returns.


def put(dbr: int, count: int, c_chid: Chid, data: Data) -> int:
    """Send a value. libca copies ``data`` before this returns."""
    c_number = ONE if count == 1 else c_count(count)
    return _put(C_DBR[dbr], c_number, c_chid, _address(data))  # type: ignore[no-any-return]


def put_notify(
    dbr: int, count: int, c_chid: Chid, data: Data, trampoline: Trampoline, usr: Usr
) -> int:
    """Send a value; libca calls back with the token in ``usr`` when the write is complete."""
    return _put_callback(  # type: ignore[no-any-return]
        C_DBR[dbr], ONE if count == 1 else c_count(count), c_chid, _address(data), trampoline, usr
    )


def _address(data: Data) -> bytes | c_void_p:
    if type(data) is bytes:
        return data
    return c_void_p(data.__array_interface__["data"][0])  # type: ignore[union-attr]


def create_subscription(
    dbr: int, count: int, chid: int, mask: int, trampoline: Trampoline, usr: int
) -> tuple[int, int]:
    """Subscribe; return the ECA status and the evid."""
    evid = c_size_t()
    status = _create_subscription(dbr, count, chid, mask, trampoline, usr, ctypes.byref(evid))
    return status, evid.value


# -- Calls that use the context of the calling thread (see `context`) ------------------------------


def create_channel(
    name: bytes, trampoline: Trampoline, token: int, priority: int
) -> tuple[int, int]:
    """Create a channel in the thread's context; return the ECA status and the chid."""
    chid = Chid()
    status = _create_channel(name, trampoline, token, priority, ctypes.byref(chid))
    return status, chid.value


# -- The process -----------------------------------------------------------------------------------


def in_main_interpreter() -> bool:
    """Whether this is the main interpreter, where ctypes runs callbacks of foreign threads."""
    api = ctypes.pythonapi
    api.PyInterpreterState_Get.restype = api.PyInterpreterState_Main.restype = c_void_p
    return bool(api.PyInterpreterState_Get() == api.PyInterpreterState_Main())


def skip_exit_handlers() -> None:
    """Make exit() end the process before it calls libCom's handlers; in a forked child.

    Those handlers would wait forever for threads that the child does not have (such as the CA
    repeater's watchdog, if the repeater runs in the parent). Exit handlers run last in, first out,
    after Python has finalized. glibc's on_exit() passes the exit status on to _exit(). Without
    on_exit() this does nothing.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):
        libc.on_exit(libc._exit, None)
