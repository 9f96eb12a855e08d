"""What a task of asyncio waits with.

Imported late, as it imports asyncio: see `_asyncio_portal`.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Callable
from typing import Any

from .interface import Waiter

_Future: Any = asyncio.Future


class AsyncioWaiter(_Future, Waiter):  # type: ignore[misc]
    """A future whose task can be run at once.

    By itself a future has it run in the next pass of the loop, after a look at all the
    sockets: a tenth of the time of a get.
    """

    _run_on: Callable[[Any], object] | None = None
    _variables: contextvars.Context

    def add_done_callback(
        self, callback: Callable[[Any], object], *, context: contextvars.Context
    ) -> None:
        # Of the one task that waits
        self._run_on, self._variables = callback, context

    def wake(self) -> None:
        if not self.done():
            self.set_result(True)
            self._run_soon()

    def wake_now(self) -> None:
        run_on = self._run_on
        # A task cannot run within another one, as it would in a loop that was made to nest.
        if self.done() or run_on is None or asyncio.current_task(self._loop) is not None:
            self.wake()
            return
        self.set_result(True)
        self._run_on = None
        self._variables.run(run_on, self)

    def cancel(self, msg: object = None) -> bool:
        cancelled: bool = _Future.cancel(self, msg)
        if cancelled:
            self._run_soon()
        return cancelled

    def _expire(self) -> None:
        if not self.done():
            self.set_result(False)
            self._run_soon()

    def _run_soon(self) -> None:
        run_on, self._run_on = self._run_on, None
        # A loop that was closed with tasks still waiting never runs them again.
        if run_on is not None and not self._loop.is_closed():
            try:
                self._loop.call_soon(run_on, self, context=self._variables)
            except RuntimeError:
                pass  # debug mode, at the end of the process, from another thread: it runs no more

    async def wait(self, deadline: float = math.inf) -> bool:
        if deadline == math.inf:
            return await self  # type: ignore[no-any-return]
        timer = self._loop.call_at(deadline, self._expire)
        try:
            return await self  # type: ignore[no-any-return]
        finally:
            timer.cancel()
