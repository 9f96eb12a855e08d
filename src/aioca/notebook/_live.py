"""Iterate over the updates of a monitor, and show them in a table that changes with them."""

from __future__ import annotations

import math
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, overload

from .. import blocking
from .._api.read import caget
from .._monitors.connection import Watching
from .._monitors.handles import Subscription, Subscriptions
from .._monitors.nothing import NOTHING
from .._monitors.stream import Updates
from .._values.dbr import FORMAT_CTRL
from ..blocking._delivery import END, LATE
from ..types import AugmentedValue
from ._view import View

if TYPE_CHECKING:
    from typing_extensions import Self, TypeVar

    Value_co = TypeVar("Value_co", covariant=True, default=AugmentedValue)
    Value = TypeVar("Value")
else:  # at run time, type variables have defaults from Python 3.13 on; only checkers use them
    from typing import TypeVar

    Value_co = TypeVar("Value_co", covariant=True)
    Value = TypeVar("Value")

_REPLY_SECONDS = 1.0  # the time-out for units, precision and labels


class Live(Generic[Value_co]):
    """The updates of a monitor in an ``async with`` block, shown in a table. `live` makes one."""

    def __init__(self, subscription: Any, seconds: float) -> None:
        self._subscription = subscription
        self._seconds = seconds
        self._view: Any = None
        self._updates: Any = None

    async def __aenter__(self) -> Self:
        self._updates = await self._subscription.__aenter__()
        self._view = View(self._updates.subscriptions, self._seconds)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._view.end()
        return bool(await self._subscription.__aexit__(kind, error, traceback))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Value_co:
        view, stream = self._view, self._updates._stream
        while True:
            view.refresh()
            if view.wanted:
                view.learn(await caget(view.wanted, **_PROPERTIES))
            now = time.monotonic()
            if now >= view.ends:
                raise StopAsyncIteration
            value = await stream.next_before(stream._portal.now() + view.wake_at() - now)
            if value is not NOTHING:
                view.note(value)
                return value  # type: ignore[no-any-return]
            if stream._open <= 0:  # all of them are closed
                raise StopAsyncIteration


class BlockingLive(Generic[Value_co]):
    """The updates of a blocking monitor in a ``with`` block, shown in a table. `live` makes one."""

    def __init__(self, subscription: Any, seconds: float) -> None:
        self._subscription = subscription
        self._seconds = seconds
        self._view: Any = None
        self._updates: Any = None

    def __enter__(self) -> Self:
        self._updates = self._subscription.__enter__()
        self._view = View(self._updates.subscriptions, self._seconds)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._view.end()
        self._subscription.__exit__(kind, error, traceback)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Value_co:
        view, handover = self._view, self._updates._handover
        while handover is not None and time.monotonic() < view.ends:
            view.refresh()
            if view.wanted:
                view.learn(blocking.caget(view.wanted, **_PROPERTIES))
            found = handover.next(view.wake_at())
            if found is END:
                break
            if found is not LATE:
                view.note(found[1])
                return found[1]  # type: ignore[no-any-return]
        raise StopIteration


# One element is enough: the values of the monitor are shown
_PROPERTIES: Any = {
    "format": FORMAT_CTRL, "count": 1, "timeout": _REPLY_SECONDS, "throw": False,
}  # fmt: skip


@overload
def live(
    subscription: Subscription[Updates[Value]] | Subscriptions[Updates[Value]],
    *,
    seconds: float | None = ...,
) -> Live[Value]: ...
@overload
def live(
    subscription: blocking.Subscription[blocking.Updates[Value]]
    | blocking.Subscriptions[blocking.Updates[Value]],
    *,
    seconds: float | None = ...,
) -> BlockingLive[Value]: ...
def live(subscription: Any, *, seconds: float | None = None) -> Live[Any] | BlockingLive[Any]:
    """Iterate over the updates of a monitor, and show the last of each PV in a table.

    The table is part of the cell's output, and changes while you iterate: at most five times a
    second, and once more at the end of the block::

        async with live(camonitor(pvs)) as updates:         # with `aioca`
            async for value in updates: ...
        with live(camonitor(pvs)) as updates:               # with `aioca.blocking`
            for value in updates: ...

    The iteration gets the same values as without `live`. Units, precision and the labels of enums
    are read once for each connection, if the monitor does not bring them. A PV that is lost is
    shown as disconnected, with its last value.

    Args:
        subscription: what `aioca.camonitor` or `aioca.blocking.camonitor` has returned for one PV
            or a list of PVs, without a callback, and not yet entered.
        seconds: end the iteration after this time. By default, it goes on until you leave the loop,
            or interrupt the cell.

    Raises:
        TypeError: the argument is no such subscription.
        ValueError: ``seconds`` is not a number above 0.
        RuntimeError: this is no notebook.
    """
    of_loop = isinstance(subscription, (Subscription, Subscriptions))
    if not of_loop and not isinstance(
        subscription, (blocking.Subscription, blocking.Subscriptions)
    ):
        raise TypeError(f"live shows what camonitor returns, not {subscription!r}")
    try:
        _check(subscription, seconds)
    except BaseException:
        subscription.close()  # nobody will enter it
        raise
    duration = math.inf if seconds is None else float(seconds)
    return Live(subscription, duration) if of_loop else BlockingLive(subscription, duration)


def _check(subscription: Any, seconds: float | None) -> None:
    for member in subscription._members():
        monitor = member._monitor
        if member.callback is not None:
            raise TypeError(f"{member!r} has a callback: live shows a monitor without one")
        if isinstance(monitor, Watching):
            raise TypeError(f"{member!r} is of watch_connection: live shows those of camonitor")
    if seconds is not None and not seconds > 0:
        raise ValueError(f"seconds must be a number above 0, not {seconds!r}")
    ipython: Any = sys.modules.get("IPython")
    if not hasattr(ipython and ipython.get_ipython(), "kernel"):
        raise RuntimeError(
            "live needs a notebook of Jupyter; in a terminal, the command `aioca watch PV...` shows"
            " PVs live"
        )
