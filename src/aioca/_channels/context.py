"""One context for each run of an event loop: its portal, its channels, what uses them.

Contexts are found by the running loop. A context ends with its loop: everything in it is closed
then, whether the loop tells us (it normally does), or is found closed when something is posted
to it, or when the next context is made. At interpreter exit all that are left are closed, since
libca aborts the process if its threads find Python gone.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from .._ca import context as _client
from .._ca import messages
from .._portal.current import portal_for, running_loop
from .._portal.interface import Portal
from .._printable import printable
from . import explain
from .channel import Channel
from .clear_queue import ClearQueue
from .held_updates import HeldUpdates
from .message_log import MessageLog
from .names import valid_name
from .put_limit import PutCallbackLimit
from .reconnect import Reconnector
from .updates import PendingUpdates
from .write_confirm import UnconfirmedWrites

logger = logging.getLogger("aioca")

# Seconds that the exit of the process waits for loops in other threads. To wait for what was
# written without wait takes one of them at most.
_AT_EXIT = 1.5


class ChannelInfo(NamedTuple):
    """One channel of this process, as `get_channel_infos` returns it.

    Attributes:
        name (str): the PV.
        connected (bool): whether it is connected now.
        subscriber_count (int): how many open subscriptions use it.
    """

    name: str
    connected: bool
    subscriber_count: int


class Operation(Protocol):
    """A call that waits for something."""

    def context_closed(self) -> None:
        """Everything is being closed: end."""


class LoopContext:
    """The channels of one run of an event loop.

    Attributes:
        client: the libca context.
        portal: the way from libca's threads into the loop; post: its own.
        intake: the way of updates into the portal.
        clearing: what is to be cleared; prompting: what servers may then hold back.
        watch: sees to channels whose server does not answer, or was lost.
        voice: what libca says beside its callbacks.
        completions: how many put-callbacks are under way.
        writes: what was written without wait, and is not confirmed.
        operations: the calls that wait for something here; starts: monitors that are being started.
        gone: set when the run of the loop is over and all of this is closed.
    """

    def __init__(self, loop: object) -> None:
        self._loop = loop
        self.ca_context: _client.CaContext = _client.current_ca_context()
        self.portal: Portal = portal_for(loop)
        self.post: Callable[[Callable[[], object]], None] = self.portal.post
        self._thread = threading.get_ident()
        self._channels: dict[str, Channel] = {}
        self.pending_updates: PendingUpdates = PendingUpdates(self.portal)
        self.held_updates: HeldUpdates = HeldUpdates(self.portal.after, self.ca_context.flush)
        self.clear_queue: ClearQueue = ClearQueue(
            self.pending_updates, self.post, self.ca_context.flush, self.held_updates
        )
        self.put_limit: PutCallbackLimit = PutCallbackLimit()
        self.writes: UnconfirmedWrites = UnconfirmedWrites()
        self.message_log: MessageLog = MessageLog(self.portal)
        self.reconnector: Reconnector = Reconnector(self, self._channels)
        self.operations: dict[Operation, None] = {}
        self.starts: dict[Operation, None] = {}
        self._flush_due = False
        self._over = False
        self.gone: threading.Event = threading.Event()
        messages.add_listener(id(self), self)
        self.portal.on_end(self._ended, lambda: bool(self.operations))

    # -- Channels ----------------------------------------------------------------------------------

    def channel(self, name: str) -> Channel:
        """The channel of a PV, made if need be.

        Raises:
            TypeError: if the name is not a str.
            CAValueError: if it is no name that could be searched for.
            RuntimeError: if the run of the loop is over.
        """
        # A plain str as the key: a ca_str would keep its whole DBR alive.
        channel = self._channels.get(name)
        if channel is None:
            name = valid_name(name)
            if self._over:
                raise RuntimeError(f"{printable(name)}: the run of the event loop is over")
            channel = Channel(self, name)
            self.reconnector.begin()
            self._channels[name] = channel
        return channel

    def channels_there(self, names: Sequence[str]) -> list[Channel] | None:
        """The channels of these PVs if all of them have one, which is quickly found."""
        try:
            channels = list(map(self._channels.get, names))
        except TypeError:  # not even hashable
            return None
        return None if None in channels else channels  # type: ignore[return-value]

    def flush(self) -> None:
        """Have libca send what was requested."""
        self.ca_context.flush()

    def flush_soon(self) -> None:
        """One flush for all that is requested in this pass of the loop."""
        if not self._flush_due:
            self._flush_due = True
            self.portal.post(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        self.ca_context.flush()

    def infos(self) -> list[ChannelInfo]:
        return [
            ChannelInfo(channel.name, channel.connected, len(channel.monitors))
            for channel in tuple(self._channels.values())  # of a loop in any thread
        ]

    # -- What libca reports on no callback (on a thread of libca) ----------------------------------

    def is_running(self) -> bool:
        return self.portal.is_running()

    def circuit_lost(self) -> None:
        self.reconnector.circuit_lost()

    def exception(self, status: int, op: int, context: str) -> None:
        self.message_log.exception("", status, op, context)

    def printed(self, text: str) -> None:
        self.message_log.printed(text)

    def reply_dropped(self) -> None:
        if self.ca_context.array_limit is None:
            self.message_log.printed("no memory for a message, which was dropped", logging.WARNING)
        else:
            self.message_log.reply_dropped(self._too_large)

    def _too_large(self) -> dict[str, str]:
        """The PVs whose arrays may be larger than libca takes, and why."""
        settings = self.ca_context.settings
        return {
            channel.name: why
            for channel in tuple(self._channels.values())
            if channel.connected
            and channel.native_count > 1
            and (why := explain.may_be_dropped(channel.last_dbr(), channel.native_count, settings))
        }

    # -- The end -----------------------------------------------------------------------------------

    def close_all(self) -> None:
        """Close every operation, subscription and channel; the context can be used again."""
        self.reconnector.end()
        closes = [each.context_closed for each in (*self.operations, *self.starts)]
        closes += [channel.close for channel in self._channels.values()]
        self._channels.clear()
        for close in closes:
            try:
                close()
            except Exception:  # the others are to be closed all the same
                logger.exception("closing a channel of aioca failed; please report this")

    def prompt(self) -> None:
        """Another loop has cancelled its subscriptions; it may have been on the same circuits."""
        for channel in self._channels.values():
            if channel.monitors:
                self.held_updates.note_cancelled(channel)

    def after_fork(self) -> None:
        """In a forked child: let go of everything without a call to libca."""
        self.portal.after_fork()
        for channel in self._channels.values():
            channel.after_fork()
        self._channels.clear()

    def purge(self) -> None:
        """Close all, from any thread: on the loop's own thread if that is another, running one."""
        if self.portal.is_closed():
            self.portal.close()
        elif self._thread == threading.get_ident():
            self.close_all()
        else:
            self.portal.post(self.close_all)

    def runs_elsewhere(self) -> bool:
        """Whether the loop is running, in another thread."""
        return self._thread != threading.get_ident() and self.portal.is_running()

    def _ended(self) -> None:
        """The loop's run is over."""
        self._over = True
        try:
            self._end()
        finally:
            self.gone.set()

    def _end(self) -> None:
        _contexts.pop(id(self._loop), None)
        messages.remove_listener(id(self))
        # A thread of libca that has found the loop closed would wait for itself.
        if threading.get_ident() == self._thread:
            self.writes.wait_until_received(self.post, self.flush)
        self.held_updates.end()
        self.close_all()
        self.clear_queue.finish()
        for other in all_contexts():
            other.post(other.prompt)
        self.message_log.end()
        self.operations.clear()
        self.pending_updates.close()


# -- Finding the context ---------------------------------------------------------------------------

# By the id of the loop or trio token, which the context keeps alive.
_contexts: dict[int, LoopContext] = {}
_here = threading.local()
_exiting = False


def current() -> LoopContext:
    """The context of the event loop that runs in this thread.

    Raises:
        RuntimeError: if none runs, or the process is ending.
    """
    loop = running_loop()
    reference = getattr(_here, "context", None)
    context: LoopContext | None = reference() if reference is not None else None
    if context is not None and context._loop is loop and id(loop) in _contexts:
        return context
    context = _contexts.get(id(loop))
    if context is None:
        if _exiting:
            raise RuntimeError("the interpreter is shutting down")
        _drop_closed()
        context = LoopContext(loop)
        _contexts[id(loop)] = context
    # Weak: a thread local would keep the last loop, and all that is in it, beyond its end.
    _here.context = weakref.ref(context)
    return context


def all_contexts() -> list[LoopContext]:
    return list(_contexts.values())


def _drop_closed() -> None:
    """End the contexts whose loop was closed without telling."""
    for context in all_contexts():
        if context.portal.is_closed():
            context.portal.close()


def get_channel_infos() -> list[ChannelInfo]:
    """Every channel of this process: its PV, whether it is connected, how many use it.

    Returns:
        list[ChannelInfo]: in order of creation, of all event loops.
    """
    _drop_closed()
    return [info for context in all_contexts() for info in context.infos()]


def purge_channel_caches() -> None:
    """Close every subscription and every channel.

    Can be called with no event loop running. What is waiting for one of the channels ends with
    `CADisconnected`. What belongs to a loop that runs in another thread is closed by that loop.
    Nobody has to call this: when the run of an event loop ends, what belongs to it is closed.
    """
    for context in all_contexts():
        context.purge()
    _drop_closed()


def _close_at_exit() -> None:
    global _exiting
    _exiting = True
    try:
        # A loop in a daemon thread goes on, and must not find its channels cleared under it.
        others = [context for context in all_contexts() if context.runs_elsewhere()]
        for context in others:
            context.post(context.portal.close)
        deadline = time.monotonic() + _AT_EXIT
        for context in others:
            context.gone.wait(max(0.0, deadline - time.monotonic()))
    finally:  # also after Ctrl-C
        for context in all_contexts():
            try:
                context.portal.close()
            except Exception:
                logger.exception("the end of a loop's run failed; please report this")
        _client.silence()


def _forget_after_fork() -> None:
    # Nothing of what is inherited answers in the child, and it must not be closed there either.
    for context in all_contexts():
        context.after_fork()
    _contexts.clear()


atexit.register(_close_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
