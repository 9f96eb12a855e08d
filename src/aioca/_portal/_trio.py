"""The portal into a run of trio.

Invariants: trio is not imported here, but taken from ``sys.modules``. Jobs run on trio's thread and
never raise into trio, because that would crash the run.
"""

from __future__ import annotations

import contextvars
import math
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from .eventfd import SIGNALLED, EventFd, borrow_eventfd
from .interface import Portal, Waiter, call_job

if TYPE_CHECKING:
    import trio


# trio raises these when a task is woken that will not run again: at the end of the process, from
# another thread; or in a guest run whose host has ended first.
_RUN_ENDED_ERRORS = (RuntimeError, OSError)


class _TrioWaiter(Waiter):
    __slots__ = ("_task", "_trio", "_woken")

    def __init__(self, trio: Any) -> None:
        self._trio = trio
        self._task: Any = None
        self._woken = False

    def __repr__(self) -> str:
        state = "woken" if self._woken else "idle" if self._task is None else "waiting"
        return f"<_TrioWaiter {state}>"

    def wake(self) -> None:
        if not self._woken:
            self._woken = True
            if self._task is not None:
                task, self._task = self._task, None
                try:
                    self._trio.lowlevel.reschedule(task)
                except _RUN_ENDED_ERRORS:
                    pass

    async def wait(self, deadline: float = math.inf) -> bool:
        trio = self._trio
        with trio.CancelScope(deadline=deadline):
            if self._woken:
                await trio.lowlevel.checkpoint()
            else:
                self._task = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._abort)
        return self._woken

    def _abort(self, raise_cancel: object) -> Any:
        self._task = None
        return self._trio.lowlevel.Abort.SUCCEEDED


class TrioPortal(Portal):
    library = "trio"
    lets_exit_through = False

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self._trio: Any = sys.modules["trio"]
        self._token = token
        self.cancelled = self._trio.Cancelled
        self.now = self._trio.current_time
        self.waiter = partial(_TrioWaiter, self._trio)
        self._polling = self._poll_again = False
        self._eventfd: EventFd | None = borrow_eventfd()
        super().__init__()
        if self._eventfd is not None and not self.spawn(self._serve_eventfd, self._eventfd):
            self._release_eventfd()

    def is_closed(self) -> bool:
        return not self._on_end  # trio always closes the sentinel

    def is_running(self) -> bool:
        return not self.is_closed()

    def _wake(self) -> None:
        eventfd = self._eventfd
        if eventfd is None or eventfd.signal() != SIGNALLED:
            try:
                self._token.run_sync_soon(self._drain)
            except OSError:
                raise RuntimeError("the host of this guest run has ended") from None

    async def _serve_eventfd(self, eventfd: EventFd) -> None:
        try:
            while True:
                await self._trio.lowlevel.wait_readable(eventfd.fd)
                eventfd.reset()
                self._drain()
        finally:  # use `run_sync_soon` from now on; drain once more, if a wake was just signalled
            self._release_eventfd()
            if self.awake:
                self._drain_soon()

    def _release_eventfd(self) -> None:
        eventfd, self._eventfd = self._eventfd, None
        if eventfd is not None:
            eventfd.release()

    def after_fork(self) -> None:
        self._eventfd = None  # the parent process uses the same eventfd
        super().after_fork()

    async def checkpoint(self, suspends: bool = False) -> None:
        await self._trio.lowlevel.checkpoint()

    async def yield_turn(self) -> None:
        await self._trio.lowlevel.checkpoint()

    def spawn(
        self,
        function: Callable[..., Coroutine[Any, Any, None]],
        *args: object,
        context: contextvars.Context | None = None,
        over: Callable[..., None] | None = None,  # trio gives every task its first step
    ) -> bool:
        context = contextvars.copy_context() if context is None else context.copy()
        try:
            self._trio.lowlevel.spawn_system_task(function, *args, context=context)
        except RuntimeError:
            # Between the end of the main task and the closing of the sentinels trio takes no new
            # tasks, but still runs the functions that are passed to `run_sync_soon`.
            return False
        return True

    def spawn_in(
        self,
        task_group: Any,
        function: Callable[[], Coroutine[Any, Any, None]],
        done: Callable[[], None],
    ) -> None:
        if not hasattr(task_group, "start_soon"):
            raise TypeError(
                f"task_group must be a trio.Nursery or an anyio TaskGroup, not {task_group!r}"
            )
        task_group.start_soon(function)  # trio gives every task its first step

    def after(self, seconds: float, job: Callable[[], object]) -> Callable[[], None]:
        scope = self._trio.CancelScope(deadline=self.now() + seconds)

        async def wait() -> None:
            with scope:
                await self._trio.sleep_forever()
            if scope.cancelled_caught and not cancelled:
                call_job(job)

        cancelled: list[bool] = []

        def cancel() -> None:
            cancelled.append(True)
            # At the end of the process this may be another thread, and trio no longer runs.
            if self._trio.lowlevel.in_trio_run():
                try:
                    scope.cancel()
                except _RUN_ENDED_ERRORS:
                    pass

        self.spawn(wait)
        return cancel

    def _drain_soon(self) -> None:
        """Have trio call ``_drain``, unless the run is over.

        At the end of a run trio calls what is left in its queue, and takes nothing more.
        """
        try:
            self._token.run_sync_soon(self._drain)
        except self._trio.RunFinishedError:
            pass

    def _drain_after(self, seconds: float) -> None:
        if not seconds:
            self._drain_soon()
        elif self._polling:
            self._poll_again = True
        elif not self.spawn(self._poll, seconds):
            self._drain_soon()

    async def _poll(self, seconds: float) -> None:
        # One task serves all timers while the load lasts. A task for each timer would cost more
        # than a wake.
        self._polling = self._poll_again = True
        try:
            while self._poll_again:
                self._poll_again = False
                await self._trio.sleep(seconds)
                self._drain()
        except BaseException:  # at the end of the run: clean-up code may still wait for replies
            self._drain_soon()
            raise
        finally:
            self._polling = False
