"""The connection of a channel: its chid, and the state machine of the connection.

The states, and what leads from one to the next:

- *never connected*: libca searches.
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

import math
import time
from abc import ABC, abstractmethod
from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING

from .._ca import libca, tokens
from .._ca.context import default_priority
from .._errors import CARequestError
from .listeners import Listened

if TYPE_CHECKING:
    from .._values.decode import Kind
    from .context import LoopContext
    from .listeners import Listener

# The states, with the numbers that ca_state() returns
NEVER_CONNECTED, PREVIOUSLY_CONNECTED, CONNECTED, CLOSED = range(4)
STATE_NAMES = ("never connected", "previously connected", "connected", "closed")

Circuit = tuple[str, int]  # host:port of the server, and the CA priority


class Connection(Listened, ABC):
    """The chid of a channel and the state of its connection. The base of `Channel`.

    Attributes:
        home: the context of the event loop.
        chid: libca's channel; 0 if closed, or if libca returned none.
        closed: whether the channel was closed.
        connected: whether the channel is connected. The loop sets it when it applies the
            connection; a libca thread resets it at once on disconnection.
        ever_connected: whether the channel was ever connected.
        refused: whether a server answered the last search and refused the channel. Set on libca's
            threads.
        unresponsive: whether the server did not respond when the channel was last lost; likewise.
        native_type, native_count: as the server reported them at the last connection that the loop
            has applied; -1 and 0 before.
        searching_since: when the first search began, or a server refused the channel
            (time.monotonic). Of no use once the channel was connected.
        priority: the CA priority. libca has one circuit for each server and priority.
        searches: how often it was searched for anew, because a circuit was lost.
        scalar_key: see `Channel`. It is reset here, because nothing may be requested from a channel
            that is not connected.

    A process may have very many channels, so no container is made before it is needed.
    """

    private: bool  # see `Channel`

    __slots__ = (
        "_applied",
        "_circuit",
        "_is_up",
        "_noted",
        "_token_key",
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
        "searches",
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
        # These three are written on libca's threads, and reset by `replace`.
        self._is_up = False
        self.refused: bool = False
        self.unresponsive: bool = False
        self._noted = 0  # the number of the last change that a libca thread has noted
        self._applied = 0  # the number of the last change that the loop has applied
        self.searching_since: float = time.monotonic()
        self.searches: int = 0
        self._circuit: Circuit | None = None  # as far as it was asked for
        self._token_key = 0
        self.chid: int = 0
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

    def connection_changed(self, key: int, up: bool, native_type: int, native_count: int) -> None:
        """Note a change of the connection and post it to the loop.

        Called by libca on one of its threads. Never waits for the loop, which may replace the chid
        meanwhile: ``key`` is that of the chid's token.
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
            # The loop may set the native type at this moment, because of an earlier change to
            # another type: then the monitors ignore their updates already.
            other = (native_type, native_count) != (self.native_type, self.native_count)
            if self.unresponsive or (other and self.native_type >= 0):
                for monitor in self.monitors:
                    monitor.ignore_updates()
        else:
            # libca has a host name for the channel as long as its circuit exists: then the server
            # does not respond. ``chid`` is 0 if the loop is about to clear the channel.
            chid = self.chid
            self.unresponsive = bool(chid) and libca.host_name(chid) != libca.NO_HOST
            for monitor in self.monitors:
                monitor.went_down()
        self._circuit = None
        self._noted += 1
        if not up:  # even if the channel reconnects at once, because the loop may then replace it
            self.connected = False
            self.scalar_key = None
        self.home.post(partial(self._apply_change, key, self._noted, up, native_type, native_count))

    def access_changed(self) -> None:
        """Pass on that the access rights have changed. On a libca thread; never waits."""
        self.home.watches.note_access(self)

    def exception(self, status: int, op: int, context: str) -> None:
        """Log a failure that libca reports for this channel. On a libca thread; never waits."""
        self.home.message_log.exception(self.name, status, op, context)

    # -- On the loop's thread ----------------------------------------------------------------------

    def _apply_change(
        self, key: int, number: int, up: bool, native_type: int, native_count: int
    ) -> None:
        """Apply a change of the connection and call the listeners; portal job."""
        self._applied = max(self._applied, number)
        if not self.chid or key != self._token_key:  # it is of a chid that was closed or replaced
            return
        if up and self.unresponsive:
            self.replace()
            return
        if up and self._note_type(native_type, native_count) and self.private:
            # libca has renewed the old subscription, whose first update the filter of this channel
            # has counted. Another subscription of the channel might get none.
            self.replace()
            return
        if up:
            self.connected = self.ever_connected = True
            self.searching_since = math.inf
            # Read `_noted` last: libca's thread increments it before it resets `connected`.
            if number != self._noted:
                self.connected = False
                return  # The channel went down again; that change is still in the queue.
        else:
            self.connected = False
            self.scalar_key = None
            self.forget_writes()
            self.home.reconnector.begin()
        concerned = (*self.listeners, *self.monitors)
        self.tell(concerned, self._tell_up if up else methodcaller("channel_down", self))

    def _note_type(self, native_type: int, native_count: int) -> bool:
        """Note the type of a connection; return whether it is another one than before."""
        before = self.native_type, self.native_count
        if (native_type, native_count) == before:
            return False
        self.native_type, self.native_count = native_type, native_count
        self.forget_reader()
        if before[0] < 0:
            return False
        self.home.type_changes += 1
        return True

    def _tell_up(self, listener: Listener) -> None:
        # The channel goes down, and its type may change, while a callback of the user is told
        if self.connected:
            listener.channel_up(self)  # type: ignore[arg-type]  # it is a `Channel`

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
        self._token_key = tokens.enter(self)
        try:
            status, self.chid = self.home.ca_context.create_channel(
                self.name.encode("utf-8"), self._token_key << tokens.KEY_SHIFT, self.priority
            )
            if status != libca.ECA_NORMAL:
                raise CARequestError(self.name, status, detail="libca could not create a channel")
        except BaseException:
            self.chid = 0
            tokens.leave(self._token_key)
            raise
        self.home.watches.chid_made(self)

    def change_is_queued(self) -> bool:
        """Whether the loop has yet to apply a change. On the loop."""
        return self._noted != self._applied

    def detach(self) -> int:
        """Take the chid from this channel, and return it: it is to be cleared. On the loop."""
        chid, self.chid = self.chid, 0
        self.connected = False
        self.scalar_key = None
        self._circuit = None
        tokens.leave(self._token_key)
        return chid

    def reset(self, elsewhere: bool) -> None:
        """Prepare for another chid; ``elsewhere``: on another circuit. On the loop."""
        if elsewhere:
            self.priority ^= 1
        self._applied = self._noted
        self._is_up = self.refused = self.unresponsive = False

    def mark_closed(self) -> list[Listener]:
        """Note that the channel is closed; return those who are to be told."""
        self.closed = True
        return self.take_all()

    def after_fork(self) -> None:
        """Drop all references in a forked child, without a call to libca."""
        self.detach()
        self.mark_closed()
