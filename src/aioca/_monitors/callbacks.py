"""Monitors with a callback: the delivery of their updates.

- The callback of a monitor gets one update at a time. While its awaitable runs, updates wait.
- After `close`, the callback is not called again.
- The owner of the monitor runs awaitables, and receives the errors of the callback.
- Everything here runs on the loop's thread.
"""

from __future__ import annotations

import contextvars
import inspect
import logging
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

from .._channels.context import LoopContext
from .._portal.interface import close_unstarted
from .monitor import Monitor
from .nothing import NOTHING
from .options import Options
from .owners import Owner, without

logger = logging.getLogger("aioca")

# The owner begins to await in the next passes of the loop
_MAX_BEGIN_SECONDS = 0.1

# Updates that one monitor delivers in a row before other tasks and monitors run
UPDATES_PER_TURN = 64

Callback = Callable[..., Any]


class Callee(NamedTuple):
    """What all monitors of one call of camonitor share: the callback, and how to call it."""

    callback: Callback
    variables: contextvars.Context  # the context variables of the caller of camonitor
    run: Callable[..., Any]  # `variables.run`
    owner: Owner  # the default owner, until a task group or block takes over


class OfMany(NamedTuple):
    """The callback of a list of PVs, for one of its monitors: it is called with the value alone."""

    callback: Callback
    place: int

    def __call__(self, value: object) -> Any:
        return self.callback(value, self.place)


class CallbackMonitor(Monitor):
    """A monitor whose updates go to a callback.

    Attributes:
        callback: the function that is called with each update.
        owner: the owner of the monitor.
    """

    __slots__ = ("_busy", "_index", "_run", "_unbegun", "_variables", "callback", "owner")

    def __init__(
        self, context: LoopContext, name: str, options: Options, callee: Callee, index: int | None
    ) -> None:
        super().__init__(context, name, options)
        self.callback, self._variables, self._run, self.owner = callee
        self._index = index  # the second argument of the callback; None if it has only one
        # True while an awaitable of the callback runs: updates are kept until it has ended
        self._busy = False
        # An awaitable that has not started, which `close` still prevents, and the callback that
        # returned it; by then another callback may have been assigned
        self._unbegun: tuple[object, Callback] | None = None

    @property
    def called_with_value(self) -> Callback:
        """The callback in a form that is called with the value alone."""
        if self._index is None:
            return self.callback
        return OfMany(self.callback, self._index)  # type: ignore[return-value]  # it has __call__

    @called_with_value.setter
    def called_with_value(self, callback: Callback) -> None:
        self.callback, self._index = callback if isinstance(callback, OfMany) else (callback, None)

    def on_closed(self) -> None:
        self.owner.on_closed()

    def receive(self, item: Any) -> None:
        # Called for each update of each monitor: nearly all of them take the first branch below.
        if self._busy:
            if item is not None:  # else it keeps waiting; `_resume` takes it
                if self._pending is None:
                    self._pending = deque()
                self._pending.append(item)
            return
        if item is None:
            item = self._pending.popleft() if self._pending else self._policy.take(self._key)
            if item is None:
                return
        # `value_of`, inlined for a number. Trick ``monitor_decode`` of the benchmark: monitor_10k
        if type(item) is bytes and self._unpack is not None:
            try:
                (number,) = self._unpack(item)
            except struct.error:
                value = self.value_of(item, self._reader)  # reports what is wrong
            else:
                value = self._kind(number)
                value._reader = self._reader
                value._raw = item
        else:
            value = self.value_of(item, self._reader)
        if value is not NOTHING:
            awaitable = self._call(value)
            if awaitable is not None:
                self._begin(awaitable)

    def deliver(self, value: Any) -> None:
        """Call the callback, and have the owner await what it returns."""
        awaitable = self._call(value)
        if awaitable is not None:
            self._begin(awaitable)

    def _begin(self, awaitable: Awaitable[object]) -> None:
        """Have the owner await what the callback has returned; until then, updates wait."""
        try:
            self._busy = True
            # If the callback has closed its own monitor, its awaitable still runs.
            self._unbegun = None if self.closed else (awaitable, self.callback)
            self.owner.spawn(self._pump, awaitable, self._variables, self._over)
        except Exception as error:
            self._busy = False
            self._fail(error)
        except BaseException:  # Ctrl-C: it is not known whether the owner awaits it
            resume = partial(self._resume_without, awaitable)
            self.context.portal.after(_MAX_BEGIN_SECONDS, resume)
            raise

    def _resume_without(self, awaitable: object) -> None:
        """Deliver further updates, if the owner does not await this one; timer of the portal."""
        if self._unbegun is not None and self._unbegun[0] is awaitable:
            self._unbegun = None
            close_unstarted(awaitable)
            self._resume()

    def _call(self, value: Any) -> Awaitable[object] | None:
        """Call the callback; return its result if that is awaitable, else None."""
        try:
            if self._index is None:
                result = self._run(self.callback, value)
            else:
                result = self._run(self.callback, value, self._index)
            if result is not None and inspect.isawaitable(result):
                return result
        except BaseException as error:
            self._fail(error)
        return None

    async def _pump(self, awaitable: Awaitable[object]) -> None:
        """Await the result of the callback; deliver updates until a result is not awaitable."""
        unbegun, self._unbegun = self._unbegun, None
        if unbegun is not None and self.closed and _does_nothing_yet(unbegun[1]):
            close_unstarted(awaitable)
            return
        served = 0
        try:
            while True:
                await awaitable
                served += 1
                if served % UPDATES_PER_TURN == 0:  # the callback need not have suspended
                    await self.context.portal.yield_turn()
                value = NOTHING if self.closed else self.take()
                if value is NOTHING:
                    break
                following = self._call(value)
                if following is None:
                    break
                awaitable = following
        except GeneratorExit:  # the loop has ended, and nothing runs this task any more
            self._cancelled()
            raise
        except BaseException as error:
            failure = without(self.context.portal.cancelled, error)
            if failure is None:
                self._cancelled()
                raise
            self._fail(failure)
        finally:
            if not self.closed:
                self.context.portal.post(self._resume)

    def _over(self, awaitable: object) -> None:
        """Close the monitor if the task of `_pump` was cancelled before its first step."""
        if self._unbegun is not None and self._unbegun[0] is awaitable:
            self._unbegun = None
            self._cancelled()

    def _cancelled(self) -> None:
        # The owner, the end of the run, or the callback itself cancelled it. The next update must
        # not start it again.
        if not self.closed:
            logger.info(
                "%s: the monitor's callback was cancelled; the monitor is closed", self.name
            )
            self.close()

    def _resume(self) -> None:
        """Deliver the updates that arrived while the awaitable of the callback ran. Portal job."""
        self._busy = False
        for _ in range(UPDATES_PER_TURN):
            value = NOTHING if self.closed or self._busy else self.take()
            if value is NOTHING:
                return
            self.deliver(value)
        if not self._busy:
            self._busy = True
            self.context.portal.post(self._resume)

    def _fail(self, error: BaseException) -> None:
        self.close()
        self.owner.failed(self.name, error)


def _does_nothing_yet(callback: Callback) -> bool:
    """Whether calling the callback only makes a coroutine: true of async functions only."""
    call = getattr(callback, "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(call)
