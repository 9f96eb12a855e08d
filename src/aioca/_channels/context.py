"""One loop context for each run of an event loop: its portal, its channels and their users.

Invariants:

- A loop context ends with the run of its loop. Everything in it is then closed. Normally the loop
  reports its end. Otherwise aioca detects a closed loop when it posts to the loop, or when it
  makes the next loop context.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from .._ca import context as _client
from .._ca import messages
from .._portal.current import portal_for
from .._portal.interface import Portal
from .._printable import printable
from . import explain
from .channel import Channel
from .clear_queue import ClearQueue
from .flushes import Flushes
from .held_updates import HeldUpdates
from .message_log import MessageLog
from .names import valid_name
from .put_limit import PutCallbackLimit
from .reconnect import Reconnector
from .watches import Watches
from .write_confirm import UnconfirmedWrites

if TYPE_CHECKING:
    from .._monitors.policy import Policy

logger = logging.getLogger("aioca")

# An error may name a put-callback that has completed, but not longer ago than this.
_MAX_PUTS_AGE_SECONDS = 0.05


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
        """End the call, because all channels are being closed. On the loop's thread."""


class LoopContext:
    """The channels of one run of an event loop.

    Attributes:
        channels: the channels, by the name of the PV; private ones by another key.
        ca_context: the libca context.
        portal: passes jobs and updates from libca's threads to the loop.
        post: the ``post`` of this portal.
        flush: has libca send the requests that it has buffered.
        flushes: flushes once for the requests of one pass of the loop.
        policies: the policies that monitors of this loop use; `_monitors.policy` enters them.
        held_updates: makes servers send the updates that they hold after a cancellation.
        clear_queue: the subscriptions and channels that are waiting to be cleared.
        put_limit: counts the put-callbacks that are under way.
        writes: the writes without wait that are not confirmed.
        message_log: logs libca's messages and the failures that no callback reports.
        watches: the channels whose state is watched (`watch_connection`).
        type_changes: how often a channel has come back with another type or count.
        reconnector: replaces channels whose server does not respond or was lost.
        operations: the calls that wait for a reply or a connection.
        starts: the monitors that are being started.
        gone: set when the run of the loop is over and everything here is closed.
    """

    def __init__(self, loop: object) -> None:
        self._loop = loop
        self.ca_context: _client.CaContext = _client.current_ca_context()
        self.portal: Portal = portal_for(loop)
        self.post: Callable[[Callable[[], object]], None] = self.portal.post
        self._thread = threading.get_ident()
        self.channels: dict[str, Channel] = {}
        self.flush: Callable[[], None] = self.ca_context.flush
        self.flushes: Flushes = Flushes(self.portal, self.flush)
        self.policies: dict[type[Policy], Policy] = {}
        self.held_updates: HeldUpdates = HeldUpdates(self.portal.after, self.flush)
        self.clear_queue: ClearQueue = ClearQueue(self.portal, self.flush, self.held_updates)
        self.put_limit: PutCallbackLimit = PutCallbackLimit()
        self.writes: UnconfirmedWrites = UnconfirmedWrites()
        self.message_log: MessageLog = MessageLog(self.portal)
        self.watches: Watches = Watches(self.post)
        self.type_changes: int = 0
        self.reconnector: Reconnector = Reconnector(self, self.channels)
        self._with_puts: list[Channel] = []  # see `channels_with_puts`
        self._with_puts_at = 0.0
        self.operations: dict[Operation, None] = {}
        self.starts: dict[Operation, None] = {}
        self._over = False
        self.gone: threading.Event = threading.Event()
        messages.add_listener(id(self), self)
        self.portal.on_end(self._on_closed, lambda: bool(self.operations))

    def __repr__(self) -> str:
        return f"<LoopContext {len(self.channels)} channels, {self._loop!r}>"

    # -- Channels ----------------------------------------------------------------------------------

    def channel(self, name: str) -> Channel:
        """Return the channel of a PV; make it if there is none. On the loop; does not wait.

        Raises:
            TypeError: if the name is not a str.
            CAValueError: if libca cannot search for the name.
            RuntimeError: if the run of the loop is over.
        """
        # The key is a plain str, because a ca_str would keep the memory of its whole DBR.
        channel = self.channels.get(name)
        if channel is None:
            name = valid_name(name)
            self.check_running(name)
            channel = Channel(self, name)
            self.reconnector.begin()
            self.channels[name] = channel
        return channel

    def check_running(self, name: str) -> None:
        """Raise a RuntimeError with the name of the PV if the run of the loop is over."""
        if self._over:
            raise RuntimeError(f"{printable(name)}: the run of the event loop is over")

    def channels_with_puts(self) -> Sequence[Channel]:
        """Return the channels with a put-callback in progress. On the loop.

        Thousands of calls may fail at once, and each error calls this. So the channels are
        examined only if there is a put-callback, and once in `_MAX_PUTS_AGE_SECONDS` at most.
        """
        if self.put_limit.under_way() <= 0:
            return ()
        now = time.monotonic()
        if now > self._with_puts_at + _MAX_PUTS_AGE_SECONDS:
            self._with_puts_at = now
            self._with_puts = [c for c in self.channels.values() if c.put_owner is not None]
        return self._with_puts

    def call_behind(self, job: Callable[[], object]) -> None:
        """Call ``job`` behind what is queued now; at once if the run of the loop is over."""
        if self._over:
            job()
        else:
            self.post(job)

    def infos(self) -> list[ChannelInfo]:
        """Return the state of each channel. On any thread."""
        return [
            ChannelInfo(channel.name, channel.connected, len(channel.monitors))
            for channel in self.channels.copy().values()  # the loop may add channels
        ]

    # -- Reports of libca that belong to no request (on a thread of libca) -------------------------

    def is_running(self) -> bool:
        """Whether the loop is running, so that it can log a message."""
        return self.portal.is_running()

    def circuit_lost(self) -> None:
        """Note that libca has lost a circuit."""
        self.reconnector.circuit_lost()

    def exception(self, status: int, op: int, context: str) -> None:
        """Log a failure that belongs to no known channel."""
        self.message_log.exception("", status, op, context)

    def printed(self, text: str) -> None:
        """Log a text that libca or libCom has printed."""
        self.message_log.printed(text)

    def reply_dropped(self) -> None:
        """Log that libca has dropped a reply or an update, and of which PV it may have been."""
        if self.ca_context.array_limit is None:
            self.message_log.printed("no memory for a message, which was dropped", logging.WARNING)
        else:
            self.message_log.reply_dropped(self._too_large)

    def _too_large(self) -> dict[str, str]:
        """Return the PVs whose arrays may exceed libca's size limit, each with the reason."""
        settings = self.ca_context.settings
        return {
            channel.name: why
            for channel in self.channels.copy().values()
            if channel.connected
            and channel.native_count > 1
            and (why := explain.may_be_dropped(channel.last_dbr(), channel.native_count, settings))
        }

    # -- The end -----------------------------------------------------------------------------------

    def close_all(self) -> None:
        """Close every operation, subscription and channel. The context can be used again.

        On the loop's thread, or on any thread after the run of the loop has ended. If closing one
        of them raises, this is logged and the others are closed.
        """
        self.reconnector.cancel()
        closes = [each.context_closed for each in (*self.operations, *self.starts)]
        closes += [channel.close for channel in self.channels.values()]
        self.channels.clear()
        for close in closes:
            try:
                close()
            except Exception:  # go on: the others must be closed, too
                logger.exception("closing a channel of aioca failed; please report this")

    def prompt(self) -> None:
        """Request updates that servers may hold, after another loop cancelled its subscriptions.

        Loops share circuits, so the servers may hold updates of this loop. Portal job.
        """
        for channel in self.channels.values():
            if channel.monitors:
                self.held_updates.note_cancelled(channel)

    def after_fork(self) -> None:
        """Drop all references in a forked child, without a call to libca."""
        self.portal.after_fork()
        for channel in self.channels.values():
            channel.after_fork()
        self.channels.clear()

    def purge(self) -> None:
        """Close all channels, from any thread. If the loop runs in another thread, close there."""
        if self.portal.is_closed():
            self.portal.close()
        elif self._thread == threading.get_ident():
            self._confirm_and_close()
        else:
            self.portal.post(self._confirm_and_close)

    def _confirm_and_close(self) -> None:
        """Close all channels when the servers have received what was written; portal job."""
        self.writes.wait_until_received(self.post, self.flush)
        self.close_all()

    def runs_elsewhere(self) -> bool:
        """Whether the loop is running, in another thread."""
        return self._thread != threading.get_ident() and self.portal.is_running()

    def _on_closed(self) -> None:
        """Close everything, because the run of the loop is over; callback of the portal."""
        self._over = True
        try:
            self._close()
        finally:
            self.gone.set()

    def _close(self) -> None:
        """Close everything in order: writes, channels, clear queue, log, updates."""
        contexts.pop(id(self._loop), None)
        messages.remove_listener(id(self))
        # Not on a libca thread that has found the loop closed: it would wait for itself to receive
        # the replies.
        if threading.get_ident() == self._thread:
            self.writes.wait_until_received(self.post, self.flush)
        self.held_updates.close()
        self.close_all()
        all_cleared = self.clear_queue.close()
        for other in all_contexts():
            other.post(other.prompt)
        self.message_log.close()
        self.operations.clear()
        if all_cleared:  # else libca may still call the C callbacks of the policies
            for policy in self.policies.values():
                policy.close()


# The loop contexts of this process. The key is the id of the loop or trio token, which the context
# keeps alive. `registry` enters them.
contexts: dict[int, LoopContext] = {}


def all_contexts() -> list[LoopContext]:
    """Return the loop contexts of this process. On any thread."""
    return list(contexts.copy().values())
