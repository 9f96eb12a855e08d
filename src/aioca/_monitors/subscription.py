"""The subscription of a monitor: how it follows its channel through all changes of the connection.

The states of a subscription, and what leads from one to the next:

- *made*. `start` adds it to the channel.
- *waiting* for the channel to connect. `channel_up` subscribes.
- *subscribed*: libca has a subscription, whose updates have the key ``_key`` and are decoded by
  ``_reader``. After a disconnection libca subscribes again by itself. If the type or the number of
  elements has changed, or the channel has been replaced, libca's thread ignores the updates of this
  key at once. The loop retires the key, queues the subscription to be cleared, and `_subscribe`
  makes another one with a new key.
- *closed*. `close` removes its key from the table of receivers and queues the subscription to be
  cleared. `on_cleared` then forgets the key.

Invariants:

- After `close` nothing is delivered, even if it is queued, because its key has no receiver.
- A value is decoded by the reader with which it was requested. So the waiting updates are decoded
  when their key is retired, and `EarlierKey` keeps the reader for those that are still queued.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from .._ca import libca
from .._channels.channel import Channel
from .._channels.context import LoopContext
from .._channels.names import valid_name
from .._channels.private import channel_for_monitor, close_if_private
from .._errors import CANothing, Failure
from .._values.classes import Reader
from .._values.decode import Kind, request_kind
from . import first_update
from .earlier_key import EarlierKey
from .nothing import NOTHING
from .options import Options
from .policies import policy_for
from .policy import new_key


class ChannelSubscription(ABC):
    """Follows one channel, with one subscription of libca at a time.

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
        "_options",
        "_pending",
        "_policy",
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
        self._options = options
        self._policy = policy_for(context, options.limit)
        self._channel: Channel | None = None
        self._reader: Reader | None = None
        self._unpack: Any = None  # `unpack` and `kind` of the reader's shape, for a single number
        self._kind: Any = None
        self._key = 0  # until the first subscription, and after `_retire_key`
        self._evid = 0
        self._ignoring = False  # updates are ignored; also set on a thread of libca
        self._dropped = 0  # by earlier keys
        # Items that come before those of the policy: values that were decoded at a change of the
        # type, and what came while the callback was awaited.
        self._pending: deque[Any] | None = None
        self._cancel_timer: Callable[[], None] | None = None

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open" if self.opened else "opening"
        return f"<{type(self).__name__} {self.name!r} {state}>"

    # -- What a monitor provides -------------------------------------------------------------------

    @abstractmethod
    def receive(self, item: Any) -> None:
        """Deliver an update; if ``item`` is None, one that waits. On the loop."""

    @abstractmethod
    def on_closed(self) -> None:
        """Called once, when the monitor is closed. On the loop."""

    @abstractmethod
    def value_of(self, item: Any, reader: Reader | None) -> Any:
        """Decode an item with ``reader``; NOTHING if it cannot be decoded and was logged."""

    @abstractmethod
    def failed(self, status: int, detail: str) -> Any:
        """Return an error to deliver; NOTHING if it was logged instead."""

    @abstractmethod
    def connect_timed_out(self) -> None:
        """Report that the PV has not connected in time; timer of the portal."""

    # -- On the loop -------------------------------------------------------------------------------

    def start(self) -> None:
        """Subscribe now, or when the channel connects."""
        if self.closed:  # closed before it was started
            return
        context = self.context
        channel = self._channel = channel_for_monitor(context, self.name)
        channel.add_monitor(self)
        if channel.connected:
            self._subscribe()
        elif self._options.connect_timeout is not None:
            self._cancel_timer = context.portal.after(
                self._options.connect_timeout, self.connect_timed_out
            )

    def close(self) -> None:
        """End the monitor: nothing more is delivered. Closing again does nothing."""
        if self.closed:
            return
        self.closed = True
        if self._cancel_timer is not None:
            self._cancel_timeout()
        self.context.portal.receivers.pop(self._key, None)
        channel, self._pending = self._channel, None
        if channel is not None:
            channel.remove_monitor(self)
        evid, self._evid = self._evid, 0
        if evid and channel is not None:
            self.context.clear_queue.ignored_keys.add(self._key)
            if channel.chid:  # else the subscription is cleared with its channel
                forget = partial(self._forget, self._key)
                self.context.clear_queue.subscription(evid, channel, forget)
        else:
            self.on_cleared()
            close_if_private(channel)  # after a clear, `HeldUpdates` closes it
        self.on_closed()

    def on_cleared(self) -> None:
        """Forget the key: libca makes no more callbacks. See `Channel.close`."""
        if self._key:
            self._forget(self._key)
            self._key = 0

    def _forget(self, key: int, counted: int = 0) -> None:
        """Remove a key of which no update comes any more.

        ``counted`` is the number of its dropped updates that ``_dropped`` has already.
        """
        self.context.portal.receivers.pop(key, None)
        self.context.clear_queue.ignored_keys.discard(key)
        self._dropped += self._policy.forget(key) - counted

    def _cancel_timeout(self) -> None:
        cancel, self._cancel_timer = self._cancel_timer, None
        if cancel is not None:
            cancel()

    def tell(self, nothing: CANothing) -> None:
        """Deliver an error that was found on the loop, behind what is queued. On the loop."""
        self.context.portal.put(self._key, nothing)

    def channel_up(self, channel: Channel) -> None:
        if self.closed:  # by a callback that was told of the same connection before
            return
        self._cancel_timeout()
        if not self._evid:
            self._subscribe()
        elif not self._same(channel.reader(self._request_kind())):
            evid = self._evid
            self.context.clear_queue.subscription(evid, channel, self._detach_subscription())
            self._subscribe()
        elif self._reader is not None:  # libca subscribes again by itself
            first_update.expect(self, self._reader)

    def channel_down(self, channel: Channel) -> None:  # noqa: B027
        """Do nothing: `went_down` has queued the disconnection."""

    def channel_replaced(self) -> Callable[[], object] | None:
        """Give up the libca subscription: the channel has a new chid from now on. On the loop.

        Returns:
            A function to call when libca has cleared the old chid, or None.
        """
        return self._detach_subscription() if self._evid else None

    def channel_closed(self, channel: Channel) -> None:
        self.close()

    def _request_kind(self) -> Kind:
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

    def _subscribe(self) -> None:
        channel, options = self._channel, self._options
        assert channel is not None
        # Before the reader is made: from now on libca's thread may find another type once more
        ignoring, self._ignoring = self._ignoring, False
        reader = channel.reader(self._request_kind())
        if ignoring or not self._same(reader):
            if self._key:  # libca has refused to subscribe with it
                self.context.call_behind(self._retire_key())
            self._reader = reader
            self._unpack, self._kind = reader.shape.unpack, reader.shape.kind
            self._key = new_key(reader.shape.dbr)
            self._policy.open(self._key, options.limit)
            self.context.portal.receivers[self._key] = self
        libca.unblocked(self._create, channel.chid, reader.shape.dbr)

    def _create(self, chid: int, dbr: int) -> None:
        """Have libca subscribe, with the current key and reader."""
        status, self._evid = libca.create_subscription(
            dbr, 0, chid, self._options.events, self._policy.trampoline, self._key
        )  # count 0: the current length
        if status == libca.ECA_NORMAL:
            self.opened = True
            self.context.flushes.soon()
            assert self._reader is not None
            first_update.expect(self, self._reader)
            return
        self._evid = 0
        if status != libca.ECA_DISCONN:  # else `channel_up` subscribes again
            failed = self.failed(status, "subscribing")
            if failed is not NOTHING:
                self.tell(failed)

    def _detach_subscription(self) -> Callable[[], object]:
        """Ignore further updates. The function that is returned is to be called after the clear."""
        self._evid = 0
        self.ignore_updates()
        return partial(self.context.call_behind, self._retire_key())

    def _retire_key(self) -> Callable[[], object]:
        """Give up the key, with which no updates come any more.

        The waiting updates are decoded with the current reader, because it will be replaced.

        Returns:
            A function that forgets the key, to be called when nothing more is queued with it.
        """
        key, reader, policy = self._key, self._reader, self._policy
        items = list(self._pending or ())
        while (item := policy.take(key)) is not None:
            items.append(item)
        values = [self.value_of(item, reader) for item in items]
        self._pending = deque(value for value in values if value is not NOTHING)
        dropped = policy.dropped(key)
        self._dropped += dropped
        self._key = 0
        self._reader = None
        self.context.portal.receivers[key] = EarlierKey(self, key, reader)
        for _ in self._pending:
            self.context.portal.put(key, None)
        return partial(self._forget, key, dropped)

    # -- On a thread of libca ----------------------------------------------------------------------

    def went_down(self) -> None:
        """Queue the disconnection, if it is to be delivered."""
        # On the thread of libca that also queues updates: so the disconnection comes before the
        # updates of the next connection.
        if self._options.notify_disconnect and not self.closed:
            nothing = Failure(self.name, libca.ECA_DISCONN, "monitoring").nothing()
            self._policy.add_disconnection(self._key, nothing)

    def ignore_updates(self) -> None:
        """Have libca's threads ignore further updates with the current key."""
        self._ignoring = True
        if self._key:
            self.context.clear_queue.ignored_keys.add(self._key)
