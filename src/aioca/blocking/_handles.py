"""Subscriptions of the blocking camonitor, and the updates in their ``with`` block.

Everything here may be called on any thread but that of the loop.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic

from .._monitors.start import start_all
from ..types import AugmentedValue
from ._call import Call
from ._callbacks import callbacks_of
from ._delivery import END, HandedMonitor, Handover
from ._loop_thread import LoopThread

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    Entered = TypeVar("Entered", default=Any)  # the type that entering the block returns
    Entered_co = TypeVar("Entered_co", covariant=True, default=Any)
    Value_co = TypeVar("Value_co", covariant=True, default=AugmentedValue)
else:  # at run time, type variables have defaults from Python 3.13 on; only checkers use them
    from typing import TypeVar

    Entered = TypeVar("Entered")
    Entered_co = TypeVar("Entered_co", covariant=True)
    Value_co = TypeVar("Value_co", covariant=True)


class _Enterable(ABC, Generic[Entered_co]):
    """The base of one subscription and of a list of them: a ``with`` block."""

    __slots__ = ()

    @abstractmethod
    def _members(self) -> Sequence[Subscription[Any]]: ...

    def __enter__(self) -> Entered_co:
        members = self._members()
        _check_entry(members)
        if not members:
            return Updates(None, ())  # type: ignore[return-value]
        home, group = members[0]._home, members[0]._monitor.group
        group.entered = True
        if group.variables is not None:
            callbacks_of(home).own(members)
            return self  # type: ignore[return-value]
        group.cancel_warning()  # no warning: if entering fails, it raises
        group.handover.count(len(members))
        start(home, members)
        return Updates(group.handover, members)  # type: ignore[return-value]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        members = self._members()
        if not members:
            return
        home, group = members[0]._home, members[0]._monitor.group
        try:
            for member in members:
                member.close()
            if group.block is not None:
                callbacks_of(home).wait_for(group)
        finally:
            if group.block is not None:
                group.block.exit(members[0].name, error)


class Subscription(_Enterable[Entered_co]):
    """A monitor of one PV, as :func:`camonitor` returns it.

    The monitor lasts until `close` is called, until its block ends, or until the program ends. All
    of it can be used from several threads.

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

    __slots__ = ("__weakref__", "_home", "_monitor")

    OPENING, OPEN, CLOSED = range(3)

    def __init__(self, home: LoopThread, monitor: HandedMonitor) -> None:
        self._home = home
        self._monitor = monitor

    @property
    def name(self) -> str:
        return self._monitor.name

    @property
    def callback(self) -> Callable[..., Any] | None:
        return self._monitor.callback

    @callback.setter
    def callback(self, callback: Callable[..., Any]) -> None:
        if self._monitor.callback is None:
            raise TypeError(
                f"{self!r} has no callback to replace: its updates are iterated over. To have a"
                " callback, pass one to camonitor"
            )
        if not callable(callback):
            raise TypeError(f"{self.name}: callback must be callable, not {callback!r}")
        self._monitor.target = callback, None

    @property
    def all_updates(self) -> bool:
        return self._monitor.limit == 0

    @property
    def state(self) -> int:
        if self._monitor.closed or self._monitor.shut:
            return self.CLOSED
        return self.OPEN if self._monitor.opened else self.OPENING

    @property
    def dropped_callbacks(self) -> int:
        return self._monitor.dropped

    def __repr__(self) -> str:
        state = ("opening", "open", "closed")[self.state]
        return f"<Subscription {self.name!r} {state}>"

    def close(self) -> None:
        """End the monitor. After this no callback begins, not even for updates that have come.

        A callback that is running continues, and is not waited for. Closing again does nothing.
        """
        with self._home.mutex:
            was, self._monitor.shut = self._monitor.shut, True
        if not was:
            self._home.post_close(self._monitor)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the monitor is closed, for example by its callback.

        Args:
            timeout: seconds; None waits without limit.

        Returns:
            Whether it was closed in time.

        Raises:
            BaseException: the error of the callback, if this closed the monitor.
        """
        call, home = Call(), self._home
        seconds = -1.0 if timeout is None else max(0.0, timeout)
        in_time = home.wait(call, partial(self._monitor.await_end, call), seconds)
        if in_time and self._monitor.error is not None:
            raise self._monitor.error
        return in_time

    def _members(self) -> Sequence[Subscription[Any]]:
        return (self,)

    def __iter__(self) -> Any:
        raise TypeError(
            f"a subscription is not iterable; enter its block: with camonitor({self.name!r}) as"
            " updates: for value in updates: ..."
        )


class Subscriptions(_Enterable[Entered], list[Subscription[Entered]]):
    """The monitors of several PVs: a list of `Subscription` that can be entered as a block.

    To type checkers, ``Subscriptions[Updates]`` have no callback.
    """

    def close(self) -> None:
        """Close all subscriptions. Closing again does nothing."""
        for subscription in self:
            subscription.close()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all of them are closed; see `Subscription.wait`."""
        ends = None if timeout is None else time.monotonic() + timeout
        left = None
        for subscription in self:
            if ends is not None:
                left = ends - time.monotonic()
            if not subscription.wait(left):
                return False
        return True

    def _members(self) -> Sequence[Subscription[Any]]:
        return self


class Updates(Generic[Value_co]):
    """The updates of one or more PVs, in a block: ``for value in updates``.

    The iteration ends when all subscriptions are closed. Several threads may iterate: each update
    goes to one of them.

    Attributes:
        subscriptions (list[Subscription]): one for each PV.
    """

    __slots__ = ("__weakref__", "_handover", "subscriptions")

    def __init__(self, handover: Handover | None, members: Sequence[Subscription[Any]]) -> None:
        self.subscriptions: list[Subscription[Any]] = list(members)
        self._handover = handover

    def __iter__(self) -> Updates[Value_co]:
        return self

    def __next__(self) -> Value_co:
        found = END if self._handover is None else self._handover.next()
        if found is END:
            raise StopIteration
        return found[1]  # type: ignore[no-any-return]


def start(home: LoopThread, subscriptions: Sequence[Subscription[Any]]) -> None:
    """Start the monitors of one call; close them if this fails or is interrupted."""
    monitors = [subscription._monitor for subscription in subscriptions]
    try:
        home.call_sync(partial(start_all, home.context, monitors))
    except BaseException:
        for subscription in subscriptions:
            subscription.close()
        raise


def _check_entry(members: Sequence[Subscription[Any]]) -> None:
    """Raise RuntimeError if the block cannot be entered."""
    for member in members:
        if member._monitor.group.entered:
            raise RuntimeError(f"{member!r} cannot be entered: its block was entered before")
        if member.state == Subscription.CLOSED and member._monitor.error is None:
            raise RuntimeError(f"{member!r} cannot be entered: it is closed")
