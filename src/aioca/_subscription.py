"""camonitor, the four forms: Subscription, Subscriptions, Updates, wait_for_value."""

from __future__ import annotations

import contextvars
import inspect
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, TypeVar, overload

import numpy as np

from . import _libca
from ._context import Context, current
from ._dbr import DBR_ENUM_STR, FORMAT_RAW
from ._environment import searched
from ._errors import Failure, error_for
from ._lifetime import BlockLifetime, GroupLifetime, Lifetime, LoopLifetime
from ._monitor import NOTHING, Feed, Options, check_options
from ._operations import check_count, check_format, deadline_of
from ._portal import Waiter
from .types import AugmentedValue, Count, Datatype, Dbe, Format, Timeout

_BATCH = 64  # updates delivered before others get their turn

Callback = Callable[..., Any]


class Subscription:
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
        self._run = contextvars.copy_context().run
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

    # -- async with ----------------------------------------------------------------------------------

    async def __aenter__(self) -> Any:
        self._block = _Block([self])
        return await self._block.enter(self)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return await self._block.exit(kind, error, traceback)

    def __aiter__(self) -> Any:
        raise TypeError(
            f"iterate over the updates of a block: async with camonitor({self.name!r}) as updates:"
            " async for value in updates: ..."
        )

    # -- Delivery, on the loop -------------------------------------------------------------------------

    def feed_closed(self) -> None:
        self._lifetime.closed()

    def deliver(self) -> None:
        """Call the callback for what is pending; portal job."""
        self.scheduled = False
        if self._busy:  # _pump goes on with it
            return
        feed = self._feed
        for _ in range(_BATCH):
            value = feed.take()
            if value is NOTHING or feed.closed:
                return
            awaitable = self._call(value)
            if awaitable is not None:
                self._busy = True
                self._run(self._lifetime.spawn, self._pump, awaitable)
                return
        self._again()

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
        except (KeyboardInterrupt, SystemExit):
            self.close()
            raise
        except BaseException as error:
            self._fail(error)
        return None

    async def _pump(self, awaitable: Awaitable[object]) -> None:
        """Await what a callback returned, and go on as long as they return such."""
        feed = self._feed
        try:
            while True:
                await awaitable
                value = NOTHING if feed.closed else feed.take()
                if value is NOTHING:
                    break
                following = self._call(value)
                if following is None:
                    break
                awaitable = following
        except Exception as error:
            self._fail(error)
        finally:
            self._busy = False
            if not feed.closed:
                self._again()

    def _fail(self, error: BaseException) -> None:
        self.close()
        self._lifetime.failed(self.name, error)


class Subscriptions(list[Subscription]):
    """The monitors of several PVs: a list of `Subscription` that can be entered as a block."""

    __module__ = "aioca"

    def close(self) -> None:
        """Close all of them. Idempotent."""
        for subscription in self:
            subscription.close()

    async def __aenter__(self) -> Any:
        self._block = _Block(self)
        return await self._block.enter(self)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return await self._block.exit(kind, error, traceback)


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
            value = self._take()
            if value is not NOTHING:
                self._served += 1
                if self._served % _BATCH == 0:  # a flood must not starve the other tasks
                    await self._portal.breathe()
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
        if not subscriptions or subscriptions[0].callback is None:
            return self._open_stream()
        self._lifetime = lifetime = BlockLifetime(subscriptions)
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


# -- camonitor -----------------------------------------------------------------------------------------


@overload
def camonitor(
    pv: str,
    callback: Callback | None = None,
    events: Dbe = None,
    datatype: Datatype = None,
    format: Format = FORMAT_RAW,
    count: Count = 0,
    all_updates: bool = False,
    notify_disconnect: bool = False,
    connect_timeout: Timeout = None,
    *,
    task_group: Any = None,
    max_pending: int | None = None,
) -> Subscription: ...
@overload
def camonitor(
    pv: Iterable[str],
    callback: Callback | None = None,
    events: Dbe = None,
    datatype: Datatype = None,
    format: Format = FORMAT_RAW,
    count: Count = 0,
    all_updates: bool = False,
    notify_disconnect: bool = False,
    connect_timeout: Timeout = None,
    *,
    task_group: Any = None,
    max_pending: int | None = None,
) -> Subscriptions: ...
def camonitor(
    pv: str | Iterable[str],
    callback: Callback | None = None,
    events: Dbe = None,
    datatype: Datatype = None,
    format: Format = FORMAT_RAW,
    count: Count = 0,
    all_updates: bool = False,
    notify_disconnect: bool = False,
    connect_timeout: Timeout = None,
    *,
    task_group: Any = None,
    max_pending: int | None = None,
) -> Subscription | Subscriptions:
    """Monitor one PV, or several.

    It returns at once, and can be called from any code that runs on the event loop's thread.
    Its lifetime has four forms::

        async with camonitor(pv) as updates:        # the block
            async for value in updates: ...
        async with camonitor(pv, callback): ...     # the block; an error in the callback ends it
        camonitor(pv, callback, task_group=tg)      # the task group; likewise
        camonitor(pv, callback)                     # until close(), or the loop's run ends

    Args:
        pv: the PV, or a list of PVs.
        callback: called with each `aioca.types.AugmentedValue`, and for a list of PVs with
            ``(value, index)``. A function, an async function, or a function that returns something
            to be awaited; the next update is delivered when that is done. Without a
            callback nothing happens until the subscription is entered with ``async with``.
        events: which events to ask for; see `aioca.types.Dbe`.
        datatype: the type to read as; see `aioca.types.Datatype`.
        format: what comes with the value; see `aioca.types.Format`.
        count: how many elements; see `aioca.types.Count`.
        all_updates: keep every update until it is delivered. The default keeps the latest only,
            and counts the rest in `Subscription.dropped_callbacks`.
        notify_disconnect: deliver a falsy `CANothing` (ECA_DISCONN) when the PV disconnects, and
            one with its status for any other failure; else those go to the log.
        connect_timeout: deliver one (ECA_TIMEOUT) if the PV is not connected in time; see
            `aioca.types.Timeout`. The monitor goes on waiting.
        task_group: an anyio ``TaskGroup``, a ``trio.Nursery`` or an ``asyncio.TaskGroup`` to
            own the monitor: it ends with the group, and an error in the callback is raised there.
        max_pending: keep the newest n updates until they are delivered, and count the rest.

    Returns:
        Subscription: for a list of PVs a list of them, which can be entered like one.

    Raises:
        CAValueError: the name of a PV cannot be searched for.
        TypeError, ValueError: an argument is none that could be used.
        RuntimeError: no event loop is running in this thread.
    """
    check_format(format)
    check_count(count)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable, not {callback!r}")
    if task_group is not None and callback is None:
        raise ValueError("a monitor in a task group needs a callback")
    context = current()
    options = check_options(
        datatype, format, count, events, all_updates, max_pending, notify_disconnect,
        _seconds(connect_timeout, context),
    )  # fmt: skip
    stream = Updates(context) if callback is None else None
    single = isinstance(pv, str)
    if not single and not isinstance(pv, Iterable):
        raise TypeError(f"a PV must be a str or a list of them, not {pv!r}")
    subscriptions = Subscriptions(
        Subscription(context, name, callback, options, stream, None if single else index)
        for index, name in enumerate([pv] if single else pv)
    )
    if callback is not None:
        if task_group is not None:
            lifetime = GroupLifetime(context.portal, subscriptions)
            for subscription in subscriptions:
                subscription._lifetime = lifetime
            context.portal.spawn_in(task_group, lifetime.live)
        for subscription in subscriptions:
            subscription._feed.start()
    return subscriptions[0] if single else subscriptions


def _seconds(timeout: Timeout, context: Context) -> float | None:
    if timeout is None:
        return None
    return max(0.0, deadline_of(timeout, context.portal) - context.portal.now())


# -- wait_for_value ------------------------------------------------------------------------------------


async def wait_for_value(
    pv: str,
    match: Any,
    timeout: Timeout = None,
    *,
    events: Dbe = None,
    datatype: Datatype = None,
    format: Format = FORMAT_RAW,
    count: Count = 0,
    all_updates: bool = True,
    max_pending: int | None = None,
) -> AugmentedValue:
    """Wait until a PV has a value.

    Args:
        pv: the PV.
        match: the value to wait for, or a function that is given each update and says whether it
            is the one. A str is compared with the label of an enum, unless ``datatype`` is given.
        timeout: seconds for the whole call; see `aioca.types.Timeout`.
        events, datatype, format, count, all_updates, max_pending: as for `camonitor`, but
            every update is looked at unless ``all_updates`` is false.

    Returns:
        `aioca.types.AugmentedValue`: the first update that matched; the present value may.

    Raises:
        CATimeout: none did by the deadline; the message has the last value.
        CADisconnected: the subscription was closed by this program meanwhile.
        TypeError, ValueError: an argument is none that could be used.
    """
    if not isinstance(pv, str):
        raise TypeError(f"wait_for_value takes one PV, a str, not {pv!r}")
    if isinstance(match, str) and datatype is None:
        datatype = DBR_ENUM_STR
    context = current()
    deadline = deadline_of(timeout, context.portal)
    seen: Any = NOTHING
    monitor = camonitor(
        pv, events=events, datatype=datatype, format=format, count=count,
        all_updates=all_updates and max_pending is None, max_pending=max_pending,
    )  # fmt: skip
    async with monitor as updates:
        while True:
            value = await updates._next(deadline)
            if value is NOTHING:
                break
            if _matches(value, match):
                return value  # type: ignore[no-any-return]
            seen = value
        closed = monitor.state == Subscription.CLOSED
        connected = monitor.state == Subscription.OPEN
    if closed:
        failure = Failure(pv, _libca.ECA_DISCONN, "waiting for a value: closed meanwhile")
    elif seen is not NOTHING:
        detail = f"waiting for a value that matches {match!r}: the last one was {+seen!r}"
        failure = Failure(pv, _libca.ECA_TIMEOUT, detail)
    elif connected:
        detail = "waiting for a value: connected, but no update has come"
        failure = Failure(pv, _libca.ECA_TIMEOUT, detail)
    else:
        detail = f"connecting: no server has answered for this name; searched {searched()}"
        failure = Failure(pv, _libca.ECA_TIMEOUT, detail)
    raise error_for([failure])


def _matches(value: Any, match: Any) -> bool:
    if callable(match):
        return bool(match(value))
    if isinstance(value, np.ndarray):
        return np.array_equal(value, match)
    return bool(value == match)
