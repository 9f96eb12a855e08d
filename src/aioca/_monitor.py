"""Subscriptions: what libca delivers to a monitor, and what is kept of it until it is taken.

- Updates are kept as bytes; they are decoded when they are delivered, so what a policy drops
  costs nothing more.
- libca's thread appends to ``pending`` and drops its oldest; the loop takes from its left. The
  newest entry is never dropped: the last value always arrives.
- After `close` nothing is delivered, though it may be queued: every delivery looks at the state.
- A subscription's values are decoded by the reader they were requested with. When the type of
  the PV has changed, what is pending is decoded before the new subscription is made.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from . import _libca
from ._channel import Channel
from ._context import Context, valid_name
from ._dbr import (
    DBE_ALARM,
    DBE_PROPERTY,
    DBE_VALUE,
    FORMAT_CTRL,
    FORMAT_TIME,
    DbrReader,
    datatype_code,
)
from ._errors import CANothing, Failure, error_for

logger = logging.getLogger("aioca")

NOTHING: Any = object()

# Pending updates after which it is looked whether the loop that should take them is closed
_LOOK_EVERY = 256


class Sink(Protocol):
    """Who takes the updates of subscriptions.

    Attributes:
        scheduled: whether `deliver` is going to be called on the loop.
        order: for a sink of several subscriptions: whose turn it is, one entry an update.
    """

    scheduled: bool
    order: deque[Feed] | None

    def deliver(self) -> None:
        """On the loop: there is something to take."""

    def feed_closed(self) -> None:
        """On the loop: a subscription has ended."""


class Options(NamedTuple):
    """What a monitor was asked for, checked."""

    code: int | None
    format: int
    count: int  # type: ignore[assignment]  # hides a method of tuple that nobody wants here
    events: int
    limit: int  # of pending updates, 0 for none
    notify_disconnect: bool
    connect_timeout: float | None


def default_events(format: int) -> int:
    events = DBE_VALUE
    if format in (FORMAT_TIME, FORMAT_CTRL):
        events |= DBE_ALARM
    if format == FORMAT_CTRL:
        events |= DBE_PROPERTY
    return events


class Feed:
    """One subscription of libca's and its pending updates: the half that knows Channel Access."""

    __slots__ = (
        "_cancel_timer", "_channel", "_cut", "_dbr", "_decode", "_deliver", "_dropped", "_evid",
        "_limit", "_open", "_options", "_post", "_reader", "_sink", "_token", "closed",
        "context", "name", "pending",
    )  # fmt: skip

    def __init__(self, context: Context, name: str, options: Options, sink: Sink) -> None:
        self.name = valid_name(name)
        self.closed = False
        self.context = context
        self._options = options
        self._sink = sink
        self._deliver = sink.deliver
        self._limit = options.limit
        self._post = context.portal.post
        self.pending: deque[Any] = deque()  # bytes, an ECA status, or a value already made
        self._dropped = 0
        self._channel: Channel | None = None
        self._reader: DbrReader | None = None
        self._decode: Callable[[Any], Any]
        self._dbr = -1
        self._token = 0
        self._evid = 0
        self._cut = False
        self._open = False
        self._cancel_timer: Callable[[], None] | None = None

    @property
    def opened(self) -> bool:
        """Whether libca has ever had this subscription."""
        return self._open

    @property
    def dropped(self) -> int:
        return self._dropped

    # -- On the loop -------------------------------------------------------------------------------

    def start(self) -> None:
        context = self.context
        channel = self._channel = context.channel(self.name)
        channel.monitors.add(self)
        channel.listeners[self] = None
        context.subscriptions[self] = None
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
        _libca.unregister(self._token)
        channel = self._channel
        if channel is not None:
            channel.listeners.pop(self, None)
            channel.monitors.discard(self)
            if self._evid and channel.chid:
                _libca.clear_subscription(self._evid)
                self.context.flush_soon()
        self._evid = 0
        self.context.subscriptions.pop(self, None)
        self.pending.clear()
        self._sink.feed_closed()

    def context_closed(self) -> None:
        self.close()

    def take(self) -> Any:
        """The oldest pending value, or NOTHING."""
        pending = self.pending
        while pending:
            try:
                item = pending.popleft()
            except IndexError:  # libca's thread has dropped it
                break
            try:
                # Nearly always bytes, and then this is all.
                return self._decode(item) if type(item) is bytes else self._understand(item)
            except Exception as error:  # whatever a server may have sent
                item = self._failed(_libca.ECA_BADTYPE, f"not understood: {error!r}")
            if item is not None:
                return item
        return NOTHING

    def _understand(self, item: Any) -> Any:
        """The value of a pending entry that is not plain bytes; NOTHING if there is none in it."""
        if type(item) is bytearray:
            return self._decode(item)
        if type(item) is int:
            failed = self._failed(item, "monitoring")
            return self.take() if failed is None else failed
        return item

    def _failed(self, status: int, detail: str) -> CANothing | None:
        """An update that is an error: for who wants to know of trouble, and else for the log."""
        failure = Failure(self.name, status, detail)
        if self._options.notify_disconnect:
            return failure.nothing()
        logger.warning("%s", error_for([failure]))
        return None

    def _subscribe(self) -> None:
        channel, options = self._channel, self._options
        assert channel is not None
        reader = channel.reader(options.code, options.format, monitor=True)
        self._reader, self._decode, self._dbr = reader, reader.decode, reader.dbr
        self._cut = False
        self._token = _libca.register(self)
        status, self._evid = _libca.create_subscription(
            reader.dbr, channel.request_count(options.count), channel.chid, options.events,
            self._token,
        )  # fmt: skip
        if status == _libca.ECA_NORMAL:
            self._open = True
            self.context.flush_soon()
            return
        _libca.unregister(self._token)
        self._evid = 0
        if status != _libca.ECA_DISCONN:  # else the channel will come up again
            failed = self._failed(status, "subscribing")
            if failed is not None:
                self._push(failed)

    def channel_up(self, channel: Channel) -> None:
        self._drop_timer()
        if not self._evid:
            self._subscribe()
        elif self._cut or self._reader is not channel.reader(
            self._options.code, self._options.format, monitor=True
        ):
            _libca.unregister(self._token)
            evid, self._evid = self._evid, 0
            _libca.clear_subscription(evid)
            self._decode_pending()
            self._subscribe()

    def _decode_pending(self) -> None:
        values = []
        while (value := self.take()) is not NOTHING:
            values.append(value)
        self.pending.extend(values)

    def channel_down(self, channel: Channel) -> None:
        """Nothing to do: see `went_down`."""

    def channel_closed(self, channel: Channel) -> None:
        self._evid = 0  # goes with the channel
        self.close()

    def _connect_timed_out(self) -> None:
        self._cancel_timer = None
        if not self.closed:
            detail = "connecting: waiting on"
            self._push(Failure(self.name, _libca.ECA_TIMEOUT, detail).nothing())

    def _drop_timer(self) -> None:
        cancel, self._cancel_timer = self._cancel_timer, None
        if cancel is not None:
            cancel()

    def _push(self, value: CANothing) -> None:
        """Queue what did not come from libca: behind what is pending, and displacing nothing."""
        self.pending.append(value)
        sink = self._sink
        if sink.order is not None:
            sink.order.append(self)
        if not sink.scheduled:
            sink.scheduled = True
            self._post(self._deliver)

    # -- On a thread of libca ----------------------------------------------------------------------

    def arrive(self, index: int, dbr: int, raw: _libca.Raw) -> None:
        if dbr != self._dbr and type(raw) is not int:
            raw = _libca.ECA_BADTYPE
        pending, limit = self.pending, self._limit
        # Append first: were the oldest dropped first, the loop could find nothing in between,
        # and the place of the new one in ``order`` would be gone.
        pending.append(raw)
        grown = True
        while limit and len(pending) > limit:
            try:
                oldest = pending.popleft()
            except IndexError:  # the loop has taken all of them
                break
            if oldest is raw and not pending:  # the loop has just made room
                pending.append(raw)
                grown = True
                break
            grown = False
            if type(oldest) is not CANothing:
                self._dropped += 1
        sink = self._sink
        if grown and sink.order is not None:
            sink.order.append(self)
        if not sink.scheduled:
            sink.scheduled = True
            self._post(self._deliver)
        elif not len(pending) % _LOOK_EVERY:
            self.context.portal.look_if_closed()

    def went_down(self) -> None:
        # From libca's own thread, which is the one that appends values, so that it comes before
        # those of the next connection.
        if self._options.notify_disconnect and not self.closed:
            self._push(Failure(self.name, _libca.ECA_DISCONN, "monitoring").nothing())

    def cut_off(self) -> None:
        self._cut = True
        _libca.unregister(self._token)

    def connection_changed(self, up: bool, native_type: int, native_count: int) -> None:
        """Never called: a feed's token is given to no channel."""

    def exception(self, status: int, op: int, context: str) -> None:
        """Never called: a feed's token is given to no channel."""


def check_options(
    datatype: Any,
    format: int,
    count: int,
    events: int | None,
    all_updates: bool,
    max_pending: int | None,
    notify_disconnect: bool,
    connect_timeout: float | None,
) -> Options:
    """The options of a monitor; TypeError or ValueError before anything is made."""
    code = datatype_code(datatype)
    if events is None:
        events = default_events(format)
    elif not isinstance(events, int) or not 0 < events < 16:
        raise ValueError(f"events must be a bitwise or of DBE_ constants, not {events!r}")
    if max_pending is not None:
        if all_updates:
            raise ValueError("all_updates keeps every update; it cannot go with max_pending")
        if not isinstance(max_pending, int) or max_pending < 1:
            raise ValueError(f"max_pending must be an int of 1 or more, not {max_pending!r}")
    limit = 0 if all_updates else max_pending or 1
    return Options(
        code, format, count, int(events), limit, bool(notify_disconnect), connect_timeout
    )
