"""Subscriptions: one PV is followed, through disconnections and changes of its type.

- Updates are kept as bytes; they are decoded when they are delivered, so what a policy drops
  costs nothing more. Who keeps them until then: all updates, the queue of the loop; the latest
  only, `PendingUpdates`; the newest n, the feed itself.
- After `close` nothing is delivered, though it may be queued: the feed's keys are no longer
  receivers'.
- A subscription's values are decoded by the reader they were requested with. When the type of
  the PV has changed, what is pending is decoded before the new subscription is made.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from .._ca import libca
from .._ca.tokens import Raw
from .._channels import explain
from .._channels.channel import Channel
from .._channels.context import LoopContext
from .._channels.names import valid_name
from .._channels.updates import Pair, new_key
from .._errors import CAError, CANothing, Failure, error_for
from .._portal.interface import TURN
from .._values.classes import Reader
from .._values.decode import request_kind, why_unreadable
from .first_update import FirstUpdate
from .options import Options

logger = logging.getLogger("aioca")

NOTHING: Any = object()

_LOOK_EVERY = 50

# Seconds in which the first update comes, where it is of a size that libca may drop
_FIRST_UPDATE = 2.0


class Monitor(ABC):
    """One subscription of libca's: the half of a monitor that knows Channel Access.

    Attributes:
        name: the PV.
        closed: whether it has ended.
        opened: whether libca has ever had this subscription.
        context: where it lives.

    There may be very many of them: no container is made before it is needed.
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
        self._unpack: Any = None  # with _kind: of the reader's shape, for a single number
        self._kind: Any = None
        self._key = 0  # under which updates come; and what they came under before, if they did
        self._old_key = 0
        self._evid = 0
        self._ignoring = False  # on a libca thread: the type has changed
        self._dropped = 0
        # What is kept here: the newest n, or all that has come while a callback is awaited
        self._pending: deque[Any] | None = deque() if options.limit > 1 else None
        self._cancel_timer: Callable[[], None] | None = None

    @property
    def limit(self) -> int:
        """How many pending updates are kept at most; 0 for all of them."""
        return self._options.limit

    @property
    def dropped(self) -> int:
        """How many updates were dropped because newer ones came before they were delivered."""
        dropped = self._pending_updates.dropped
        return self._dropped + dropped.get(self._key, 0) + dropped.get(self._old_key, 0)

    @abstractmethod
    def receive(self, item: Any) -> None:
        """On the loop: an update; or None, a ticket to `take` what is pending."""

    @abstractmethod
    def on_closed(self) -> None:
        """On the loop: it is closed."""

    # -- On the loop -------------------------------------------------------------------------------

    def start(self) -> None:
        """Have it subscribe, now or when its channel connects."""
        if self.closed:  # before its turn had come
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
        """End it. Idempotent; any callback that libca is making now is waited for."""
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
            if channel.chid:  # else the subscription goes with the channel
                self.context.clear_queue.subscription(evid, channel, self.on_cleared)
        else:
            self.on_cleared()
        self.on_closed()

    def on_cleared(self) -> None:
        """Libca calls no more; see `Channel.close`."""
        self._dropped += self._pending_updates.forget(self._key) + self._pending_updates.forget(
            self._old_key
        )

    def take(self) -> Any:
        """The oldest pending value, or NOTHING."""
        while (item := self._take_item()) is not None:
            value = self.value_of(item, self._reader)
            if value is not NOTHING:
                return value
        return NOTHING

    def _take_item(self) -> Any:
        if self._options.limit == 1:
            if (
                self._old_key in self._pending_updates.latest
            ):  # a disconnection that was told under it
                return self._pending_updates.take_latest(self._old_key)
            return self._pending_updates.take_latest(self._key)
        try:
            return self._pending.popleft() if self._pending else None
        except IndexError:  # libca's thread has dropped it
            return None

    def value_of(self, item: Any, reader: Reader | None) -> Any:
        """The value that is in an item, decoded by ``reader``; NOTHING if there is none in it."""
        if type(item) is bytes or type(item) is bytearray:
            try:
                return reader.decode(item)  # type: ignore[union-attr]
            except Exception as error:  # whatever a server may have sent
                status, why = why_unreadable(error)
                return self._failed(status, f"monitoring: {why}")
        if type(item) is int:
            return self._failed(item, explain.status("monitoring", item))
        return item

    def _failed(self, status: int, detail: str) -> Any:
        """An update that is an error: for who wants to know of trouble, and else for the log."""
        failure = Failure(self.name, status, detail)
        if self._options.notify_disconnect:
            return failure.nothing()
        self.context.message_log.record(logging.WARNING, str(error_for([failure])))
        return NOTHING

    def _take_key(self, dbr: int) -> None:
        """Have a new key. The one before stays for what may be told under it just now."""
        receivers = self.context.portal.receivers
        receivers.pop(self._old_key, None)
        self._dropped += self._pending_updates.forget(self._old_key)
        self._old_key, self._key = self._key, new_key(dbr)
        receivers[self._key] = self

    def _subscribe(self) -> None:
        channel, options = self._channel, self._options
        assert channel is not None
        reader = channel.reader(self._request_kind())
        if not self._same(reader):
            if self._reader is not None:
                self._decode_pending()
            self._reader = reader
            self._unpack, self._kind = reader.shape.unpack, reader.shape.kind
            self._take_key(reader.shape.dbr)
        self._ignoring = False
        with libca.unblocked:
            status, self._evid = libca.create_subscription(
                reader.shape.dbr, 0, channel.chid,  # as many elements as there are
                options.events, self._pending_updates.trampoline(options.limit), self._key,
            )  # fmt: skip
        if status == libca.ECA_NORMAL:
            self.opened = True
            self.context.flush_soon()
            if options.notify_disconnect and self.context.ca_context.array_limit is not None:
                self._await_first_update(self._why_dropped(reader))
            return
        self._evid = 0
        if status != libca.ECA_DISCONN:  # else the channel will come up again
            failed = self._failed(status, "subscribing")
            if failed is not NOTHING:
                self._tell(failed)

    # -- Updates that libca may drop ---------------------------------------------------------------

    def _why_dropped(self, reader: Reader) -> str:
        """That libca may drop an update that is as large as it can be; empty if it does not."""
        channel = self._channel
        assert channel is not None
        return explain.may_be_dropped(
            reader.shape.dbr, channel.native_count, self.context.ca_context.settings,
            fewer=f"monitor a part of the array, such as {self.name}.[0:9]",
        )  # fmt: skip

    def _await_first_update(self, why_dropped: str) -> None:
        if not why_dropped:
            return
        receivers, key = self.context.portal.receivers, self._key

        def came() -> None:
            if self._key == key:  # else there is another subscription by now
                self._drop_timer()
            receivers[key] = self

        def silent() -> None:
            self._cancel_timer = None
            if receivers.get(key) is waiting:
                detail = f"monitoring: no update has come; libca may have dropped it: {why_dropped}"
                self._tell(Failure(self.name, libca.ECA_TOLARGE, detail).nothing())

        waiting = receivers[key] = FirstUpdate(self, came)
        self._cancel_timer = self.context.portal.after(_FIRST_UPDATE, silent)

    def why_no_update(self) -> str:
        """Why none has come so far, for people."""
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
        """Whether it asks for, and understands, the same as the one that we have."""
        own = self._reader
        return (
            own is not None
            and own.shape is reader.shape
            and own.element_count == reader.element_count
            and not self._ignoring
        )

    def _decode_pending(self) -> None:
        """Turn what is pending into values, as long as it is known how."""
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
            # libca's thread appends no updates, as they are cut off; but it may append that the
            # channel has disconnected, which has to stay behind these.
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

    def channel_replaced(self) -> Callable[[], object] | None:
        return self._leave_subscription() if self._evid else None

    def _leave_subscription(self) -> Callable[[], object]:
        """Let nothing of it arrive any more; what is returned is for when it is cleared."""
        self._evid = 0
        self.ignore_updates()
        # Else every update of every monitor would have to look whether it is meant.
        return partial(self._pending_updates.ignored_keys.discard, self._key)

    def channel_down(self, channel: Channel) -> None:  # noqa: B027
        """Nothing to do: see `went_down`."""

    def channel_closed(self, channel: Channel) -> None:
        self.close()

    def _connect_timed_out(self) -> None:
        # Behind what is queued: the loop may have been busy when the channel connected in time.
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
        """Queue what did not come from libca: behind what is pending, and displacing nothing."""
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
        """Keep one of the newest n; whether a ticket is needed for it."""
        pending, limit = self._pending, self._options.limit
        if pending is None:  # closed
            return False
        # Append first: were the oldest dropped first, the loop could find nothing in between,
        # and the ticket of the new one would be gone.
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
        # From libca's own thread, which is the one that appends values, so that it comes before
        # those of the next connection.
        if self._options.notify_disconnect and not self.closed:
            self._tell(Failure(self.name, libca.ECA_DISCONN, "monitoring").nothing())

    def ignore_updates(self) -> None:
        self._ignoring = True
        self._pending_updates.ignored_keys.add(self._key)


def start_all(context: LoopContext, monitors: Sequence[Monitor]) -> None:
    """Start them; where they are many, in turns, between which the loop goes on."""
    _Start(context, monitors).turn()


class _Start:
    """Monitors that are being started. Those whose turn has not come are in no channel's list."""

    def __init__(self, context: LoopContext, monitors: Sequence[Monitor]) -> None:
        self._context = context
        self._monitors = monitors
        self._next = 0
        self._is_first_turn = True

    def turn(self) -> None:
        context, monitors = self._context, self._monitors
        context.starts.pop(self, None)
        stop = context.portal.now() + TURN
        with context.ca_context.attached():
            for index in range(self._next, len(monitors)):
                try:
                    monitors[index].start()
                except (RuntimeError, CAError) as error:
                    self._close_refused(monitors[index], error)
                if index % _LOOK_EVERY == 0 and context.portal.now() > stop:
                    self._next = index + 1
                    self._is_first_turn = False
                    context.starts[self] = None
                    context.post(self.turn)
                    return

    def _close_refused(self, monitor: Monitor, error: Exception) -> None:
        """Close a monitor for which libca makes no channel.

        In the first turn `camonitor` raises the error, so all of its monitors are closed. In later
        turns nobody can be raised to: the error is logged, and the others are started.
        """
        if self._is_first_turn:
            for each in self._monitors:
                each.close()
            raise error
        logger.error("%s: the monitor cannot be started, and is closed: %s", monitor.name, error)
        monitor.close()

    def context_closed(self) -> None:
        for monitor in self._monitors[self._next :]:
            monitor.close()
