"""What camonitor returns: subscriptions, and the updates of a block."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from types import TracebackType
from typing import Any

from ._context import Context, current
from ._delivery import Callback, CallbackFeed
from ._lifetime import BlockLifetime, Lifetime, LoopLifetime
from ._monitor import NOTHING, Feed, start_all
from ._options import Options
from ._portal import TURN, Waiter
from ._values import Reader
from .types import AugmentedValue

_LOOK_EVERY = 8  # values that an iteration takes between looks at the clock


class _Enterable(ABC):
    """What can be entered with ``async with``: one subscription, or a list of them."""

    __slots__ = ()

    _block: _Block

    @abstractmethod
    def _members(self) -> list[Subscription]: ...

    async def __aenter__(self) -> Any:
        block = _Block(self._members())
        entered = await block.enter(self)
        self._block = block  # type: ignore[misc]  # not before: a second attempt to enter fails
        return entered

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return await self._block.exit(kind, error, traceback)


class Subscription(_Enterable):
    """A monitor of one PV, as :func:`camonitor` returns it.

    It lives until `close` is called, until the block, task group or nursery that owns it ends,
    or until the run of its event loop ends.

    Attributes:
        name (str): the PV.
        state (int): ``OPENING`` until the server has been asked for updates for the first time,
            ``OPEN`` from then on, ``CLOSED`` in the end.
        callback: what is called with each update; None if they are iterated over.
        all_updates (bool): whether every update is kept.
        dropped_callbacks (int): how many updates were dropped because newer ones came before
            they could be delivered.
    """

    __module__ = "aioca"

    __slots__ = ("__weakref__", "_block", "_feed")

    OPENING, OPEN, CLOSED = range(3)

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    @property
    def name(self) -> str:
        return self._feed.name

    @property
    def callback(self) -> Callback | None:
        return self._feed.callback if isinstance(self._feed, CallbackFeed) else None

    @property
    def all_updates(self) -> bool:
        return self._feed.limit == 0

    @property
    def state(self) -> int:
        if self._feed.closed:
            return self.CLOSED
        return self.OPEN if self._feed.opened else self.OPENING

    @property
    def dropped_callbacks(self) -> int:
        return self._feed.dropped

    def __repr__(self) -> str:
        state = ("opening", "open", "closed")[self.state]
        return f"<Subscription {self.name!r} {state}>"

    def close(self) -> None:
        """End the monitor: after this no callback is called, not even for what was queued.

        A callback that is running goes on. Idempotent.
        """
        self._feed.close()

    def _members(self) -> list[Subscription]:
        return [self]

    def __aiter__(self) -> Any:
        raise TypeError(
            f"iterate over the updates of a block: async with camonitor({self.name!r}) as updates:"
            " async for value in updates: ..."
        )


class StreamFeed(Feed):
    """A subscription whose updates are iterated over."""

    __slots__ = ("stream",)

    def __init__(self, context: Context, name: str, options: Options, stream: Stream) -> None:
        super().__init__(context, name, options)
        self.stream = stream

    def ended(self) -> None:
        self.stream.feed_ended()

    def receive(self, item: Any) -> None:
        # With the reader that the item was requested with: when the type of the PV changes, the
        # updates that are queued here need not be looked for.
        stream = self.stream
        stream.queue.append((self, item, self._reader))
        if stream.waiter is not None:
            stream.waiter.wake()


class Stream:
    """The queue behind one `Updates`. All of it runs on the loop's thread.

    Attributes:
        queue: in order of arrival: the subscription, its update (None is a ticket to `Feed.take`
            what is pending), and the reader that decodes the update.
        waiter: what the one task that iterates waits with, while it waits.
    """

    def __init__(self, context: Context) -> None:
        self.queue: deque[tuple[StreamFeed, Any, Reader | None]] = deque()
        self.waiter: Waiter | None = None
        self._portal = context.portal
        self._updates: Updates | None = None
        self._open = 0  # number of subscriptions that are not closed
        self._served = 0  # number of values since the last look at the clock
        self._turn_ends = 0.0

    def open(self, subscriptions: list[Subscription]) -> Updates:
        """Start the subscriptions.

        Raises:
            RuntimeError: they were started before.
        """
        if self._updates is not None:
            raise RuntimeError("these updates are being iterated over already")
        self._updates = Updates(self, list(subscriptions))
        self._open = len(subscriptions)
        if subscriptions:
            feeds = [subscription._feed for subscription in subscriptions]
            start_all(feeds[0].context, feeds)
        return self._updates

    def feed_ended(self) -> None:
        """One of the subscriptions was closed."""
        self._open -= 1
        if self._open <= 0:
            self.queue.clear()
        if self.waiter is not None:
            self.waiter.wake()

    def take(self) -> Any:
        """The next value that has arrived, or NOTHING."""
        queue = self.queue
        while queue:
            feed, item, reader = queue.popleft()
            if not feed.closed:
                value = feed.take() if item is None else feed.value_of(item, reader)
                if value is not NOTHING:
                    return value
        return NOTHING

    def take_in_turn(self) -> Any:
        """The same; NOTHING also when `next_before` has to look at the clock."""
        if self._served >= _LOOK_EVERY:
            return NOTHING
        self._served += 1
        return self.take()

    async def next_before(self, deadline: float) -> Any:
        """The next value; NOTHING if all are closed or none has come by the deadline.

        The deadline is on the portal's clock. A value that libca's thread had queued by then
        counts, though the loop was busy.
        """
        portal = self._portal
        while True:
            if self._served >= _LOOK_EVERY:
                self._served = 0
                if portal.now() > self._turn_ends:
                    await portal.breathe()  # before a value is taken: this may be cancelled
                    self._turn_ends = portal.now() + TURN
            self._served += 1
            value = self.take()
            if value is not NOTHING or self._open <= 0:
                return value
            if self.waiter is not None:
                raise RuntimeError("another task is waiting for these updates already")
            self.waiter = portal.waiter()
            try:
                in_time = await self.waiter.wait(deadline)
            finally:
                self.waiter = None
            if not in_time:
                if deadline > -math.inf:
                    await portal.catch_up()
                return self.take()
            self._turn_ends = portal.now() + TURN


class Subscriptions(_Enterable, list[Subscription]):
    """The monitors of several PVs: a list of `Subscription` that can be entered as a block."""

    __module__ = "aioca"

    def close(self) -> None:
        """Close all of them. Idempotent."""
        for subscription in self:
            subscription.close()

    def _members(self) -> list[Subscription]:
        return self


class Updates:
    """The updates of one or more PVs, in a block: ``async for value in updates``.

    Iteration ends when all of the subscriptions are closed.

    Attributes:
        subscriptions (list[Subscription]): one for each PV.
    """

    __module__ = "aioca"

    __slots__ = ("__weakref__", "_stream", "_take", "subscriptions")

    def __init__(self, stream: Stream, subscriptions: list[Subscription]) -> None:
        self.subscriptions: list[Subscription] = subscriptions
        self._stream = stream
        self._take = stream.take_in_turn

    def __aiter__(self) -> Updates:
        return self

    async def __anext__(self) -> AugmentedValue:
        value = self._take()
        if value is NOTHING:
            value = await self._stream.next_before(math.inf)
            if value is NOTHING:
                raise StopAsyncIteration
        return value  # type: ignore[no-any-return]


def own(subscriptions: list[Subscription], lifetime: Lifetime) -> None:
    """Make a lifetime the owner of subscriptions that have a callback."""
    for subscription in subscriptions:
        subscription._feed.lifetime = lifetime  # type: ignore[attr-defined]


class _Block:
    """One ``async with`` over one or more subscriptions."""

    def __init__(self, subscriptions: list[Subscription]) -> None:
        self._subscriptions = subscriptions
        self._lifetime: BlockLifetime | None = None

    async def enter(self, whole: Any) -> Any:
        subscriptions = self._subscriptions
        streams = not subscriptions or subscriptions[0].callback is None
        if streams:  # nothing has begun; a callback's monitor has, and must get its owner first
            await current().portal.checkpoint()
        for subscription in subscriptions:
            if subscription.state == Subscription.CLOSED:
                raise RuntimeError(f"{subscription!r} cannot be entered")
            feed = subscription._feed
            if isinstance(feed, CallbackFeed) and not isinstance(feed.lifetime, LoopLifetime):
                raise RuntimeError(f"{subscription!r} has an owner already")
            if feed.context is not current():
                raise RuntimeError(f"{subscription!r} was made in another run of an event loop")
        if streams:
            first: Any = subscriptions[0]._feed if subscriptions else None
            stream = Stream(current()) if first is None else first.stream
            return stream.open(subscriptions)
        self._lifetime = lifetime = BlockLifetime(current().portal, subscriptions)
        own(subscriptions, lifetime)
        await lifetime.enter()
        return whole

    async def exit(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if self._lifetime is not None:
            return await self._lifetime.exit(kind, error, traceback)
        self._close_all()
        return False

    def _close_all(self) -> None:
        for subscription in self._subscriptions:
            subscription.close()
