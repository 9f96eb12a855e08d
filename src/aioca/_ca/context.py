"""The libca context: which one a thread uses, and the calls that need to be attached to it.

``ca_create_channel`` and ``ca_flush_io`` use the thread's context, and silently make a second,
non-preemptive one on a thread that has none. So each call here attaches the thread, calls, and
leaves it as it was: other users of libca in that thread notice nothing. All other calls go by
chid, and work on any thread.

A context that another client (pyepics, cothread) has already put into the thread is adopted, so
that both share circuits; it stays theirs, nothing of it is destroyed or replaced. Else it is one of
ours that all threads share and that lives as long as the process: destroying a context takes
30 s when a server is stopped, leaving it takes nothing.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager

from . import callbacks, libca, messages, tokens
from .array_limit import limit_of

logger = logging.getLogger("aioca")

_NOT_PREEMPTIVE = (
    "this thread has a Channel Access context without preemptive callbacks, made by another"
    " client; use aioca from another thread, or create that context with preemptive callbacks"
)


_all: weakref.WeakSet[CaContext] = weakref.WeakSet()

# libca reads these when a context is made, and the others when its first channel is.
_READ_WITH_CONTEXT = (
    "EPICS_CA_SERVER_PORT",
    "EPICS_CA_NAME_SERVERS",
    "EPICS_CA_CONN_TMO",
    "EPICS_CA_AUTO_ARRAY_BYTES",
    "EPICS_CA_MAX_ARRAY_BYTES",
)
_READ_WITH_CHANNEL = (
    "EPICS_CA_ADDR_LIST",
    "EPICS_CA_AUTO_ADDR_LIST",
    "EPICS_CA_REPEATER_PORT",
    "EPICS_CA_MAX_SEARCH_PERIOD",
    "EPICS_CA_MCAST_TTL",
)
# What they were then, by context: one that was adopted may have several of ours.
_settings_read: dict[int, dict[str, str | None]] = {}


class CaContext:
    """A libca context, ours or adopted.

    Attributes:
        forgotten: whether it was left behind in a fork, and must not be called any more.
        settings: what libca has read of its environment for it so far; None for what was not set.
            Of a context that was adopted: what there was when we first had to do with it.
        array_limit: see `_array_limit`.
    """

    def __init__(self, handle: int) -> None:
        self.forgotten = False
        self._handle = handle
        self.settings: dict[str, str | None] = _settings_read.setdefault(handle, {})
        self._note_settings(_READ_WITH_CONTEXT)
        self.array_limit: int | None = limit_of(self.settings)
        self._has_channel = _READ_WITH_CHANNEL[0] in self.settings
        _all.add(self)

    def _note_settings(self, names: tuple[str, ...]) -> None:
        for name in names:
            self.settings.setdefault(name, os.environ.get(name))

    @contextmanager
    def attached(self) -> Generator[None]:
        """A block in which `create_channel` and `flush` find the thread attached."""
        previous = self._enter()
        try:
            yield
        finally:
            self._leave(previous)

    def create_channel(self, name: bytes, token: int, priority: int) -> tuple[int, libca.Chid]:
        """Create a channel; returns the ECA status and the chid."""
        if not self._has_channel:
            self._note_settings(_READ_WITH_CHANNEL)
            self._has_channel = True
        previous = self._enter()  # not `attached`, which takes longer than the call itself
        try:
            return libca.create_channel(name, callbacks.connection_trampoline, token, priority)
        finally:
            self._leave(previous)

    def flush(self) -> None:
        """Have everything that was requested sent."""
        previous = self._enter()  # as above
        try:
            libca.flush_io()
        finally:
            self._leave(previous)

    def silence(self) -> None:
        """At interpreter exit: libca must not call into Python any more."""
        with self.attached():
            messages.silence_messages()

    def _enter(self) -> int:
        """Attach the calling thread; returns what `_leave` is to be given."""
        current = libca.current_context()
        if current != self._handle:
            if current:
                if not libca.is_preemptive():  # libca would not let us attach it again
                    raise RuntimeError(_NOT_PREEMPTIVE)
                libca.detach_context()
            libca.attach_context(self._handle)
        return current

    def _leave(self, previous: int) -> None:
        """Leave the thread as `_enter` found it."""
        if previous != self._handle:
            libca.detach_context()
            if previous:
                libca.attach_context(previous)


# What has a say before libca reads its environment; it may raise.
before_first_use: list[Callable[[], None]] = []
_shared: CaContext | None = None
_used = False
_priority = 0  # of the channels that are created from now on
_lock = threading.Lock()


def context_exists() -> bool:
    """Whether libca has read its environment on our behalf."""
    return _used


def set_priority(priority: int) -> None:
    """Create channels with this CA priority from now on."""
    global _priority
    _priority = priority


def default_priority() -> int:
    """The CA priority of the channels that are created now."""
    return _priority


def current_ca_context() -> CaContext:
    """The context for the calling thread: the one it has, or the one that we share.

    Raises:
        RuntimeError: it has one in which callbacks come only when its owner polls; or this is a
            subinterpreter, in which callbacks would run in the main one.
    """
    global _shared, _used
    if not _used:
        for check in before_first_use:
            check()
    adopted = libca.current_context()
    if adopted:
        if not libca.is_preemptive():
            raise RuntimeError(_NOT_PREEMPTIVE)
        _used = True
        return CaContext(adopted)
    with _lock:
        if _shared is None:
            if not libca.in_main_interpreter():
                raise RuntimeError("aioca cannot be used in a subinterpreter")
            messages.route_error_log()
            _used = True  # from here on libca may read its environment
            status = libca.context_create(1)
            if status != libca.ECA_NORMAL:
                _used = False
                raise RuntimeError(f"no Channel Access context: {libca.message(status)}")
            messages.route_messages()
            _shared = CaContext(libca.current_context())
            libca.detach_context()
        return _shared


def silence() -> None:
    """At interpreter exit: have our context call nothing of Python any more."""
    if _shared is not None:
        try:
            _shared.silence()
        except RuntimeError as error:  # by now this thread has another client's context
            logger.debug("%s", error)


def _forget_after_fork() -> None:
    # The threads of libca did not come along: inherited channels would say that they are
    # connected and never answer, and destroying the inherited context aborts.
    global _shared, _lock, _used
    if _used:
        libca.skip_exit_handlers()
    for context in _all:
        context.forgotten = True
    _shared = None
    _used = False
    _lock = threading.Lock()
    _settings_read.clear()
    tokens.after_fork()
    callbacks.after_fork()
    messages.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
