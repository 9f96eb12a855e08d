"""libca's messages: exceptions, and text that it would print on stderr.

A message goes to a listener, the `LoopContext` of an event loop, on a thread of libca or of libCom.
The loop context passes it to the logger (see `_channels.message_log`).
"""

from __future__ import annotations

import ctypes
import os
import re
from collections import deque
from ctypes import c_char_p, c_int, c_long, c_size_t, c_uint, c_void_p
from typing import TYPE_CHECKING

from . import libca
from .callbacks import connection_trampoline, memory
from .library import com, has_ioc, optional, prototype, required
from .thread_states import keep_thread_state
from .tokens import KEY_SHIFT, owner_of

if TYPE_CHECKING:
    from .._channels.context import LoopContext

# The listeners for messages that belong to no channel, by token.
_listeners: dict[int, LoopContext] = {}
# Messages from before the first listener: the first come when the context is made. Then None.
_early: deque[str] | None = deque()


def add_listener(token: int, listener: LoopContext) -> None:
    """Add a listener; the first one gets the messages that came before it. Any thread."""
    global _early
    _listeners[token] = listener
    early, _early = _early, None
    if early is not None:
        _hand_over(early)


def remove_listener(token: int) -> None:
    """Remove a listener. Idempotent; any thread."""
    _listeners.pop(token, None)


# libca prints this each time it drops a message because the array in it is larger than the limit or
# than the free memory. Only the first time does it also print which of the two it was.
_NO_ROOM = b"CAC: not enough memory for message body cache"


def _speaker() -> LoopContext | None:
    """Choose the listener for a message that concerns all of them; None if there is none.

    There is one, so that the message is logged once. It is a running one if there is any, so that
    the message is logged soon. Any thread.
    """
    listeners = list(_listeners.copy().values())
    running = (listener for listener in listeners if listener.is_running())
    return next(running, listeners[0] if listeners else None)


def _hand_over(texts: deque[str]) -> None:
    """Pass texts to a listener, if there is one. Any thread, even two threads at once."""
    while texts and (speaker := _speaker()) is not None:
        try:
            text = texts.popleft()
        except IndexError:  # another thread has taken the last one
            return
        speaker.printed(text)


# -- The callbacks, and the calls that install them ------------------------------------------------


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


_EXCEPTION = ctypes.CFUNCTYPE(None, _ExceptionArgs)
# The second argument is a va_list. Each calling convention that epicscorelibs is built for passes
# it as one word (a pointer to it, or itself a pointer), which can be passed on unchanged.
_PRINTF = ctypes.CFUNCTYPE(c_int, c_char_p, c_void_p)
_ERRLOG = ctypes.CFUNCTYPE(None, c_void_p, c_char_p)

_add_exception_event = prototype("ca_add_exception_event", c_int, _EXCEPTION, c_size_t)
_replace_printf_handler = prototype("ca_replace_printf_handler", c_int, c_void_p)

# What an older libCom may lack
_strnlen = optional("epicsStrnLen", "an error that a server reports takes longer to read")
if _strnlen is not None:
    _strnlen.restype, _strnlen.argtypes = c_size_t, (c_size_t, c_size_t)
_vsnprintf = optional("epicsVsnprintf", "messages of libca are logged without their arguments")
if _vsnprintf is not None:
    _vsnprintf.restype = c_int
    _vsnprintf.argtypes = (c_char_p, c_size_t, c_char_p, c_void_p)
_COST = "messages in libCom's error log go to stderr, not to the log"
_error_log = tuple(
    optional(name, _COST) for name in ("errlogAddListener", "errlogRemoveListeners", "eltc")
)
_print_nothing = optional(
    "errlogVprintfNoConsole", "what libca prints at the end of the process goes to stderr"
)
_MAX_TEXT_BYTES = 400  # a text from a server may have no NUL at its end


def _text_at(address: int) -> bytes:
    """The text at an address: up to its NUL, or the first `_MAX_TEXT_BYTES`."""
    if _strnlen is not None:
        length = _strnlen(address, _MAX_TEXT_BYTES)
    else:  # byte by byte, as the memory behind the NUL may not be readable
        room = range(_MAX_TEXT_BYTES)
        length = next((n for n in room if memory[address + n] == b"\0"), _MAX_TEXT_BYTES)
    return ctypes.string_at(address, length)


def _on_exception(args: _ExceptionArgs) -> None:
    """Pass a failure that has no callback to its owner or a listener. On a libca thread."""
    keep_thread_state()  # a server can make any number of these calls
    owner = owner_of(libca.puser(args.chid) >> KEY_SHIFT) if args.chid else None
    # A failure that libca itself has detected comes with a line of its source code.
    if owner is None and args.stat == libca.ECA_DISCONN and args.file:
        for listener in list(_listeners.copy().values()):  # each may have had channels on it
            listener.circuit_lost()
    concerned = _speaker() if owner is None else owner
    text = _text_at(args.ctx) if args.ctx else b""
    if concerned is not None:
        concerned.exception(args.stat, args.op, text.decode("utf-8", "replace"))


def _on_printf(format: bytes, arguments: int) -> int:
    """Pass a text that libca would print on stderr to a listener.

    Runs on a libca thread, or on the thread of the caller within a call to libca.
    """
    if format.startswith(_NO_ROOM):
        for listener in list(_listeners.copy().values()):
            listener.reply_dropped()
        return 0
    text, length = format, len(format)
    if _vsnprintf is not None:
        buffer = ctypes.create_string_buffer(1024)
        length = _vsnprintf(buffer, len(buffer), format, arguments)
        text = buffer.value
    _hand_over(deque([text.decode("utf-8", "replace").strip()]))
    return int(length)


# The beginnings of libca's messages in libCom's error log. Others are from other users of libCom.
_LIBCA_MESSAGE = re.compile(rb"\s*(Unexpected problem with CA circuit|CAC?\b|cac\b|CA\.Client)")


def _on_errlog(_private: int, message: bytes) -> None:
    """Pass a message of the error log to a listener or to stderr. On libCom's error log thread."""
    keep_thread_state()
    if _LIBCA_MESSAGE.match(message):
        early = _early
        texts = deque[str]() if early is None else early
        texts.append(message.decode("utf-8", "replace").strip())
        _hand_over(texts)
    else:
        try:
            os.write(2, message)  # where the error log would have written it
        except OSError:
            pass


_exception_trampoline = _EXCEPTION(_on_exception)
_printf_trampoline = _PRINTF(_on_printf)
_errlog_trampoline = _ERRLOG(_on_errlog)


# The handler for the end of the process, which must not be a function of Python: Python ends or
# stops a thread that calls it then. libca's default handler would end the process if a server
# reported a fatal error. No function of libca or libCom has the type of a handler and does nothing.
# ca_version() takes no arguments and only returns a constant. In all calling conventions of 64 bits
# (x86-64 System V, Windows, AAPCS64) the caller removes the arguments: it may pass more than the
# function takes, and may ignore the result. As an exported function it is a valid target for checks
# of indirect calls, too (CET, BTI, Control Flow Guard).
_IGNORE_EXCEPTION = ctypes.cast(required("ca_version"), _EXCEPTION)


# -- Routing ---------------------------------------------------------------------------------------


def route_messages() -> None:
    """Make the thread's context pass its messages to the listeners."""
    _add_exception_event(_exception_trampoline, 0)
    _replace_printf_handler(ctypes.cast(_printf_trampoline, c_void_p))


_error_log_is_ours = False
_forked = False


def route_error_log() -> None:
    """Make libCom pass libca's messages in the error log to the listeners.

    To be called before the first context is made. Does nothing in a process that has an IOC, or in
    a forked child.
    """
    global _error_log_is_ours
    # An IOC in this process uses the error log itself, and its shell can switch the log off. A
    # forked child does not have the thread of the error log, and each call would wait for it.
    if not (_error_log_is_ours or _forked or None in _error_log or has_ioc()):
        _error_log_is_ours = True
        com.errlogAddListener(_errlog_trampoline, c_void_p(0))
        com.eltc(0)


def silence_messages() -> None:
    """Stop the thread's context from calling Python, and from printing. May block."""
    if _error_log_is_ours:
        com.errlogRemoveListeners(_errlog_trampoline, c_void_p(0))
        com.eltc(1)  # for other users of libCom, until the process ends
    # A function of libCom that prints nothing; without one, libca's own
    _replace_printf_handler(ctypes.cast(_print_nothing, c_void_p) if _print_nothing else None)
    _add_exception_event(_IGNORE_EXCEPTION, 0)
    # Clearing a channel waits for a running callback, which may still be one of our old handlers.
    status, chid = libca.create_channel(b"aioca", connection_trampoline, 0, 0)
    if status == libca.ECA_NORMAL:
        libca.clear_channel(chid)


def after_fork() -> None:
    """Forget the listeners; in a forked child, which has no thread for the error log."""
    global _error_log_is_ours, _forked
    _error_log_is_ours, _forked = False, True
    _listeners.clear()
