"""Monitors without a callback: ``async for value in updates`` in a block.

- The monitors of one block share a `Stream`, which queues their updates in order of arrival.
- One task at a time may wait for a stream. All of this runs on the loop's thread.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic

from .._channels.context import LoopContext
from .._portal.interface import TURN_SECONDS, Waiter
from .._values.classes import Reader
from ..types import AugmentedValue
from .monitor import Monitor
from .nothing import NOTHING
from .options import Options
from .start import start_all
from .unentered import Unentered

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from .handles import Subscription

    Value_co = TypeVar("Value_co", covariant=True, default=AugmentedValue)
else:  # at run time, type variables have defaults from Python 3.13 on; only checkers use them
    from typing import TypeVar

    Value_co = TypeVar("Value_co", covariant=True)

# Values that an iteration takes between two checks of the clock. Trick ``stream_clock`` of the
# benchmark: row iterate_10k
_VALUES_PER_CLOCK_CHECK = 8


class StreamMonitor(Monitor):
    """A monitor whose updates are iterated over."""

    __slots__ = ("stream",)

    def __init__(self, context: LoopContext, name: str, options: Options, stream: Stream) -> None:
        super().__init__(context, name, options)
        self.stream = stream

    def on_closed(self) -> None:
        self.stream.monitor_closed()

    def receive(self, item: Any) -> None:
        # Queue the reader too: when the type of the PV changes, updates in this queue are still
        # decoded with the reader with which they were requested.
        stream = self.stream
        try:
            stream.queue.append((self, item, self._reader))
        finally:  # also if Ctrl-C was raised: the task must not wait for ever
            if stream.waiter is not None:
                stream.waiter.wake()


class Stream(Unentered):
    """The queue of one `Updates`. All of it runs on the loop's thread.

    Attributes:
        queue: in order of arrival: the monitor, its update (None means: call `Monitor.take`), and
            the reader that decodes the update.
        waiter: the waiter of the task that iterates, while it waits.
    """

    def __init__(self, context: LoopContext) -> None:
        super().__init__()
        self.queue: deque[tuple[StreamMonitor, Any, Reader | None]] = deque()
        self.waiter: Waiter | None = None
        self._portal = context.portal
        self._opened = False
        self._open = 0  # number of monitors that are not closed
        self._served = 0  # number of values since the last check of the clock
        self._turn_ends = 0.0

    def __repr__(self) -> str:
        return f"<Stream {len(self.queue)} queued, {self._open} open>"

    def open(self, subscriptions: Sequence[Any]) -> Updates:
        """Start the monitors of the subscriptions.

        Raises:
            RuntimeError: they were started before.
        """
        if self._opened:
            raise RuntimeError("the block of these monitors has been entered before")
        self._opened = True
        self._open = len(subscriptions)
        if subscriptions:
            monitors = [subscription._monitor for subscription in subscriptions]
            start_all(monitors[0].context, monitors)
        return Updates(self, list(subscriptions))

    def monitor_closed(self) -> None:
        """Count a closed monitor; wake the task that iterates."""
        self.cancel_warning()
        self._open -= 1
        if self._open <= 0:
            self.queue.clear()
        if self.waiter is not None:
            self.waiter.wake()

    def take(self) -> Any:
        """Return the next value that has arrived, or NOTHING."""
        queue = self.queue
        while queue:
            monitor, item, reader = queue.popleft()
            if not monitor.closed:
                value = monitor.take() if item is None else monitor.value_of(item, reader)
                if value is not NOTHING:
                    return value
        return NOTHING

    def take_in_turn(self) -> Any:
        """Like `take`; returns NOTHING also when `next_before` has to check the clock."""
        if self._served >= _VALUES_PER_CLOCK_CHECK:
            return NOTHING
        self._served += 1
        return self.take()

    async def next_before(self, deadline: float) -> Any:
        """Wait for the next value; NOTHING if all are closed or none has come by the deadline.

        The deadline is on the portal's clock. A value that libca's thread had queued by the
        deadline counts, even if the loop was busy at that time.

        Raises:
            RuntimeError: another task is waiting.
        """
        portal = self._portal
        while True:
            if self._served >= _VALUES_PER_CLOCK_CHECK:
                self._served = 0
                if portal.now() > self._turn_ends:
                    await portal.yield_turn()  # may be cancelled: so before a value is taken
                    self._turn_ends = portal.now() + TURN_SECONDS
            self._served += 1
            value = self.take()
            if value is not NOTHING or self._open <= 0:
                return value
            if self.waiter is not None:
                raise RuntimeError("another task is already waiting for these updates")
            self.waiter = portal.waiter()
            try:
                in_time = await self.waiter.wait(deadline)
            finally:
                self.waiter = None
            if not in_time:
                if deadline > -math.inf:
                    await portal.catch_up()
                return self.take()
            self._turn_ends = portal.now() + TURN_SECONDS


class Updates(Generic[Value_co]):
    """The updates of one or more PVs, in a block: ``async for value in updates``.

    The iteration ends when all subscriptions are closed.

    Attributes:
        subscriptions (list[Subscription]): one for each PV.
    """

    __slots__ = ("__weakref__", "_stream", "_take", "subscriptions")

    def __init__(self, stream: Stream, subscriptions: list[Any]) -> None:
        self.subscriptions: list[Subscription] = subscriptions
        self._stream = stream
        self._take = stream.take_in_turn

    def __aiter__(self) -> Updates[Value_co]:
        return self

    async def __anext__(self) -> Value_co:
        value = self._take()
        if value is NOTHING:
            value = await self._stream.next_before(math.inf)
            if value is NOTHING:
                raise StopAsyncIteration
        return value  # type: ignore[no-any-return]
