"""Monitors: each follows one PV, through disconnections and changes of its type.

- Pending updates are kept as bytes and decoded when they are delivered, so a dropped update is
  never decoded. With all updates, they are kept in the queue of the loop; with the latest only, in
  `PendingUpdates`; with the newest n, in the monitor.
- After `close` nothing is delivered, even if it is queued: the keys of the monitor are no longer
  in the table of receivers.
- A value is decoded by the reader with which it was requested. When the type of the PV has
  changed, the pending updates are decoded before the new subscription is made.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from .._ca import libca
from .._ca.tokens import Raw
from .._channels import explain
from .._channels.channel import Channel
from .._channels.context import LoopContext
from .._channels.names import valid_name
from .._channels.updates import Pair, new_key
from .._errors import CANothing, Failure, error_for
from .._values.classes import Reader
from .._values.decode import request_kind, why_unreadable
from .first_update import FirstUpdate
from .options import Options

logger = logging.getLogger("aioca")

NOTHING: Any = object()  # in the place of a value: there is none


# If no first update has come in this time, and libca may have dropped it because of its size, the
# monitor delivers an error.
_FIRST_UPDATE_SECONDS = 2.0


class Monitor(ABC):
    """The part of a monitor that uses Channel Access: one subscription of libca at a time.

    Subclasses deliver the updates.

    Attributes:
        name: the PV.
        closed: whether the monitor has ended.
        opened: whether libca has ever made a subscription for it.
        context: the context of its event loop.

    A program may have very many monitors: no container is made before it is needed.
    """

    __slots__ = (
        "_cancel_timer",
        "_channel",
        "_dropped",
        "_evid",
        "_ignoring",
        "_key",
        "_kind",
        "_old_key",
        "_options",
        "_pending",
        "_pending_updates",
        "_reader",
        "_unpack",
        "closed",
        "context",
        "name",
        "opened",
    )  # fmt: skip

    def __init__(self, context: LoopContext, name: str, options: Options) -> None:
        self.name: str = valid_name(name)
        self.closed: bool = False
        self.opened: bool = False
        self.context: LoopContext = context
        self._pending_updates = context.pending_updates
        self._options = options
        self._channel: Channel | None = None
        self._reader: Reader | None = None
        self._unpack: Any = None  # `unpack` and `kind` of the reader's shape, for a single number
        self._kind: Any = None
        self._key = 0  # the key of the current updates; `_old_key` is the one before, or 0
        self._old_key = 0
        self._evid = 0
        self._ignoring = False  # updates are ignored; also set on a thread of libca
        self._dropped = 0
        # Updates kept here: the newest n, or those that came while the callback was awaited
        self._pending: deque[Any] | None = deque() if options.limit > 1 else None
        self._cancel_timer: Callable[[], None] | None = None

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open" if self.opened else "opening"
        return f"<{type(self).__name__} {self.name!r} {state}>"

    @property
    def limit(self) -> int:
        """The largest number of pending updates that are kept; 0 means all."""
        return self._options.limit

    @property
    def dropped(self) -> int:
        """The number of updates dropped because newer ones came before they were delivered."""
        dropped = self._pending_updates.dropped
        return self._dropped + dropped.get(self._key, 0) + dropped.get(self._old_key, 0)

    @abstractmethod
    def receive(self, item: Any) -> None:
        """Deliver an update, or the result of `take` if ``item`` is None. On the loop."""

    @abstractmethod
    def on_closed(self) -> None:
        """Called once, when the monitor is closed. On the loop."""

    # -- On the loop -------------------------------------------------------------------------------

    def start(self) -> None:
        """Subscribe now, or when the channel connects."""
        if self.closed:  # closed before it was started
            return
        context = self.context
        channel = self._channel = context.channel(self.name)
        self._take_key(0)
        channel.add_monitor(self)
        if channel.connected:
            self._subscribe()
        elif self._options.connect_timeout is not None:
            self._cancel_timer = context.portal.after(
                self._options.connect_timeout, self._connect_timed_out
            )

    def close(self) -> None:
        """End the monitor: nothing more is delivered. Closing again does nothing."""
        if self.closed:
            return
        self.closed = True
        self._drop_timer()
        receivers = self.context.portal.receivers
        receivers.pop(self._key, None)
        receivers.pop(self._old_key, None)
        channel = self._channel
        if channel is not None:
            channel.remove_monitor(self)
        self._pending = None
        evid, self._evid = self._evid, 0
        if evid and channel is not None:
            self._pending_updates.ignored_keys.add(self._key)
            if channel.chid:  # else the subscription is cleared with its channel
                self.context.clear_queue.subscription(evid, channel, self.on_cleared)
        else:
            self.on_cleared()
        self.on_closed()

    def on_cleared(self) -> None:
        """Forget the pending updates: libca makes no more callbacks. See `Channel.close`."""
        self._dropped += self._pending_updates.forget(self._key) + self._pending_updates.forget(
            self._old_key
        )

    def take(self) -> Any:
        """Remove and return the oldest pending value, or NOTHING."""
        while (item := self._take_item()) is not None:
            value = self.value_of(item, self._reader)
            if value is not NOTHING:
                return value
        return NOTHING

    def _take_item(self) -> Any:
        if self._options.limit == 1:
            if (
                self._old_key in self._pending_updates.latest
            ):  # a disconnection that was queued with the old key
                return self._pending_updates.take_latest(self._old_key)
            return self._pending_updates.take_latest(self._key)
        try:
            return self._pending.popleft() if self._pending else None
        except IndexError:  # libca's thread has just dropped the last one
            return None

    def value_of(self, item: Any, reader: Reader | None) -> Any:
        """Decode an item with ``reader``; NOTHING if it cannot be decoded and was logged."""
        if type(item) is bytes or type(item) is bytearray:
            try:
                return reader.decode(item)  # type: ignore[union-attr]
            except Exception as error:  # a server may send anything
                status, why = why_unreadable(error)
                return self._failed(status, f"monitoring: {why}")
        if type(item) is int:
            return self._failed(item, explain.status("monitoring", item))
        return item

    def _failed(self, status: int, detail: str) -> Any:
        """Return an error to deliver, with ``notify_disconnect``; else log it, return NOTHING."""
        failure = Failure(self.name, status, detail)
        if self._options.notify_disconnect:
            return failure.nothing()
        self.context.message_log.record(logging.WARNING, str(error_for([failure])))
        return NOTHING

    def _take_key(self, dbr: int) -> None:
        """Take a new key. The old one stays for an update that is being queued with it now."""
        receivers = self.context.portal.receivers
        receivers.pop(self._old_key, None)
        self._dropped += self._pending_updates.forget(self._old_key)
        self._old_key, self._key = self._key, new_key(dbr)
        receivers[self._key] = self

    def _subscribe(self) -> None:
        channel, options = self._channel, self._options
        assert channel is not None
        # Before the reader is made: from now on libca's thread may find another type once more
        ignoring, self._ignoring = self._ignoring, False
        reader = channel.reader(self._request_kind())
        if ignoring or not self._same(reader):
            if self._reader is not None:
                self._decode_pending()
            self._reader = reader
            self._unpack, self._kind = reader.shape.unpack, reader.shape.kind
            self._take_key(reader.shape.dbr)
        with libca.unblocked:
            status, self._evid = libca.create_subscription(
                reader.shape.dbr, 0, channel.chid,  # count 0: the current length
                options.events, self._pending_updates.trampoline(options.limit), self._key,
            )  # fmt: skip
        if status == libca.ECA_NORMAL:
            self.opened = True
            self.context.flush_soon()
            self._await_first_update(reader)
            return
        self._evid = 0
        if status != libca.ECA_DISCONN:  # else `channel_up` subscribes again
            failed = self._failed(status, "subscribing")
            if failed is not NOTHING:
                self._tell(failed)

    # -- Updates that libca may drop ---------------------------------------------------------------

    def _why_dropped(self, reader: Reader) -> str:
        """Explain that libca may drop the largest possible update; empty if it would not."""
        channel = self._channel
        assert channel is not None
        return explain.may_be_dropped(
            reader.shape.dbr, channel.native_count, self.context.ca_context.settings,
            fewer=f"monitor a part of the array, such as {self.name}.[0:9]",
        )  # fmt: skip

    def _await_first_update(self, reader: Reader) -> None:
        """Report it if the first update of a connection does not come, as libca may drop it."""
        options, ca_context = self._options, self.context.ca_context
        if not options.notify_disconnect or ca_context.array_limit is None:
            return
        why_dropped = self._why_dropped(reader)
        if not why_dropped:
            return
        receivers, key = self.context.portal.receivers, self._key

        def came() -> None:
            if self._key == key:  # else a newer subscription has replaced this one
                self._drop_timer()
            receivers[key] = self

        def silent() -> None:
            self._cancel_timer = None
            if receivers.get(key) is waiting:
                detail = f"monitoring: no update has come; libca may have dropped it: {why_dropped}"
                self._tell(Failure(self.name, libca.ECA_TOLARGE, detail).nothing())

        waiting = receivers[key] = FirstUpdate(self, came)
        self._cancel_timer = self.context.portal.after(_FIRST_UPDATE_SECONDS, silent)

    def why_no_update(self) -> str:
        """Explain why no update has come so far."""
        channel = self._channel
        if channel is None:
            return "waiting for a value: the monitor has not started"
        if not channel.connected or self._reader is None:
            return channel.why_not_connected()
        detail = "waiting for a value: connected, but no update has come"
        dropped = self._why_dropped(self._reader)
        return f"{detail}; libca may have dropped it: {dropped}" if dropped else detail

    def _request_kind(self) -> int:
        options = self._options
        return request_kind(options.code, options.format, monitor=True, count=options.count)

    def _same(self, reader: Reader) -> bool:
        """Whether the reader requests and decodes the same as the current one."""
        own = self._reader
        return (
            own is not None
            and own.shape is reader.shape
            and own.element_count == reader.element_count
            and not self._ignoring
        )

    def _decode_pending(self) -> None:
        """Decode the pending updates with the current reader, before it is replaced."""
        pending_updates, key = self._pending_updates, self._key
        before = pending_updates.latest.pop(self._old_key, None)
        item = pending_updates.latest.pop(key, None)
        if item is None:
            item = before
        if item is not None:
            pending_updates.latest[key] = self._decoded(item)
            pending_updates.ticket(key)
        pending = self._pending
        if pending:
            # Updates are ignored now, so libca's thread appends none. But it may append a
            # disconnection, which has to stay behind these.
            items = [pending.popleft() for _ in range(len(pending))]
            values = [self.value_of(item, self._reader) for item in items]
            pending.extendleft(value for value in reversed(values) if value is not NOTHING)

    def _decoded(self, item: Any) -> Any:
        if type(item) is Pair:
            return Pair((self.value_of(item[0], self._reader), item[1]))
        return self.value_of(item, self._reader)

    def channel_up(self, channel: Channel) -> None:
        self._drop_timer()
        if not self._evid:
            self._subscribe()
        elif not self._same(channel.reader(self._request_kind())):
            evid = self._evid
            self.context.clear_queue.subscription(evid, channel, self._leave_subscription())
            self._subscribe()
        elif self._reader is not None:  # libca subscribes again by itself
            self._await_first_update(self._reader)

    def channel_replaced(self) -> Callable[[], object] | None:
        return self._leave_subscription() if self._evid else None

    def _leave_subscription(self) -> Callable[[], object]:
        """Ignore further updates. The function that is returned is to be called after the clear."""
        self._evid = 0
        self.ignore_updates()
        # Keep the set of ignored keys empty: else each update of each monitor is looked up in it.
        return partial(self._pending_updates.ignored_keys.discard, self._key)

    def channel_down(self, channel: Channel) -> None:  # noqa: B027
        """Do nothing: `went_down` has queued the disconnection."""

    def channel_closed(self, channel: Channel) -> None:
        self.close()

    def _connect_timed_out(self) -> None:
        # Behind queued jobs: the channel may have connected in time while the loop was busy.
        self.context.portal.post(self._tell_timeout)

    def _tell_timeout(self) -> None:
        cancel, self._cancel_timer = self._cancel_timer, None
        if cancel is not None and not self.closed:
            assert self._channel is not None
            detail = f"{self._channel.why_not_connected()}; the monitor is still waiting"
            self._tell(Failure(self.name, libca.ECA_TIMEOUT, detail).nothing())

    def _drop_timer(self) -> None:
        cancel, self._cancel_timer = self._cancel_timer, None
        if cancel is not None:
            cancel()

    # -- On any thread -----------------------------------------------------------------------------

    def _tell(self, nothing: CANothing) -> None:
        """Queue an error behind the pending updates, without dropping any of them."""
        limit = self._options.limit
        if limit == 0:
            self.context.portal.put(self._key, nothing)
        elif limit == 1:
            self._pending_updates.put_latest(self._key, nothing)
        else:
            pending = self._pending
            if pending is not None:
                pending.append(nothing)
                self.context.portal.put(self._key, None)

    # -- On a thread of libca ----------------------------------------------------------------------

    def keep(self, raw: Raw) -> bool:
        """Keep an update as one of the newest n; return whether the loop needs another ticket."""
        pending, limit = self._pending, self._options.limit
        if pending is None:  # closed
            return False
        # Append first. If the oldest were dropped first, the loop could use its ticket in between,
        # find nothing, and the new update would have no ticket.
        pending.append(raw)
        grown = True
        while len(pending) > limit:
            try:
                oldest = pending.popleft()
            except IndexError:  # the loop has taken all of them
                break
            if oldest is raw and not pending:  # the loop has just made room
                pending.append(raw)
                return True
            grown = False
            if type(oldest) is not CANothing:
                self._dropped += 1
        return grown

    def went_down(self) -> None:
        """Queue the disconnection, if it is to be delivered."""
        # On the thread of libca that also appends updates: so the disconnection comes before the
        # updates of the next connection.
        if self._options.notify_disconnect and not self.closed:
            self._tell(Failure(self.name, libca.ECA_DISCONN, "monitoring").nothing())

    def ignore_updates(self) -> None:
        """Have libca's threads ignore further updates with the current key."""
        self._ignoring = True
        self._pending_updates.ignored_keys.add(self._key)
