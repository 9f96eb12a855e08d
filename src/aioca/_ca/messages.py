"""What libca says that is no reply: exceptions, and what it would print.

Who listens is told on a thread of libca or of libCom; `_voice` takes it from there.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections import deque
from ctypes import c_char_p, c_int, c_long, c_size_t, c_uint, c_void_p
from typing import Protocol

from . import libca
from .callbacks import connection_trampoline
from .tokens import KEY_SHIFT, owner_of


class Listener(Protocol):
    """Who hears what libca has to say beside the callbacks. Called on a thread of libca."""

    def is_running(self) -> bool:
        """Whether what it is told will be recorded soon."""
        ...

    def circuit_lost(self) -> None:
        """Libca has lost a connection to a server."""

    def exception(self, status: int, op: int, context: str) -> None:
        """Libca, or a server through it, reports a failure that has no callback of its own."""

    def printed(self, text: str) -> None:
        """Libca would have printed this on stderr."""

    def reply_dropped(self) -> None:
        """Libca has dropped a reply or an update, for which it has no room."""


# Who hears of what belongs to no channel.
_listeners: dict[int, Listener] = {}
# What libca has said before there was the first: it begins when its context is made. None later.
_early: deque[str] | None = deque()


def add_listener(token: int, listener: Listener) -> None:
    global _early
    _listeners[token] = listener
    early, _early = _early, None
    if early is not None:
        _hand_over(early)


def remove_listener(token: int) -> None:
    _listeners.pop(token, None)


# What libca prints each time that it drops a message: the array in it is larger than its limit, or
# than what memory there is. Only the first time it says besides which of the two that was.
_NO_ROOM = b"CAC: not enough memory for message body cache"


def _speaker() -> Listener | None:
    """Who records what concerns none of them more than the others; any thread.

    One, so that it is recorded once, and one that is running, so that it is recorded now.
    """
    listeners = list(_listeners.copy().values())
    running = (listener for listener in listeners if listener.is_running())
    return next(running, listeners[0] if listeners else None)


def _hand_over(texts: deque[str]) -> None:
    """Tell these to a listener, if there is one; any thread, also two at once."""
    while texts and (speaker := _speaker()) is not None:
        try:
            text = texts.popleft()
        except IndexError:  # the other thread has just told the last one
            return
        speaker.printed(text)


# -- What libca calls, and is told to call ---------------------------------------------------------


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
# The second argument is a va_list. In each calling convention that epicscorelibs is built for
# it travels as one word (a pointer to it, or itself a pointer), which can be handed on as such.
_PRINTF = ctypes.CFUNCTYPE(c_int, c_char_p, c_void_p)
_ERRLOG = ctypes.CFUNCTYPE(None, c_void_p, c_char_p)

_add_exception_event = libca.prototype("ca_add_exception_event", c_int, _EXCEPTION, c_size_t)
_replace_printf_handler = libca.prototype("ca_replace_printf_handler", c_int, c_void_p)
_strnlen = libca.com.epicsStrnLen
_strnlen.restype = c_size_t
_strnlen.argtypes = (c_size_t, c_size_t)
_LONGEST_TEXT = 400  # of what an exception says
_vsnprintf = libca.com.epicsVsnprintf
_vsnprintf.restype = c_int
_vsnprintf.argtypes = (c_char_p, c_size_t, c_char_p, c_void_p)


def _on_exception(args: _ExceptionArgs) -> None:
    """Runs on a libca thread: a failure that no callback of ours hears of."""
    owner = owner_of(libca.puser(args.chid) >> KEY_SHIFT) if args.chid else None
    # Only what libca itself has found has a place in its source.
    if owner is None and args.stat == libca.ECA_DISCONN and args.file:
        for listener in list(_listeners.copy().values()):  # any of them may have been on it
            listener.circuit_lost()
    concerned = _speaker() if owner is None else owner
    # A server's text need not have an end.
    text = ctypes.string_at(args.ctx, _strnlen(args.ctx, _LONGEST_TEXT)) if args.ctx else b""
    if concerned is not None:
        concerned.exception(args.stat, args.op, text.decode("utf-8", "replace"))


def _on_printf(format: bytes, arguments: int) -> int:
    """Runs on a libca thread, or on ours within a call: text that was meant for stderr."""
    if format.startswith(_NO_ROOM):
        for listener in list(_listeners.copy().values()):
            listener.reply_dropped()
        return 0
    buffer = ctypes.create_string_buffer(1024)
    length = _vsnprintf(buffer, len(buffer), format, arguments)
    _hand_over(deque([buffer.value.decode("utf-8", "replace").strip()]))
    return int(length)


# How what libca writes into libCom's error log begins; all else there is somebody else's.
_LIBCA_SAYS = re.compile(rb"\s*(Unexpected problem with CA circuit|CAC?\b|cac\b|CA\.Client)")


def _on_errlog(_private: int, message: bytes) -> None:
    """Runs on libCom's thread for the error log: a message to it."""
    if _LIBCA_SAYS.match(message):
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


# -- Routing ---------------------------------------------------------------------------------------


def route_messages() -> None:
    """Have the thread's context tell our listeners what it would print."""
    _add_exception_event(_exception_trampoline, 0)
    _replace_printf_handler(ctypes.cast(_printf_trampoline, c_void_p))


_error_log_is_ours = False
_forked = False


def route_error_log() -> None:
    """Have libCom tell them what libca writes into the error log. Before there is a context."""
    global _error_log_is_ours
    # An IOC in this process has the error log for its own, and its shell can switch it off. In a
    # forked child its thread is not there, and each call would wait for it.
    if not (_error_log_is_ours or _forked or libca.has_ioc()):
        _error_log_is_ours = True
        libca.com.errlogAddListener(_errlog_trampoline, c_void_p(0))
        libca.com.eltc(0)


def silence_messages() -> None:
    """Have the thread's context call nothing of Python any more, and print nothing."""
    if _error_log_is_ours:
        libca.com.errlogRemoveListeners(_errlog_trampoline, c_void_p(0))
        libca.com.eltc(1)  # for the others who use libCom, to the end
    # libCom's own, which prints nothing
    _replace_printf_handler(ctypes.cast(libca.com.errlogVprintfNoConsole, c_void_p))
    # One that does nothing: libca's own ends the process where a server reports something fatal.
    _add_exception_event(ctypes.cast(libca.ca.ca_version, _EXCEPTION), 0)
    # Clearing a channel waits for the callback that is being made just now, to our old handlers.
    status, chid = libca.create_channel(b"aioca", connection_trampoline, 0, 0)
    if status == libca.ECA_NORMAL:
        libca.clear_channel(chid)


def after_fork() -> None:
    """In a forked child: nobody listens, and the error log has no thread."""
    global _error_log_is_ours, _forked
    _error_log_is_ours, _forked = False, True
    _listeners.clear()
