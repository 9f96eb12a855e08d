"""The connection of a channel: its chid, and the state machine of the connection.

The states, and what leads from one to the next:

- *never connected*: libca searches. `connection_changed` notes that the channel has connected.
- *connected*. When the circuit is lost, libca searches again by itself.
- *previously connected*: as never connected, except that a server that does not respond keeps the
  circuit. Then `replace` gives the channel a new chid, for which libca searches at once.
- *closed*: `close` queues the chid to be cleared.

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

import time
from abc import ABC, abstractmethod
from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING, Any

from .._ca import libca, tokens
from .._ca.context import default_priority
from .._errors import CARequestError
from .listeners import Listened

if TYPE_CHECKING:
    from .._values.decode import Kind
    from .context import LoopContext
    from .listeners import Listener

# After the loss of a circuit, only channels with a search younger than this are replaced. Older
# searches are for servers that are not there, and there may be many of them.
_MAX_SEARCH_AGE_SECONDS = 5.0
# Limits how often such a channel is replaced, because each search may find a server that accepts no
# circuit.
_MAX_NEW_SEARCHES = 3

# The states, with the numbers that ca_state() returns
NEVER_CONNECTED, PREVIOUSLY_CONNECTED, CONNECTED, CLOSED = range(4)
STATE_NAMES = ("never connected", "previously connected", "connected", "closed")

# Native types and counts: one object for all channels that have them
_natives: dict[tuple[int, int], tuple[int, int]] = {}

Circuit = tuple[str, int]  # host:port of the server, and the CA priority


class Connection(Listened, ABC):
    """The chid of a channel and the state of its connection. The base of `Channel`.

    Attributes:
        home: the context of the event loop.
        chid: libca's channel, as a C value; None if closed, or if libca returned none.
        closed: whether the channel was closed.
        connected: whether the channel is connected. The loop sets it when it applies the
            connection; a libca thread resets it at once on disconnection.
        ever_connected: whether the channel was ever connected.
        refused: whether a server answered the last search and refused the channel. Set on libca's
            threads.
        unresponsive: whether the server did not respond when the channel was last lost. Set on
            libca's threads.
        native_type, native_count: as the server reported them at the last connection.
        searching_since: when the first search began, or the channel was lost or refused
            (time.monotonic).
        priority: the CA priority. libca has one circuit for each server and priority.
        scalar_key: see `Channel`. It is reset here, because nothing may be requested from a channel
            that is not connected.

    A process may have very many channels, so no container is made before it is needed.
    """

    __slots__ = (
        "_applied",
        "_circuit",
        "_is_up",
        "_noted",
        "_searches",
        "_seen",
        "_token",
        "chid",
        "closed",
        "connected",
        "ever_connected",
        "home",
        "native_count",
        "native_type",
        "priority",
        "refused",
        "scalar_key",
        "searching_since",
        "unresponsive",
    )  # fmt: skip

    def __init__(self, home: LoopContext, name: str, priority: int | None = None) -> None:
        super().__init__(name)
        self.home: LoopContext = home
        self.priority: int = default_priority() if priority is None else priority
        self.closed: bool = False
        self.connected: bool = False
        self.ever_connected: bool = False
        self.native_type: int = -1
        self.native_count: int = 0
        self.scalar_key: Kind | None = None
        # These four are written on libca's threads, and reset by `replace`.
        self._seen: tuple[int, int] | None = None  # native type and count
        self._is_up = False
        self.refused: bool = False
        self.unresponsive: bool = False
        # The number of the last change that a libca thread has noted, and that the loop has applied
        self._noted = self._applied = 0
        self.searching_since: float = time.monotonic()
        self._searches = 0  # made by `circuit_lost`
        self._circuit: Circuit | None = None  # as far as it was asked for
        self._token = 0
        self.chid: Any = None
        self.search()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {STATE_NAMES[self.state]}>"

    @property
    def state(self) -> int:
        """The state of the channel, as one of the four numbers of ca_state()."""
        if self.closed:
            return CLOSED
        if self.connected:
            return CONNECTED
        return PREVIOUSLY_CONNECTED if self.ever_connected else NEVER_CONNECTED

    # -- What `Channel` adds -----------------------------------------------------------------------

    @abstractmethod
    def replace(self, *, elsewhere: bool = False) -> None:
        """Clear the chid and search with a new one. On the loop."""

    @abstractmethod
    def forget_reader(self) -> None:
        """Forget the reader of the last request, because the type has changed. On the loop."""

    @abstractmethod
    def forget_writes(self) -> None:
        """Wait for no confirmation of earlier writes: no server will send one. On the loop."""

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
            native = _natives.setdefault(native, native)
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
            self.scalar_key = None
        self.home.post(partial(self._apply_change, self._noted, up, native_type, native_count))

    def access_changed(self) -> None:
        """Pass on that the access rights have changed. On a libca thread; never waits."""
        self.home.watches.note_access(self)

    def exception(self, status: int, op: int, context: str) -> None:
        """Log a failure that libca reports for this channel. On a libca thread; never waits."""
        self.home.message_log.exception(self.name, status, op, context)

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
                self.forget_reader()
            self.connected = self.ever_connected = True
            # Read `_noted` last: libca's thread increments it before it resets `connected`.
            if number != self._noted:
                self.connected = False
                return  # The channel went down again; that change is still in the queue.
        else:
            self.connected = False
            self.scalar_key = None
            self.searching_since = time.monotonic()
            self.forget_writes()
            self.home.reconnector.begin()
        concerned = (*(self.listeners or ()), *self.monitors)
        if not concerned:
            return
        if up:
            libca.unblocked(self.tell, concerned, methodcaller("channel_up", self))
        else:
            self.tell(concerned, methodcaller("channel_down", self))

    def circuit(self) -> Circuit | None:
        """Return the circuit of the channel; None while it is not connected. On the loop."""
        if not self.connected:
            return None
        if self._circuit is None:
            host = libca.host_name(self.chid)
            if host != libca.NO_HOST:
                self._circuit = host, self.priority
        return self._circuit

    def search(self) -> None:
        """Create a chid, for which libca starts to search.

        Raises:
            CARequestError: if libca does not create one.
            RuntimeError: if this thread cannot be attached to libca's context.
        """
        self._token = tokens.register(self)
        status, self.chid = self.home.ca_context.create_channel(
            self.name.encode("utf-8"), self._token, self.priority
        )
        if status != libca.ECA_NORMAL:
            self.chid = None
            tokens.unregister(self._token)
            raise CARequestError(self.name, status, detail="libca could not create a channel")
        self.home.watches.chid_made(self)

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

    def detach(self) -> Any:
        """Take the chid from this channel, and return it: it is to be cleared. On the loop."""
        chid, self.chid = self.chid, None
        self.connected = False
        self.scalar_key = None
        self._circuit = None
        tokens.unregister(self._token)
        return chid

    def reset(self, elsewhere: bool) -> None:
        """Prepare for another chid; ``elsewhere``: on another circuit. On the loop."""
        if elsewhere:
            self.priority ^= 1
        self._applied = self._noted  # ignore the changes of the old chid that are still queued
        self._seen = None
        self._is_up = self.refused = self.unresponsive = False

    def mark_closed(self) -> list[Listener]:
        """Note that the channel is closed; return those who are to be told."""
        self.closed = True
        return self.take_all()

    def after_fork(self) -> None:
        """Drop all references in a forked child, without a call to libca."""
        self.detach()
        self.mark_closed()
