"""The waiter of an asyncio task.

Invariants: this module imports asyncio, so only an `AsyncioPortal` imports it (see `_asyncio`).
Everything here runs on the loop's thread, except that `wake` may be called on another thread at the
end of the process.
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
    """A future whose task can continue immediately.

    The task of a plain future continues in the next pass of the loop, after the loop has polled all
    sockets. Trick ``wake_now`` of the benchmark: rows get_one, put_one.
    """

    _run_on: Callable[[Any], object] | None = None
    _variables: contextvars.Context

    def add_done_callback(
        self, callback: Callable[[Any], object], *, context: contextvars.Context
    ) -> None:
        # Only one task waits, so there is one callback.
        self._run_on, self._variables = callback, context

    def wake(self) -> None:
        self._finish(True)

    def wake_now(self) -> None:
        run_on = self._run_on
        # A task cannot run inside another task. A loop that was patched to nest would try this.
        if self.done() or run_on is None or asyncio.current_task(self._loop) is not None:
            self.wake()
            return
        self.set_result(True)
        self._run_on = None
        self._variables.run(run_on, self)

    def cancel(self, msg: object = None) -> bool:
        cancelled: bool = _Future.cancel(self, msg)
        self._run_soon()
        return cancelled

    def _expire(self) -> None:
        self._finish(False)

    def _finish(self, result: bool) -> None:
        """Set the result, and run the task in the next pass."""
        try:
            if not self.done():
                self.set_result(result)
            self._run_soon()
        except BaseException:  # Ctrl-C: nothing else would run the task
            if self.done():
                self._run_soon()
            raise

    def _run_soon(self) -> None:
        """Run the task in the next pass, unless that was done before."""
        run_on, self._run_on = self._run_on, None
        # A loop that was closed while tasks were waiting never runs them again.
        if run_on is not None and not self._loop.is_closed():
            try:
                self._loop.call_soon(run_on, self, context=self._variables)
            except RuntimeError:
                pass  # debug mode, called from another thread at the end of the process

    async def wait(self, deadline: float = math.inf) -> bool:
        if deadline == math.inf:
            return await self  # type: ignore[no-any-return]
        timer = self._loop.call_at(deadline, self._expire)
        try:
            return await self  # type: ignore[no-any-return]
        finally:
            timer.cancel()
