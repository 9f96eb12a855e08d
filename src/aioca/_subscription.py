"""What camonitor returns: subscriptions, and the updates of a block."""

from __future__ import annotations

import contextvars
import inspect
import logging
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

from ._context import Context, current
from ._lifetime import BlockLifetime, Lifetime, LoopLifetime
from ._monitor import NOTHING, Feed, Options
from ._portal import Waiter
from .types import AugmentedValue

logger = logging.getLogger("aioca")

_BATCH = 64  # updates delivered before others get their turn

Callback = Callable[..., Any]


class _Enterable(ABC):
    """What can be entered with ``async with``: one subscription, or a list of them."""

    @abstractmethod
    def _members(self) -> list[Subscription]: ...

    async def __aenter__(self) -> Any:
        block = _Block(self._members())
        entered = await block.enter(self)
        self._block = block  # not before: a second attempt to enter fails
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

    OPENING, OPEN, CLOSED = range(3)

    # As a sink of one feed
    order: deque[Feed] | None = None

    def __init__(
        self,
        context: Context,
        name: str,
        callback: Callback | None,
        options: Options,
        sink: Updates | None,
        index: int | None,
    ) -> None:
        self.callback = callback
        self.all_updates = options.limit == 0
        self.scheduled = False
        self._lifetime: Lifetime = LoopLifetime(context.portal)
        self._portal = context.portal
        self._arguments = () if index is None else (index,)
        self._variables = contextvars.copy_context()
        self._run = self._variables.run
        self._busy = False  # what a callback returned is being awaited
        self._feed = Feed(context, name, options, sink or self)

    @property
    def name(self) -> str:
        return self._feed.name

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

    # -- Delivery, on the loop ---------------------------------------------------------------------

    def feed_closed(self) -> None:
        self._lifetime.closed()

    def deliver(self) -> None:
        """Call the callback for what is pending; portal job."""
        self.scheduled = False
        if self._busy:  # _pump goes on with it
            return
        feed = self._feed
        pending = feed.pending
        left = _BATCH
        while pending:
            value = feed.take()
            if value is NOTHING or feed.closed:
                return
            awaitable = self._call(value)
            if awaitable is not None:
                self._busy = True
                try:
                    self._lifetime.spawn(self._pump, awaitable, self._variables)
                except Exception as error:
                    self._busy = False
                    self._fail(error)
                return
            left -= 1
            if not left:
                self._again()
                return

    def _again(self) -> None:
        if not self.scheduled:
            self.scheduled = True
            self._portal.post(self.deliver)

    def _call(self, value: Any) -> Awaitable[object] | None:
        """Call the callback; what it returned, if that is to be awaited."""
        try:
            result = self._run(self.callback, value, *self._arguments)  # type: ignore[arg-type]
            if result is not None and inspect.isawaitable(result):
                return result
        except BaseException as error:
            self._fail(error)
        return None

    async def _pump(self, awaitable: Awaitable[object]) -> None:
        """Await what a callback returned, and go on as long as they return such."""
        feed = self._feed
        served = 0
        try:
            while True:
                await awaitable
                served += 1
                if served % _BATCH == 0:  # the callback need not have suspended
                    await self._portal.breathe()
                value = NOTHING if feed.closed else feed.take()
                if value is NOTHING:
                    break
                following = self._call(value)
                if following is None:
                    break
                awaitable = following
        except Exception as error:
            self._fail(error)
        except BaseException:
            # Cancelled: by its owner, or with everything at the end of the run, or from within. The
            # next update must not start it again.
            if not feed.closed:
                logger.info("%s: the callback was cancelled; its monitor is closed", self.name)
                self.close()
            raise
        finally:
            self._busy = False
            if not feed.closed:
                self._again()

    def _fail(self, error: BaseException) -> None:
        self.close()
        self._lifetime.failed(self.name, error)


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
        self.scheduled = False
        self.order: deque[Feed] | None = deque()
        self._portal = context.portal
        self._waiter: Waiter | None = None
        self._served = 0

    def __aiter__(self) -> Updates:
        return self

    async def __anext__(self) -> AugmentedValue:
        value = await self._next(math.inf)
        if value is NOTHING:
            raise StopAsyncIteration
        return value  # type: ignore[no-any-return]

    async def _next(self, deadline: float) -> Any:
        """The next value; NOTHING if all is closed or the deadline has come."""
        while True:
            if self._served >= _BATCH:  # a flood must not starve the other tasks
                self._served = 0
                await self._portal.breathe()  # before a value is taken: this may be cancelled
            value = self._take()
            if value is not NOTHING:
                self._served += 1
                return value
            if all(s.state == Subscription.CLOSED for s in self.subscriptions):
                return NOTHING
            if self._waiter is not None:
                raise RuntimeError("another task is waiting for these updates already")
            self._waiter = self._portal.waiter()
            try:
                if not await self._waiter.wait(deadline):
                    return NOTHING
            finally:
                self._waiter = None

    def _take(self) -> Any:
        order = self.order
        while order:
            value = order.popleft().take()
            if value is not NOTHING:
                return value
        return NOTHING

    def deliver(self) -> None:
        """There is something to take; portal job."""
        self.scheduled = False
        if self._waiter is not None:
            self._waiter.wake()

    def feed_closed(self) -> None:
        if self._waiter is not None:
            self._waiter.wake()


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
            if not isinstance(subscription._lifetime, LoopLifetime):
                raise RuntimeError(f"{subscription!r} has an owner already")
            if subscription._feed.context is not current():
                raise RuntimeError(f"{subscription!r} was made in another run of an event loop")
        if not subscriptions or subscriptions[0].callback is None:
            return self._open_stream()
        self._lifetime = lifetime = BlockLifetime(current().portal, subscriptions)
        for subscription in subscriptions:
            subscription._lifetime = lifetime
        await lifetime.enter()
        return whole

    def _open_stream(self) -> Updates:
        sinks = [subscription._feed._sink for subscription in self._subscriptions]
        updates = sinks[0] if sinks else Updates(current())
        assert isinstance(updates, Updates)
        if updates.subscriptions:
            raise RuntimeError("these updates are being iterated over already")
        updates.subscriptions = list(self._subscriptions)
        for subscription in self._subscriptions:
            subscription._feed.start()
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
