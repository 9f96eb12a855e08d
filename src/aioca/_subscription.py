"""What camonitor returns: subscriptions, and the updates of a block."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from types import TracebackType
from typing import Any

from ._context import Context, current
from ._delivery import BATCH, Callback, CallbackFeed
from ._lifetime import BlockLifetime, Lifetime, LoopLifetime
from ._monitor import NOTHING, Feed, start_all
from ._options import Options
from ._portal import Waiter
from .types import AugmentedValue


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

    __slots__ = ("updates",)

    def __init__(self, context: Context, name: str, options: Options, updates: Updates) -> None:
        super().__init__(context, name, options)
        self.updates = updates

    def ended(self) -> None:
        self.updates.wake()

    def receive(self, item: Any) -> None:
        updates = self.updates
        updates.order.append((self, item))
        if updates.waiter is not None:
            updates.waiter.wake()

    def _decode_pending(self) -> None:
        super()._decode_pending()
        order = self.updates.order
        for place, (feed, item) in enumerate(order):
            if feed is self and item is not None:
                order[place] = feed, self.value_of(item)


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

    def __init__(self, context: Context) -> None:
        self.subscriptions: list[Subscription] = []
        # On the loop: whose turn it is, and the update, or None if it is still to be taken
        self.order: deque[tuple[StreamFeed, Any]] = deque()
        self.waiter: Waiter | None = None
        self._portal = context.portal
        self._served = 0

    def __aiter__(self) -> Updates:
        return self

    async def __anext__(self) -> AugmentedValue:
        # As next_before(math.inf), without a second coroutine where there is no need to wait
        if self._served < BATCH:
            value = self._take()
            if value is not NOTHING:
                self._served += 1
                return value  # type: ignore[no-any-return]
        value = await self.next_before(math.inf)
        if value is NOTHING:
            raise StopAsyncIteration
        return value  # type: ignore[no-any-return]

    async def next_before(self, deadline: float) -> Any:
        """The next value; NOTHING if all is closed or the deadline has come."""
        while True:
            if self._served >= BATCH:  # a flood must not starve the other tasks
                self._served = 0
                await self._portal.breathe()  # before a value is taken: this may be cancelled
            value = self._take()
            if value is not NOTHING:
                self._served += 1
                return value
            if all(s.state == Subscription.CLOSED for s in self.subscriptions):
                return NOTHING
            if self.waiter is not None:
                raise RuntimeError("another task is waiting for these updates already")
            self.waiter = self._portal.waiter()
            try:
                if not await self.waiter.wait(deadline):
                    return NOTHING
            finally:
                self.waiter = None

    def _take(self) -> Any:
        order = self.order
        while order:
            feed, item = order.popleft()
            if not feed.closed:
                value = feed.take() if item is None else feed.value_of(item)
                if value is not NOTHING:
                    return value
        return NOTHING

    def wake(self) -> None:
        """There is something to take, or nothing any more."""
        if self.waiter is not None:
            self.waiter.wake()


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
        for subscription in subscriptions:
            if subscription.state == Subscription.CLOSED:
                raise RuntimeError(f"{subscription!r} cannot be entered")
            feed = subscription._feed
            if isinstance(feed, CallbackFeed) and not isinstance(feed.lifetime, LoopLifetime):
                raise RuntimeError(f"{subscription!r} has an owner already")
            if feed.context is not current():
                raise RuntimeError(f"{subscription!r} was made in another run of an event loop")
        if not subscriptions or subscriptions[0].callback is None:
            return self._open_stream()
        self._lifetime = lifetime = BlockLifetime(current().portal, subscriptions)
        own(subscriptions, lifetime)
        await lifetime.enter()
        return whole

    def _open_stream(self) -> Updates:
        feeds = [subscription._feed for subscription in self._subscriptions]
        updates = feeds[0].updates if feeds else Updates(current())  # type: ignore[attr-defined]
        assert isinstance(updates, Updates)
        if updates.subscriptions:
            raise RuntimeError("these updates are being iterated over already")
        updates.subscriptions = list(self._subscriptions)
        if feeds:
            start_all(feeds[0].context, feeds)
        return updates

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
