"""Subscriptions, which `camonitor` returns: the public handles of monitors.

- A subscription, or a list of them, can be entered once as an ``async with`` block.
- ``close`` is idempotent. All of this runs on the loop's thread.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, cast

from .._channels.registry import current
from .callbacks import Callback, CallbackMonitor
from .monitor import Monitor
from .owners import BlockOwner, LoopOwner, Owner
from .stream import Stream, StreamMonitor

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    Entered = TypeVar("Entered", default=Any)  # the type that entering the block returns
    Entered_co = TypeVar("Entered_co", covariant=True, default=Any)
else:  # at run time, type variables have defaults from Python 3.13 on; only checkers use them
    from typing import TypeVar

    Entered = TypeVar("Entered")
    Entered_co = TypeVar("Entered_co", covariant=True)


class _Enterable(ABC, Generic[Entered_co]):
    """The base of one subscription and of a list of them: an ``async with`` block."""

    __slots__ = ()

    _block: _Block

    @abstractmethod
    def _members(self) -> list[Subscription]: ...

    async def __aenter__(self) -> Entered_co:
        block = _Block(self._members())
        entered = await block.enter(self)
        self._block = block  # type: ignore[misc]  # last: a second attempt to enter raises
        return entered  # type: ignore[no-any-return]

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return await self._block.exit(kind, error, traceback)


class Subscription(_Enterable[Entered_co]):
    """A monitor of one PV, as :func:`camonitor` returns it.

    The monitor lasts until `close` is called, until the block, task group or nursery that owns it
    ends, or until the run of its event loop ends.

    To type checkers, ``Subscription[Updates]`` is a subscription without a callback: entering its
    block returns `Updates`.

    Attributes:
        name (str): the PV.
        state (int): ``OPENING`` until the server has been asked for updates for the first time,
            ``OPEN`` from then on, ``CLOSED`` after its end.
        callback: the function that is called with each update; None if updates are iterated over.
            Another callback can be assigned: it is called from the next update on, with the value
            alone.
        all_updates (bool): whether every update is kept until it is delivered.
        dropped_callbacks (int): the number of updates that were dropped because newer ones came
            before they could be delivered.
    """

    __slots__ = ("__weakref__", "_block", "_monitor")

    OPENING, OPEN, CLOSED = range(3)

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    @property
    def name(self) -> str:
        return self._monitor.name

    @property
    def callback(self) -> Callback | None:
        return (
            self._monitor.called_with_value if isinstance(self._monitor, CallbackMonitor) else None
        )

    @callback.setter
    def callback(self, callback: Callback) -> None:
        if not isinstance(self._monitor, CallbackMonitor):
            raise TypeError(
                f"{self!r} has no callback to replace: its updates are iterated over. To have a"
                " callback, pass one to camonitor"
            )
        if not callable(callback):
            raise TypeError(f"{self.name}: callback must be callable, not {callback!r}")
        self._monitor.called_with_value = callback

    @property
    def all_updates(self) -> bool:
        return self._monitor.limit == 0

    @property
    def state(self) -> int:
        if self._monitor.closed:
            return self.CLOSED
        return self.OPEN if self._monitor.opened else self.OPENING

    @property
    def dropped_callbacks(self) -> int:
        return self._monitor.dropped

    def __repr__(self) -> str:
        state = ("opening", "open", "closed")[self.state]
        return f"<Subscription {self.name!r} {state}>"

    def close(self) -> None:
        """End the monitor. After this its callback is not called, not even for queued updates.

        A callback that is running continues. Closing again does nothing.
        """
        self._monitor.close()

    def _members(self) -> list[Subscription]:
        return [self]

    def __aiter__(self) -> Any:
        raise TypeError(
            f"a subscription is not iterable; enter its block: async with camonitor({self.name!r})"
            " as updates: async for value in updates: ..."
        )


class Subscriptions(_Enterable[Entered], list[Subscription[Entered]]):
    """The monitors of several PVs: a list of `Subscription` that can be entered as a block.

    To type checkers, ``Subscriptions[Updates]`` have no callback.
    """

    def close(self) -> None:
        """Close all subscriptions. Closing again does nothing."""
        for subscription in self:
            subscription.close()

    def _members(self) -> list[Subscription]:
        return self


def own(subscriptions: list[Subscription], owner: Owner) -> None:
    """Set the owner of subscriptions that have a callback."""
    for subscription in subscriptions:
        subscription._monitor.owner = owner  # type: ignore[attr-defined]


def expect_entry(subscriptions: list[Subscription]) -> None:
    """Warn if the block of these subscriptions, which have no callback, is never entered."""
    if subscriptions:
        stream = cast(StreamMonitor, subscriptions[0]._monitor).stream
        stream.unentered = [subscription.name for subscription in subscriptions]


class _Block:
    """One ``async with`` over one or more subscriptions."""

    def __init__(self, subscriptions: list[Subscription]) -> None:
        self._subscriptions = subscriptions
        self._owner: BlockOwner | None = None

    def __repr__(self) -> str:
        return f"<_Block {len(self._subscriptions)} subscriptions>"

    async def enter(self, whole: Any) -> Any:
        subscriptions = self._subscriptions
        streams = [
            s._monitor.stream for s in subscriptions if isinstance(s._monitor, StreamMonitor)
        ]
        for stream in streams:
            stream.cancel_warning()  # no warning: if entering fails, it raises
        if streams or not subscriptions:
            # No monitor has started. Monitors with a callback have: they must get their owner
            # first, before other tasks run.
            await current().portal.checkpoint()
        for subscription in subscriptions:
            if subscription.state == Subscription.CLOSED:
                raise RuntimeError(f"{subscription!r} cannot be entered: it is closed")
            monitor = subscription._monitor
            if isinstance(monitor, CallbackMonitor) and not isinstance(monitor.owner, LoopOwner):
                raise RuntimeError(f"{subscription!r} already has an owner")
            if monitor.context is not current():
                raise RuntimeError(f"{subscription!r} was created in another run of an event loop")
        if streams or not subscriptions:
            stream = streams[0] if streams else Stream(current())
            return stream.open(subscriptions)
        self._owner = owner = BlockOwner(current().portal, subscriptions)
        own(subscriptions, owner)
        await owner.enter()
        return whole

    async def exit(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if self._owner is not None:
            return await self._owner.exit(kind, error, traceback)
        self._close_all()
        return False

    def _close_all(self) -> None:
        for subscription in self._subscriptions:
            subscription.close()
