"""A channel: one chid, its connection, who waits for it, and what C may still call back for.

State that users see changes only on the event loop's thread. What a thread of libca finds out
(`connection_changed`, `exception`) is noted and posted, and applied on the loop in that order.

Exceptions: a channel is not asked for anything as soon as it goes down, as it may have to be made
anew when it comes up. And when it comes up again with another native type or count, its monitors
are cut off there and then, on libca's thread, because libca goes on with the old request: the next
thing to come could be a value of the wrong type. The loop then subscribes anew.

The same where it comes up after a spell in which its server did not respond: libca would never
cancel the subscriptions of before on the server. The loop then makes a new channel.
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

# Seconds in which a channel can be searched for and be on its way to being connected. Older ones,
# of servers that are not there, are left alone: they may be many.
_YOUNG = 5.0
# Times that it is searched for anew meanwhile: it may be found each time on a server that accepts
# no circuit.
_SEARCHES = 3

# Bytes written without wait to one channel, after which the server is asked to confirm them.
_CONFIRM_EVERY = 1 << 18

# States as ca_state() gives them
NEVER_CONNECTED, PREVIOUSLY_CONNECTED, CONNECTED, CLOSED = range(4)


class Listener(Protocol):
    """Who waits for a channel to connect, or follows it. Called on the loop's thread."""

    def channel_up(self, channel: Channel) -> None: ...
    def channel_down(self, channel: Channel) -> None: ...
    def channel_closed(self, channel: Channel) -> None: ...


class ChannelMonitor(Listener, Protocol):
    """A subscription of libca's on this channel."""

    def on_cleared(self) -> None:
        """On the loop: libca has forgotten the channel, nothing arrives any more."""

    def channel_replaced(self) -> Callable[[], object] | None:
        """On the loop: the subscription goes with the old channel; a new one is searched for.

        What is returned is called when the old one is cleared.
        """

    def ignore_updates(self) -> None:
        """On a libca thread: let nothing of the present subscription arrive any more."""

    def went_down(self) -> None:
        """On a libca thread: the channel has disconnected."""


class PutOwner(Protocol):
    """Whose put-callback is under way on a channel.

    Attributes:
        _token: grows from each one to the next.
    """

    _token: int

    def put_abandoned(self, channel: Channel) -> None:
        """On the loop: the channel was cleared, so its completion will never be reported."""


class Channel:
    """One channel, of one event loop.

    Attributes:
        name: the PV.
        connected: whether it is, as far as the loop has heard; false as soon as it goes down.
        ever_connected: whether it ever was.
        refused: whether a server has answered the last search, and refused the channel. On libca's
            threads.
        native_type, native_count: what the server said when it last connected.
        last_key, last_reader: how it was asked last, which is how it will be asked next.
        searching_since: when it was first searched for, or was lost (time.monotonic).
        scalar_key: the same as last_key while it is connected and has one element; else -1.
        listeners: the operations that wait for it to connect.
        monitors: the subscriptions, which follow it.
        unconfirmed: bytes that were written without wait and may not have reached the server yet.
        confirmation: the read whose reply confirms them, or None.
        put_owner: who has a put-callback under way here, or None. A second one would block the
            server's thread for this client, so it goes through a spare. Set on the loop before
            libca is asked, reset by whichever thread hears the end of it.
        priority: the CA priority. libca has one circuit for each server and priority.
        spares: further channels to the same PV, for put-callbacks, that are idle.

    There may be very many of them: no container is made before it is needed.
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
        self.listeners: dict[Listener, None] | None = None  # a dict for its order and fast removal
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
        self._seen: tuple[int, int] | None = None  # native type and count, on libca's threads
        self._is_up = False  # likewise
        self.refused: bool = False  # likewise
        self.unresponsive: bool = False  # likewise
        # Numbers of the last change: noted on a thread of libca, applied on the loop
        self._noted = self._applied = 0
        self.searching_since: float = time.monotonic()
        self._searches = 0
        self._token = 0
        self.chid: Any = None  # libca's, as a C value; None when closed, or if libca refuses one
        self._search()

    # -- On a thread of libca ----------------------------------------------------------------------

    def connection_changed(self, up: bool, native_type: int, native_count: int) -> None:
        if not (up or self._is_up):
            # libca calls so when a server has answered the search and then refuses the channel; not
            # when a circuit is lost before the channel is made. Nothing has gone down.
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
            # A channel whose circuit was lost has no host any more. It may be about to be cleared.
            chid = self.chid
            self.unresponsive = bool(chid) and libca.host_name(chid) != libca.NO_HOST
            for monitor in self.monitors:
                monitor.went_down()
        self._circuit = None
        self._noted += 1
        if not up:  # from now on, even if it comes up again at once: that may replace it
            self.connected = False
            self.scalar_key = -1
        self._home.post(partial(self._apply_change, self._noted, up, native_type, native_count))

    def exception(self, status: int, op: int, context: str) -> None:
        self._home.message_log.exception(self.name, status, op, context)

    # -- On the loop's thread ----------------------------------------------------------------------

    def _apply_change(self, number: int, up: bool, native_type: int, native_count: int) -> None:
        if not self.chid or number <= self._applied:  # closed, or searched for anew, meanwhile
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
            if number != self._noted:  # looked at last: libca's thread notes first
                self.connected = False
                return  # it has gone down since, which is to be applied yet
        else:
            self.connected = False
            self.scalar_key = -1
            self.searching_since = time.monotonic()
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
        for listener in listeners:
            try:
                news(listener)
            except Exception:  # the others are to hear of it, and libca may have to forget it
                logger.exception("%s: a job of aioca failed; please report this", self.name)

    def listen(self, listener: Listener) -> None:
        """Tell of the changes from now on."""
        if self.listeners is None:
            self.listeners = {}
        self.listeners[listener] = None

    def unlisten(self, listener: Listener) -> None:
        """The opposite. Idempotent."""
        if self.listeners is not None:
            self.listeners.pop(listener, None)
            if not self.listeners:
                self.listeners = None

    def add_monitor(self, monitor: ChannelMonitor) -> None:
        # A tuple that is replaced: libca's thread may be going over it just now.
        self.monitors = (*self.monitors, monitor)

    def remove_monitor(self, monitor: ChannelMonitor) -> None:
        monitors = self.monitors
        if monitor in monitors:
            index = monitors.index(monitor)
            self.monitors = monitors[:index] + monitors[index + 1 :]

    def reader(self, key: int) -> Reader:
        """The reader for a kind of request (see `request_kind`): how to ask, and how to decode."""
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
        """The DBR type in which it was read last."""
        return self.native_type if self.last_reader is None else self.last_reader.shape.dbr

    def circuit(self) -> Circuit | None:
        """The circuit that the channel is on; None while it is not connected."""
        if self._circuit is None and self.connected:
            host = libca.host_name(self.chid)
            if host != libca.NO_HOST:
                self._circuit = host, self.priority
        return self._circuit

    def note_write(self, size: int) -> None:
        """Count bytes that libca was given to write without wait."""
        self.unconfirmed += size
        self._home.writes.add(self)
        if self.unconfirmed > _CONFIRM_EVERY:
            self.request_confirmation()

    def request_confirmation(self) -> WriteConfirmation | None:
        """Ask the server to confirm the writes so far; None if this PV cannot be read."""
        if self.confirmation is None:
            confirmation = WriteConfirmation(self, self._home.writes, self._home.post)
            if confirmation.ask():
                self.confirmation = confirmation
        return self.confirmation

    def request_count(self, count: int) -> int:
        """A `Count` as libca wants it: 0 for the current length, never over the native count."""
        if self.native_count == 1:
            return 1  # a scalar is one element, even of an array that is empty just now
        return self.native_count if count < 0 else min(count, self.native_count)

    def _search(self) -> None:
        self._token = tokens.register(self)
        status, self.chid = self._home.ca_context.create_channel(
            self.name.encode("utf-8"), self._token, self.priority
        )
        if status != libca.ECA_NORMAL:
            self.chid = None
            tokens.unregister(self._token)
            raise CARequestError(self.name, status, detail="libca has made no channel for it")

    def circuit_lost(self) -> None:
        """Some circuit was lost, perhaps under this channel before it was connected.

        That happens to a channel that is found on a server just when the circuit there is being
        closed, because the last of the channels of an earlier loop was. libca then searches for it
        again only after ten seconds; a new channel is searched for at once.
        """
        if (
            self.chid
            and not self.ever_connected
            and self._noted == self._applied
            and self._searches < _SEARCHES
            and time.monotonic() - self.searching_since < _YOUNG
        ):
            self._searches += 1
            self.replace()

    def replace(self, *, elsewhere: bool = False) -> None:
        """Have a new channel searched for.

        Args:
            elsewhere: on another circuit, should it be found at the same server again: libca keeps
                one that says nothing for half a minute and more, and would put the new one onto it.
        """
        if elsewhere:
            self.priority ^= 1
        chid, self.chid = self.chid, None
        self.connected = False
        self.scalar_key = -1
        self._circuit = None
        tokens.unregister(self._token)
        if self.confirmation is not None:
            self.confirmation.close()
        self._close_put_channels()  # they are where this one was
        afters = [monitor.channel_replaced() for monitor in self.monitors]

        def cleared() -> None:
            for after in afters:
                if after is not None:
                    after()
            if owner is not None and self.put_owner is owner:  # its end has not come meanwhile
                self.put_owner = None
                owner.put_abandoned(self)

        owner = self.put_owner
        if chid:
            self._home.clear_queue.channel(chid, cleared)
        self._applied = self._noted  # what the old one may have had to say
        self._seen = None
        self._is_up = self.refused = self.unresponsive = False
        try:
            self._search()
        except (RuntimeError, CAError) as error:
            logger.warning("%s cannot be searched for now, and will be again: %s", self.name, error)
            self._home.reconnector.begin()

    def why_not_connected(self) -> str:
        """Why it is not, for people."""
        host = libca.host_name(self.chid) if self.chid else libca.NO_HOST
        return explain.not_connected(
            self.name, host, self._home.ca_context.settings,
            refused=self.refused, ever_connected=self.ever_connected, lost=self._searches > 0,
        )  # fmt: skip

    @property
    def state(self) -> int:
        if self.closed:
            return CLOSED
        if self.connected:
            return CONNECTED
        return PREVIOUSLY_CONNECTED if self.ever_connected else NEVER_CONNECTED

    def spare(self) -> Channel:
        """Another channel to the same PV: an idle one, or a new one that has yet to connect."""
        if self.put_channels:
            (spare,), self.put_channels = self.put_channels, ()
            return spare
        return Channel(self._home, self.name, self.priority)

    def release_put_channel(self, spare: Channel) -> None:
        """Keep one spare for the next time; a second is closed."""
        idle = spare.chid and spare.connected and spare.put_owner is None
        if self.chid and not self.put_channels and idle and spare.priority == self.priority:
            self.put_channels = (spare,)
        else:
            spare.close()

    def _close_put_channels(self) -> None:
        put_channels, self.put_channels = self.put_channels, ()
        for spare in put_channels:
            spare.close()

    def close(self) -> None:
        """Clear the channel and tell who listens. Idempotent; also where the loop has ended."""
        if self.closed:
            return
        self.closed = True
        chid, self.chid = self.chid, None
        self.connected = False
        self.scalar_key = -1
        tokens.unregister(self._token)
        if self.confirmation is not None:
            self.confirmation.close()
        if self.unconfirmed:
            self._home.writes.forget(self)
        self._close_put_channels()
        monitors = self.monitors
        listeners = (*(self.listeners or ()), *monitors)
        self.listeners = None
        self.monitors = ()
        self._tell(listeners, lambda listener: listener.channel_closed(self))
        if chid and not self._home.ca_context.forgotten:
            self._home.clear_queue.channel(chid, partial(self._cleared, monitors))

    def _cleared(self, monitors: tuple[ChannelMonitor, ...]) -> None:
        for monitor in monitors:
            monitor.on_cleared()
        owner, self.put_owner = self.put_owner, None
        if owner is not None:
            owner.put_abandoned(self)

    def after_fork(self) -> None:
        """In a forked child: let go of everything without a call to libca."""
        self.closed = True
        self.chid = None
        self.connected = False
        self.scalar_key = -1
        self.listeners = None
        self.monitors = ()
