"""The libca context of a thread, and the calls for which a thread must be attached to it.

``ca_create_channel`` and ``ca_flush_io`` use the context of the calling thread. On a thread that
has none, they silently make a second, non-preemptive context. So each call in this module attaches
the thread to the right context, calls libca, and restores the thread's previous context: other
users of libca in that thread are not affected. All other calls take a chid and work on any thread.

If another client (pyepics, cothread) has already attached the thread to a context, aioca adopts
that context, so that both share circuits. It remains the other client's: aioca destroys and
replaces nothing of it. Otherwise aioca makes one context, which all threads share. It is never
destroyed: that would take 30 s when a server is stopped.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager

from . import callbacks, libca, library, messages, thread_states, tokens
from .array_limit import limit_of

logger = logging.getLogger("aioca")

_NOT_PREEMPTIVE = (
    "this thread has a Channel Access context without preemptive callbacks, made by another"
    " client; use aioca from another thread, or create that context with preemptive callbacks"
)


_all: weakref.WeakSet[CaContext] = weakref.WeakSet()

# libca reads the first group when a context is made, the second when its first channel is made.
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
# The values that libca read, by the handle of its context. Several CaContext objects may have
# adopted the same libca context.
_settings_read: dict[int, dict[str, str | None]] = {}


class CaContext:
    """A libca context: aioca's own, or one adopted from another client.

    Attributes:
        forgotten: whether this is a forked child and the context is the parent's: it must not be
            used any more.
        settings: the ``EPICS_CA_*`` variables that libca has read for this context so far; None for
            one that was not set. For an adopted context: their values when aioca first used it.
        array_limit: the largest message body in bytes, see `array_limit.limit_of`.
    """

    def __init__(self, handle: int) -> None:
        self.forgotten = False
        self._handle = handle
        self.settings: dict[str, str | None] = _settings_read.setdefault(handle, {})
        self._note_settings(_READ_WITH_CONTEXT)
        self.array_limit: int | None = limit_of(self.settings)
        self._has_channel = _READ_WITH_CHANNEL[0] in self.settings
        _all.add(self)

    def __repr__(self) -> str:
        return f"<CaContext {self._handle:#x}>"

    def _note_settings(self, names: tuple[str, ...]) -> None:
        for name in names:
            self.settings.setdefault(name, os.environ.get(name))

    @contextmanager
    def attached(self) -> Generator[None]:
        """Attach the thread for a block, so that each call in it need not do so."""
        previous = self._attach()
        try:
            yield
        finally:
            self._detach(previous)

    def create_channel(self, name: bytes, token: int, priority: int) -> tuple[int, int]:
        """Create a channel; return the ECA status and the chid. Any thread."""
        if not self._has_channel:
            self._note_settings(_READ_WITH_CHANNEL)
            self._has_channel = True
        previous = self._attach()  # `attached` would take longer than the call itself
        try:
            return libca.create_channel(name, callbacks.connection_trampoline, token, priority)
        finally:
            self._detach(previous)

    def flush(self) -> None:
        """Send all requests that libca has queued. Any thread."""
        if libca.current_context():  # this thread's, which may be another one
            with self.attached():
                libca.flush_io()
            return
        libca.attach_context(self._handle)
        try:
            libca.flush_io()
        finally:
            libca.detach_context()

    def silence(self) -> None:
        """Stop libca from calling Python; at interpreter exit."""
        with self.attached():
            messages.silence_messages()

    def _attach(self) -> int:
        """Attach the calling thread; return its previous context, for `_detach`.

        Raises:
            RuntimeError: the thread has another context, without preemptive callbacks.
        """
        current = libca.current_context()
        if current != self._handle:
            if current:
                if not libca.is_preemptive():  # libca would refuse to attach the thread to it again
                    raise RuntimeError(_NOT_PREEMPTIVE)
                libca.detach_context()
            libca.attach_context(self._handle)
        return current

    def _detach(self, previous: int) -> None:
        """Restore the thread's previous context, which `_attach` returned."""
        if previous != self._handle:
            libca.detach_context()
            if previous:
                libca.attach_context(previous)


# Functions to call before libca reads its environment. They may raise, to prevent that.
before_first_use: list[Callable[[], None]] = []
_shared: CaContext | None = None
_used = False
_priority = 0  # CA priority of the channels that are created from now on
_lock = threading.Lock()


def context_exists() -> bool:
    """Whether aioca has made libca read its environment."""
    return _used


def set_priority(priority: int) -> None:
    """Set the CA priority of the channels that are created from now on."""
    global _priority
    _priority = priority


def default_priority() -> int:
    """The CA priority for a channel that is created now."""
    return _priority


def current_ca_context() -> CaContext:
    """The context for the calling thread: the one it is attached to, or aioca's shared one.

    Raises:
        RuntimeError: the thread has a non-preemptive context, which calls back only when its owner
            polls; this is a subinterpreter, whose callbacks would run in the main interpreter; or
            libca could not make a context.
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
            library.report_others()
            messages.route_error_log()
            _used = True  # from here on libca may have read its environment
            status = libca.context_create(1)
            if status != libca.ECA_NORMAL:
                _used = False
                raise RuntimeError(f"no Channel Access context: {libca.message(status)}")
            messages.route_messages()
            _shared = CaContext(libca.current_context())
            libca.detach_context()
        return _shared


def silence() -> None:
    """Stop aioca's own context from calling Python; at interpreter exit."""
    thread_states.stop_releasing()
    if _shared is not None:
        try:
            _shared.silence()
        except RuntimeError as error:  # the thread now has another client's context
            logger.debug("%s", error)


def _after_fork() -> None:
    # A forked child has none of libca's threads. An inherited channel would look connected and
    # never reply, and destroying the inherited context would abort the process.
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
    thread_states.after_fork()
    messages.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
