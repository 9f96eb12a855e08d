"""A channel: one chid, its connection state, its listeners and its requests under way.

Invariants:

- State that users see changes only on the event loop's thread. A libca thread notes a change of
  the connection (`connection_changed`) and posts it. The loop applies the changes in that order.
- Exception: a libca thread sets ``connected`` to false as soon as the channel disconnects. Nothing
  may be requested from the channel then, because the loop may replace it when it reconnects.
- Exception: when the channel reconnects with another native type or count, a libca thread has its
  monitors ignore all updates at once. libca renews the old subscription, so the next update could
  have the wrong type. The loop then subscribes again.
- The same is done when the channel reconnects after its server did not respond. libca would never
  cancel the earlier subscriptions on the server. The loop then replaces the channel.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from .._ca import libca, tokens
from .._ca.context import default_priority
from .._errors import CAError, CARequestError
from .._values.classes import Reader
from .._values.decode import make_reader, request_kinds
from . import explain
from .write_confirm import Circuit, WriteConfirmation

if TYPE_CHECKING:
    from .context import LoopContext

logger = logging.getLogger("aioca")

# After the loss of a circuit, only channels with a search younger than this are replaced. Older
# searches are for servers that are not there, and there may be many of them.
_MAX_SEARCH_AGE_SECONDS = 5.0
# Limits how often such a channel is replaced, because each search may find a server that accepts no
# circuit.
_MAX_NEW_SEARCHES = 3

# When more than this was written without wait to one channel, the server is asked to confirm it.
_CONFIRM_AFTER_BYTES = 1 << 18

# The states, with the numbers that ca_state() returns
NEVER_CONNECTED, PREVIOUSLY_CONNECTED, CONNECTED, CLOSED = range(4)
STATE_NAMES = ("never connected", "previously connected", "connected", "closed")


class Listener(Protocol):
    """Receives the changes of a channel's connection. Called on the loop's thread."""

    def channel_up(self, channel: Channel) -> None: ...
    def channel_down(self, channel: Channel) -> None: ...
    def channel_closed(self, channel: Channel) -> None: ...


class ChannelMonitor(Listener, Protocol):
    """A monitor that follows this channel and may have a libca subscription on it."""

    def on_cleared(self) -> None:
        """Forget what libca used: it has cleared the channel, no update follows. On the loop."""

    def channel_replaced(self) -> Callable[[], object] | None:
        """Give up the libca subscription. On the loop: the channel has a new chid from now on.

        Returns:
            A function to call when libca has cleared the old chid, or None.
        """

    def ignore_updates(self) -> None:
        """Drop all further updates of the present libca subscription. On a libca thread."""

    def went_down(self) -> None:
        """Note that the channel has disconnected. On a libca thread."""


class PutOwner(Protocol):
    """The request whose put-callback is under way on a channel.

    Attributes:
        _token: the token of the request; a later request has a greater one.
    """

    _token: int

    def put_abandoned(self, channel: Channel) -> None:
        """End the put: libca cleared the channel and will not report completion. On the loop."""


class Channel:
    """One channel of one event loop.

    Attributes:
        name: the name of the PV.
        connected: whether the channel is connected. The loop sets it when it applies the
            connection; a libca thread resets it at once on disconnection.
        ever_connected: whether the channel was ever connected.
        refused: whether a server answered the last search and refused the channel. Set on libca's
            threads.
        native_type, native_count: as the server reported them at the last connection.
        last_key, last_reader: the kind of the last request and its reader. The next request is
            likely to be of the same kind.
        searching_since: when the first search began, or the channel was lost or refused
            (time.monotonic).
        scalar_key: ``last_key`` while the channel is connected and has one element; else -1.
        listeners: the operations that wait for the channel to connect.
        monitors: the monitors that follow the channel.
        unconfirmed: bytes that were written without wait and may not have reached the server yet.
        confirmation: the read whose reply confirms these bytes, or None.
        put_owner: the request whose put-callback is under way on this channel, or None. A second
            put-callback would block the server's thread for this client, so it uses one of
            ``put_channels``. The loop sets ``put_owner`` before the call to libca. The thread that
            learns of the completion resets it.
        priority: the CA priority. libca has one circuit for each server and priority.
        put_channels: an idle second channel to the same PV, for put-callbacks, or empty.
        unresponsive: whether the server did not respond when the channel was last lost. Set on
            libca's threads.

    A process may have very many channels, so no container is made before it is needed.
    """

    __slots__ = (
        "_applied",
        "_circuit",
        "_home",
        "_is_up",
        "_noted",
        "_searches",
        "_seen",
        "_token",
        "chid",
        "closed",
        "confirmation",
        "connected",
        "ever_connected",
        "last_key",
        "last_reader",
        "listeners",
        "monitors",
        "name",
        "native_count",
        "native_type",
        "priority",
        "put_channels",
        "put_owner",
        "refused",
        "scalar_key",
        "searching_since",
        "unconfirmed",
        "unresponsive",
    )  # fmt: skip

    def __init__(self, home: LoopContext, name: str, priority: int | None = None) -> None:
        self.name: str = name
        self.priority: int = default_priority() if priority is None else priority
        self.closed: bool = False
        self.connected: bool = False
        self.ever_connected: bool = False
        self.native_type: int = -1
        self.native_count: int = 0
        self.listeners: dict[Listener, None] | None = None  # a dict: ordered, with fast removal
        self.monitors: tuple[ChannelMonitor, ...] = ()
        self.put_owner: PutOwner | None = None
        self.put_channels: tuple[Channel, ...] = ()
        self.unconfirmed: int = 0
        self.confirmation: WriteConfirmation | None = None
        self._circuit: Circuit | None = None
        self._home = home
        self.last_key: int = -1
        self.scalar_key: int = -1
        self.last_reader: Any = None
        # These four are written on libca's threads, and reset by `replace`.
        self._seen: tuple[int, int] | None = None  # native type and count
        self._is_up = False
        self.refused: bool = False
        self.unresponsive: bool = False
        # The number of the last change that a libca thread has noted, and that the loop has applied
        self._noted = self._applied = 0
        self.searching_since: float = time.monotonic()
        self._searches = 0
        self._token = 0
        self.chid: Any = None  # libca's, as a C value; None if closed or if libca returned none
        self._search()

    def __repr__(self) -> str:
        return f"<Channel {self.name!r} {STATE_NAMES[self.state]}>"

    # -- On a thread of libca ----------------------------------------------------------------------

    def connection_changed(self, up: bool, native_type: int, native_count: int) -> None:
        """Note a change of the connection and post it to the loop.

        Called by libca on one of its threads. Never waits for the loop.
        """
        if not (up or self._is_up):
            # libca reports a disconnection of a channel that is not connected when a server answers
            # the search and then refuses the channel. It makes no such call when a circuit is lost
            # before the channel is connected.
            self.refused = True
            self.searching_since = time.monotonic()
            return
        self._is_up = up
        if up:
            self.refused = False
            native = native_type, native_count
            if self.unresponsive or (self._seen is not None and self._seen != native):
                for monitor in self.monitors:
                    monitor.ignore_updates()
            self._seen = native
        else:
            # libca has a host name for the channel as long as its circuit exists: then the server
            # does not respond. ``chid`` is None if the loop is about to clear the channel.
            chid = self.chid
            self.unresponsive = bool(chid) and libca.host_name(chid) != libca.NO_HOST
            for monitor in self.monitors:
                monitor.went_down()
        self._circuit = None
        self._noted += 1
        if not up:  # even if the channel reconnects at once, because the loop may then replace it
            self.connected = False
            self.scalar_key = -1
        self._home.post(partial(self._apply_change, self._noted, up, native_type, native_count))

    def exception(self, status: int, op: int, context: str) -> None:
        """Log a failure that libca reports for this channel. On a libca thread; never waits."""
        self._home.message_log.exception(self.name, status, op, context)

    # -- On the loop's thread ----------------------------------------------------------------------

    def _apply_change(self, number: int, up: bool, native_type: int, native_count: int) -> None:
        """Apply a change of the connection and call the listeners; portal job."""
        if not self.chid or number <= self._applied:  # closed or replaced since it was noted
            return
        self._applied = number
        if up and self.unresponsive:
            self.replace()
            return
        if up:
            if (native_type, native_count) != (self.native_type, self.native_count):
                self.native_type, self.native_count = native_type, native_count
                self.last_key = self.scalar_key = -1
            self.connected = self.ever_connected = True
            # Read `_noted` last: libca's thread increments it before it resets `connected`.
            if number != self._noted:
                self.connected = False
                return  # The channel went down again; that change is still in the queue.
        else:
            self.connected = False
            self.scalar_key = -1
            self.searching_since = time.monotonic()
            self._forget_writes()
            self._home.reconnector.begin()
        concerned = (*(self.listeners or ()), *self.monitors)
        if not concerned:
            return
        with libca.unblocked:
            if up:
                self._tell(concerned, lambda listener: listener.channel_up(self))
            else:
                self._tell(concerned, lambda listener: listener.channel_down(self))

    def _tell(self, listeners: Iterable[Listener], news: Callable[[Listener], None]) -> None:
        """Call ``news`` for each listener. An exception is logged and does not stop the others."""
        for listener in listeners:
            try:
                news(listener)
            except Exception:  # go on: the other listeners must be called, the channel be cleared
                logger.exception("%s: a job of aioca failed; please report this", self.name)

    def listen(self, listener: Listener) -> None:
        """Call a listener for each further change. On the loop."""
        if self.listeners is None:
            self.listeners = {}
        self.listeners[listener] = None

    def unlisten(self, listener: Listener) -> None:
        """Stop calling a listener. On the loop; does nothing if it is not registered."""
        if self.listeners is not None:
            self.listeners.pop(listener, None)
            if not self.listeners:
                self.listeners = None

    def add_monitor(self, monitor: ChannelMonitor) -> None:
        """Have a monitor follow the channel. On the loop."""
        # Replace the tuple, because a libca thread may be iterating over it.
        self.monitors = (*self.monitors, monitor)

    def remove_monitor(self, monitor: ChannelMonitor) -> None:
        """Remove a monitor. On the loop; does nothing if it does not follow the channel."""
        monitors = self.monitors
        if monitor in monitors:
            index = monitors.index(monitor)
            self.monitors = monitors[:index] + monitors[index + 1 :]

    def reader(self, key: int) -> Reader:
        """Return the reader for a kind of request (see `request_kind`). On the loop.

        The reader has the arguments of the request and decodes its replies.
        """
        if key != self.last_key:
            self.scalar_key = -1
            code, format, monitor, count = request_kinds[key]
            self.last_reader = make_reader(
                self.name, self.native_type, self.native_count, code, format,
                monitor=monitor, count=count,
            )  # fmt: skip
            self.last_key = key
        if self.connected and self.native_count == 1:
            self.scalar_key = key
        return self.last_reader  # type: ignore[no-any-return]

    def last_dbr(self) -> int:
        """Return the DBR type of the last read; the native type if there was none."""
        return self.native_type if self.last_reader is None else self.last_reader.shape.dbr

    def circuit(self) -> Circuit | None:
        """Return the circuit of the channel; None while it is not connected. On the loop."""
        if self._circuit is None and self.connected:
            host = libca.host_name(self.chid)
            if host != libca.NO_HOST:
                self._circuit = host, self.priority
        return self._circuit

    def _forget_writes(self) -> None:
        """Wait for no confirmation of earlier writes: no server will send one. On the loop."""
        self.unconfirmed = 0
        self._home.writes.forget(self)

    def note_write(self, size: int) -> None:
        """Count bytes that were passed to libca to write without wait. On the loop.

        Requests a confirmation when many bytes are unconfirmed. Does not wait for it.
        """
        self.unconfirmed += size
        self._home.writes.add(self, self._circuit or self.circuit())
        if self.unconfirmed > _CONFIRM_AFTER_BYTES:
            self.request_confirmation()

    def request_confirmation(self) -> WriteConfirmation | None:
        """Request a confirmation of the writes so far. On the loop; does not wait for the reply.

        Returns:
            The read under way; None if this PV cannot be read.
        """
        if self.confirmation is None:
            confirmation = WriteConfirmation(self, self._home.writes, self._home.post)
            if confirmation.ask():
                self.confirmation = confirmation
        return self.confirmation

    def request_count(self, count: int) -> int:
        """Convert a `Count` to libca's: 0 is the current length, the native count the maximum."""
        if self.native_count == 1:
            return 1  # also for an array of one element that is empty now: a scalar is one element
        return self.native_count if count < 0 else min(count, self.native_count)

    def _search(self) -> None:
        """Create a chid, for which libca starts to search.

        Raises:
            CARequestError: if libca does not create one.
            RuntimeError: if this thread cannot be attached to libca's context.
        """
        self._token = tokens.register(self)
        status, self.chid = self._home.ca_context.create_channel(
            self.name.encode("utf-8"), self._token, self.priority
        )
        if status != libca.ECA_NORMAL:
            self.chid = None
            tokens.unregister(self._token)
            raise CARequestError(self.name, status, detail="libca could not create a channel")

    def circuit_lost(self) -> None:
        """Replace the channel if the circuit that was lost may have been its own. On the loop.

        A channel can lose its circuit before it is connected: the search finds a server just when
        the circuit to this server is being closed, because the last channel of an earlier loop was
        cleared. libca repeats the search only after ten seconds. It searches for a new channel at
        once.
        """
        if (
            self.chid
            and not self.ever_connected
            and self._noted == self._applied
            and self._searches < _MAX_NEW_SEARCHES
            and time.monotonic() - self.searching_since < _MAX_SEARCH_AGE_SECONDS
        ):
            self._searches += 1
            self.replace()

    def replace(self, *, elsewhere: bool = False) -> None:
        """Clear the chid and search with a new one. On the loop.

        If libca creates no new chid, a warning is logged and the reconnector tries again later.

        Args:
            elsewhere: use another circuit if the same server is found again. libca keeps a circuit
                whose server does not respond for half a minute or longer, and would otherwise put
                the new channel onto that circuit.
        """
        if elsewhere:
            self.priority ^= 1
        chid, self.chid = self.chid, None
        self.connected = False
        self.scalar_key = -1
        self._circuit = None
        self._forget_writes()
        tokens.unregister(self._token)
        if self.confirmation is not None:
            self.confirmation.close()
        self._close_put_channels()  # they are on the same server as the old chid
        afters = [monitor.channel_replaced() for monitor in self.monitors]

        def cleared() -> None:
            for after in afters:
                if after is not None:
                    after()
            if owner is not None and self.put_owner is owner:  # the put has not completed since
                self.put_owner = None
                owner.put_abandoned(self)

        owner = self.put_owner
        if chid:
            self._home.clear_queue.channel(chid, cleared)
        self._applied = self._noted  # ignore the changes of the old chid that are still queued
        self._seen = None
        self._is_up = self.refused = self.unresponsive = False
        try:
            self._search()
        except (RuntimeError, CAError) as error:
            logger.warning(
                "%s: the search could not start, and will be tried again: %s", self.name, error
            )
            self._home.reconnector.begin()

    def why_not_connected(self) -> str:
        """Return an explanation for people why the channel is not connected. On the loop."""
        host = libca.host_name(self.chid) if self.chid else libca.NO_HOST
        return explain.not_connected(
            self.name, host, self._home.ca_context.settings,
            refused=self.refused, ever_connected=self.ever_connected, lost=self._searches > 0,
        )  # fmt: skip

    @property
    def state(self) -> int:
        """The state of the channel, as one of the four numbers of ca_state()."""
        if self.closed:
            return CLOSED
        if self.connected:
            return CONNECTED
        return PREVIOUSLY_CONNECTED if self.ever_connected else NEVER_CONNECTED

    def borrow_put_channel(self) -> Channel:
        """Take the idle second channel to the same PV, or make one that has yet to connect.

        On the loop.
        """
        if self.put_channels:
            (put_channel,), self.put_channels = self.put_channels, ()
            return put_channel
        return Channel(self._home, self.name, self.priority)

    def release_put_channel(self, put_channel: Channel) -> None:
        """Keep a second channel for the next put-callback, or close it. On the loop.

        One is kept, if it is idle and has the same priority.
        """
        idle = put_channel.chid and put_channel.connected and put_channel.put_owner is None
        if self.chid and not self.put_channels and idle and put_channel.priority == self.priority:
            self.put_channels = (put_channel,)
        else:
            put_channel.close()

    def _close_put_channels(self) -> None:
        """Close the idle second channel, if there is one."""
        put_channels, self.put_channels = self.put_channels, ()
        for put_channel in put_channels:
            put_channel.close()

    def close(self) -> None:
        """Queue the channel to be cleared and call its listeners.

        On the loop, or on any thread after the run of the loop has ended. Does not wait for libca.
        Idempotent.
        """
        if self.closed:
            return
        self.closed = True
        chid, self.chid = self.chid, None
        self.connected = False
        self.scalar_key = -1
        tokens.unregister(self._token)
        if self.confirmation is not None:
            self.confirmation.close()
        self._forget_writes()
        self._close_put_channels()
        monitors = self.monitors
        listeners = (*(self.listeners or ()), *monitors)
        self.listeners = None
        self.monitors = ()
        self._tell(listeners, lambda listener: listener.channel_closed(self))
        if chid and not self._home.ca_context.forgotten:
            self._home.clear_queue.channel(chid, partial(self._cleared, monitors))

    def _cleared(self, monitors: tuple[ChannelMonitor, ...]) -> None:
        """End the monitors and the put-callback of a closed channel. On the loop."""
        for monitor in monitors:
            monitor.on_cleared()
        owner, self.put_owner = self.put_owner, None
        if owner is not None:
            owner.put_abandoned(self)

    def after_fork(self) -> None:
        """Drop all references in a forked child, without a call to libca."""
        self.closed = True
        self.chid = None
        self.connected = False
        self.scalar_key = -1
        self.listeners = None
        self.monitors = ()
