"""Passes updates from the loop to the threads that take them.

- The loop keeps the pending updates as it does for an ``async for``. A thread that needs an update
  asks the loop for the pending ones. So the latest value, or the newest n, are chosen when a
  thread asks.
- The loop hands over as many updates at once as the thread processes in about `_GROUP_SECONDS`.
  One at a time would cost two switches of the thread for each.
- An update that was handed over is not lost: it is in ``values``, also if Ctrl-C interrupts
  the thread that asked.
"""

from __future__ import annotations

import contextvars
import math
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from .._monitors.monitor import Monitor
from .._monitors.nothing import NOTHING
from .._monitors.options import Options
from .._monitors.unentered import Unentered
from .._values.classes import Reader
from ._blocks import Block
from ._call import Call
from ._loop_thread import LoopThread

# The loop hands over as many updates at once as the thread processes in this time, because each
# exchange between the two threads takes longer than most callbacks.
_GROUP_SECONDS = 0.01
_MAX_GROUP_UPDATES = 1024  # at once, also for a callback that takes no time

# In the place of an update: no further one comes, and none has come in time
END: Any = object()
LATE: Any = object()


class Group(Unentered):
    """What the monitors of one call share.

    Attributes:
        handover: what passes their updates on.
        block: the block that was entered, if there is a callback.
        entered: whether their block was entered.
        made_at: when the function was called (time.monotonic).
        variables: the context variables of the caller, if there is a callback.
    """

    statement = "with"

    def __init__(self, handover: Handover, call: str, *, calls_back: bool) -> None:
        super().__init__()
        self.call = call
        self.handover: Handover = handover
        self.block: Block | None = None
        self.entered: bool = False
        self.made_at: float = time.monotonic()
        self.variables: contextvars.Context | None = (
            contextvars.copy_context() if calls_back else None
        )

    def __repr__(self) -> str:
        return f"<Group {self.call}>"


class HandedMonitor(Monitor):
    """A monitor whose updates other threads take.

    Attributes:
        group: what it shares with the other monitors of its call.
        error: the error of its callback, which closed it; or None.
        shut: whether a thread has closed it; the loop closes it later.
        target: the callback, and its second argument, or None; replaced as a whole.
        waiting: the calls that wait for its end. On the loop.
    """

    __slots__ = ("error", "group", "shut", "target", "waiting")

    def __init__(
        self,
        home: LoopThread,
        name: str,
        options: Options,
        group: Group,
        callback: Callable[..., Any] | None = None,
        index: int | None = None,
    ) -> None:
        super().__init__(home.context, name, options)
        self.group: Group = group
        self.error: BaseException | None = None
        self.shut: bool = False
        self.target: tuple[Callable[..., Any] | None, int | None] = callback, index
        self.waiting: list[Call] = []

    @property
    def callback(self) -> Callable[..., Any] | None:
        """The function that is called with each update, or None."""
        return self.target[0]

    def receive(self, item: Any) -> None:
        self.group.handover.receive(self, item, self._reader)

    def on_closed(self) -> None:
        self.group.cancel_warning()
        for call in self.waiting:
            call.finish()
        self.waiting.clear()
        self.group.handover.monitor_closed()

    def await_end(self, call: Call) -> None:
        """Finish a call when the monitor is closed; portal job."""
        if self.closed:
            call.finish()
        else:
            self.waiting.append(call)


class Handover:
    """The updates of some monitors, on their way to the threads that take them.

    Attributes:
        values: the updates that were handed over: pairs of a monitor and a value.
    """

    def __init__(self, home: LoopThread) -> None:
        self.values: deque[tuple[HandedMonitor, Any]] = deque()
        self._home = home
        # On the loop
        self._queue: deque[tuple[HandedMonitor, Any, Reader | None]] = deque()
        self._open = math.inf  # the monitors that are not closed, once they are counted
        self._wanted: list[Call] = []
        # On the threads that take: how many were handed over last, and when the first was taken
        self._given = 0
        self._given_at = 0.0

    def __repr__(self) -> str:
        return f"<Handover {len(self._queue)} queued, {len(self.values)} handed over>"

    # -- On the loop -------------------------------------------------------------------------------

    def receive(self, monitor: HandedMonitor, item: Any, reader: Reader | None) -> None:
        """Queue an update of a monitor; hand it over if a thread waits for it."""
        self._queue.append((monitor, item, reader))
        if self._wanted:
            self._hand_over(1)

    def count(self, monitors: int) -> None:
        """Set the number of monitors: when all of them are closed, no further update comes."""
        self._open = monitors

    def monitor_closed(self) -> None:
        """Count a closed monitor; wake the threads that wait if it was the last."""
        self._open -= 1
        if self._open <= 0:
            self._queue.clear()
            self._wake()

    def _ask(self, call: Call, limit: int) -> None:
        """Hand over the pending updates, or those that come next; portal job."""
        if call.abandoned:
            return
        self._wanted.append(call)
        if self._open <= 0:
            self._wake()
        else:
            self._hand_over(limit)

    def _hand_over(self, limit: int) -> None:
        queue, values = self._queue, self.values
        given = 0
        while queue and given < limit:
            monitor, item, reader = queue.popleft()
            if monitor.closed:
                continue
            value = monitor.take() if item is None else monitor.value_of(item, reader)
            if value is not NOTHING:
                values.append((monitor, value))
                given += 1
        if given:
            self._given = given
            self._wake()

    def _wake(self) -> None:
        # All of them: each takes one of the values, and asks again if there is none left.
        wanted, self._wanted = self._wanted, []
        for call in wanted:
            call.finish()

    # -- On the threads that take ------------------------------------------------------------------

    def next(self, give_up: float = math.inf) -> tuple[HandedMonitor, Any]:
        """Return the next update of a monitor that is not closed; wait for it.

        Args:
            give_up: until when to wait (time.monotonic); then the result is LATE.

        Raises:
            RuntimeError: the loop has ended, or the process was forked.
        """
        while True:
            try:
                found = self.values.popleft()
            except IndexError:
                if self._open <= 0:
                    return END  # type: ignore[no-any-return]
                if not self._wait(give_up):
                    return LATE  # type: ignore[no-any-return]
                continue
            if not (found[0].shut or found[0].closed):
                return found

    def _wait(self, give_up: float) -> bool:
        call = Call()
        seconds = -1.0 if give_up == math.inf else max(0.0, give_up - time.monotonic())
        in_time = self._home.wait(call, partial(self._ask, call, self._limit()), seconds)
        self._given_at = time.monotonic()
        return in_time

    def _limit(self) -> int:
        """How many updates to hand over: at most twice as many as the last time."""
        given, spent = self._given, max(time.monotonic() - self._given_at, 1e-6)
        return max(1, min(2 * given, _MAX_GROUP_UPDATES, int(given * _GROUP_SECONDS / spent)))
