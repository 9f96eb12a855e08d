"""A channel: what the operations of one event loop do with its connection.

Invariant: everything here runs on the loop's thread, except where a docstring says otherwise.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from .._ca import libca
from .._errors import CAError
from .._values.classes import Reader
from .._values.decode import Kind, make_reader
from . import explain
from .connection import Connection
from .listeners import logger
from .write_confirm import WriteConfirmation

if TYPE_CHECKING:
    from .._monitors.subscription import ChannelSubscription
    from .._requests.put import Put
    from .context import LoopContext

# When more than this was written without wait to one channel, the server is asked to confirm it.
_CONFIRM_AFTER_BYTES = 1 << 18


class Channel(Connection):
    """One channel of one event loop.

    Attributes:
        last_key, last_reader: the kind of the last request and its reader. The next request is
            likely to be of the same kind. Tricks ``last_reader`` and ``scalar_key`` of the
            benchmark: row get_list.
        scalar_key: ``last_key`` while the channel is connected and has one element; else None.
        unconfirmed: bytes that were written without wait and may not have reached the server yet.
        confirmation: the read whose reply confirms these bytes, or None.
        put_owner: the request whose put-callback is under way on this channel, or None. A second
            put-callback would block the server's thread for this client, so it uses one of
            ``put_channels``. The loop sets ``put_owner`` before the call to libca. The thread that
            receives the completion resets it.
        put_channels: an idle second channel to the same PV, for put-callbacks, or empty.
        private: whether one monitor alone uses this channel (see `private`).
    """

    scalar_key: Kind | None  # a slot of `Connection`

    __slots__ = (
        "confirmation",
        "last_key",
        "last_reader",
        "private",
        "put_channels",
        "put_owner",
        "unconfirmed",
    )  # fmt: skip

    def __init__(
        self, home: LoopContext, name: str, priority: int | None = None, *, private: bool = False
    ) -> None:
        self.private: bool = private
        self.last_key: Kind | None = None
        self.last_reader: Any = None
        self.put_owner: Put | None = None
        self.put_channels: tuple[Channel, ...] = ()
        self.unconfirmed: int = 0
        self.confirmation: WriteConfirmation | None = None
        super().__init__(home, name, priority)

    # -- Requests ----------------------------------------------------------------------------------

    def reader(self, key: Kind) -> Reader:
        """Return the reader for a kind of request (see `request_kind`). On the loop.

        The reader has the arguments of the request and decodes its replies.
        """
        if key is not self.last_key:
            self.scalar_key = None
            code, format, monitor, count = key
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

    def forget_reader(self) -> None:
        self.last_key = self.scalar_key = None

    def request_count(self, count: int) -> int:
        """Convert a `Count` to libca's: 0 is the current length, the native count the maximum."""
        if self.native_count == 1:
            return 1  # also for an array of one element that is empty now: a scalar is one element
        return self.native_count if count < 0 else min(count, self.native_count)

    def why_not_connected(self) -> str:
        """Return an explanation for people why the channel is not connected. On the loop."""
        host = libca.host_name(self.chid) if self.chid else libca.NO_HOST
        return explain.not_connected(
            self.name, host, self.home.ca_context.settings,
            refused=self.refused, ever_connected=self.ever_connected, lost=self.searches > 0,
        )  # fmt: skip

    # -- Writes without wait -----------------------------------------------------------------------

    def forget_writes(self) -> None:
        self.unconfirmed = 0
        self.home.writes.forget(self)

    def note_write(self, size: int) -> None:
        """Count bytes that were passed to libca to write without wait. On the loop.

        Requests a confirmation when many bytes are unconfirmed. Does not wait for it.
        """
        self.unconfirmed += size
        self.home.writes.add(self, self.circuit())
        if self.unconfirmed > _CONFIRM_AFTER_BYTES:
            self.request_confirmation()

    def request_confirmation(self) -> WriteConfirmation | None:
        """Request a confirmation of the writes so far. On the loop; does not wait for the reply.

        Returns:
            The read under way; None if this PV cannot be read.
        """
        if self.confirmation is None:
            confirmation = WriteConfirmation(self, self.home.writes, self.home.post)
            if confirmation.ask():
                self.confirmation = confirmation
        return self.confirmation

    # -- Second channels for put-callbacks ---------------------------------------------------------

    def borrow_put_channel(self) -> Channel:
        """Take the idle second channel to the same PV, or make one that has yet to connect.

        On the loop.
        """
        if self.put_channels:
            (put_channel,), self.put_channels = self.put_channels, ()
            return put_channel
        return Channel(self.home, self.name, self.priority)

    def release_put_channel(self, put_channel: Channel) -> None:
        """Keep a second channel for the next put-callback, or close it. On the loop.

        One is kept, if it is idle and has the same priority.
        """
        idle = put_channel.chid and put_channel.connected and put_channel.put_owner is None
        if self.chid and not self.put_channels and idle and put_channel.priority == self.priority:
            self.put_channels = (put_channel,)
        else:
            put_channel.close()

    # -- The end of a chid -------------------------------------------------------------------------

    def _detach_chid(self) -> int:
        """Detach the chid from this channel, and return it: it is to be cleared. On the loop."""
        chid = self.detach()
        if self.confirmation is not None:
            self.confirmation.close()
        self.forget_writes()
        put_channels, self.put_channels = self.put_channels, ()
        for put_channel in put_channels:  # they are on the same server
            put_channel.close()
        return chid

    def replace(self, *, elsewhere: bool = False) -> None:
        """Clear the chid and search with a new one. On the loop.

        If libca creates no new chid, a warning is logged and the reconnector tries again later.

        Args:
            elsewhere: use another circuit if the same server is found again. libca keeps a circuit
                whose server does not respond for half a minute or longer, and would otherwise put
                the new channel onto that circuit.
        """
        chid = self._detach_chid()
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
            self.home.clear_queue.channel(chid, cleared)
        self.reset(elsewhere)
        try:
            self.search()
        except (RuntimeError, CAError) as error:
            logger.warning(
                "%s: the search could not start, and will be tried again: %s", self.name, error
            )
            self.home.reconnector.begin()

    def close(self) -> None:
        """Queue the channel to be cleared and call its listeners.

        On the loop, or on any thread after the run of the loop has ended. Does not wait for libca.
        Idempotent.
        """
        if self.closed:
            return
        chid = self._detach_chid()
        monitors = self.monitors
        self.tell(self.mark_closed(), lambda listener: listener.channel_closed(self))
        if chid and not self.home.ca_context.forgotten:
            self.home.clear_queue.channel(chid, partial(self._cleared, monitors))

    def _cleared(self, monitors: tuple[ChannelSubscription, ...]) -> None:
        """End the monitors and the put-callback of a closed channel. On the loop."""
        for monitor in monitors:
            monitor.on_cleared()
        owner, self.put_owner = self.put_owner, None
        if owner is not None:
            owner.put_abandoned(self)
