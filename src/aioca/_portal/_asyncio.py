"""The portal into a run of an asyncio event loop (also uvloop).

Invariants: asyncio is not imported here, because the import costs a trio program 50 ms. While the
loop runs, other threads call only `_wake`, `_release_eventfd`, `is_closed` and `is_running`.
"""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from .eventfd import SIGNALLED, EventFd, borrow_eventfd
from .interface import TURN_SECONDS, Portal, call_job, close_unstarted
from .queue import logger

if TYPE_CHECKING:
    import asyncio


# The end of a run waits at most this long for calls that clean up, as in the user's generators.
_MAX_SHUTDOWN_SECONDS = 1.0


class AsyncioPortal(Portal):
    library = "asyncio"

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        from ._asyncio_waiter import AsyncioWaiter  # here, because it imports asyncio

        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself keeps no task alive
        self.now = loop.time
        self.waiter = partial(AsyncioWaiter, loop=loop)  # pyright: ignore[reportCallIssue]
        self.cancelled = _asyncio().CancelledError
        self._ending = False
        self._eventfd: EventFd | None = None
        # The time at which the turn of this pass of the loop ends; None before its first call
        self._turn_ends: float | None = None
        # Other loops have an eventfd of their own for call_soon_threadsafe (uvloop) or no selector.
        if type(loop) is _asyncio().SelectorEventLoop:
            self._eventfd = borrow_eventfd()
        if self._eventfd is not None:
            loop.add_reader(self._eventfd.fd, self._on_readable, self._eventfd)
        super().__init__()

    def is_closed(self) -> bool:
        return self._loop.is_closed()

    def is_running(self) -> bool:
        return self._loop.is_running()

    def _wake(self) -> None:
        eventfd = self._eventfd
        if eventfd is None or self._loop.is_closed() or eventfd.signal() != SIGNALLED:
            self._loop.call_soon_threadsafe(self._drain)

    def _on_readable(self, eventfd: EventFd) -> None:
        try:
            eventfd.reset()
        finally:  # also after Ctrl-C: the eventfd is reset, so nothing else would start a drain
            self._drain()

    def _release_eventfd(self) -> None:
        eventfd, self._eventfd = self._eventfd, None
        if eventfd is None:
            return
        if not self._loop.is_closed():
            if _asyncio()._get_running_loop() is not self._loop:
                return  # at the end of the process, or in a forked child: do not release it
            self._loop.remove_reader(eventfd.fd)
        eventfd.release()

    def after_fork(self) -> None:
        self._eventfd = None  # the parent process uses the same eventfd
        super().after_fork()

    async def drain_at_shutdown(self) -> None:
        # asyncio closes all generators at the same time. The user's generators may use aioca to
        # clean up.
        self._ending = True  # asyncio has cancelled all tasks and would not cancel a new one
        give_up = self.now() + _MAX_SHUTDOWN_SECONDS
        await self.yield_turn()
        while self._at_work() and self.now() < give_up:
            await _asyncio().sleep(0.001)

    async def checkpoint(self, suspends: bool = False) -> None:
        if suspends:
            return
        # asyncio programs rely on a put to a connected PV not to suspend. A series of puts suspends
        # once in each `TURN_SECONDS`, because it would otherwise block all other tasks.
        now = self._loop.time()
        if self._turn_ends is None:
            self._turn_ends = now + TURN_SECONDS
            self._loop.call_soon(self._next_pass)
        elif now > self._turn_ends:
            self._turn_ends = None
            await self.yield_turn()

    def _next_pass(self) -> None:
        self._turn_ends = None

    async def yield_turn(self) -> None:
        await _asyncio().sleep(0)

    def spawn(
        self,
        function: Callable[..., Coroutine[Any, Any, None]],
        *args: object,
        context: contextvars.Context | None = None,
        over: Callable[..., None] | None = None,
    ) -> bool:
        if self._ending:
            return False
        coroutine = function(*args)
        if context is None:
            task = self._loop.create_task(coroutine)
        elif sys.version_info >= (3, 11):
            task = self._loop.create_task(coroutine, context=context.copy())
        else:
            task = context.run(self._loop.create_task, coroutine)
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._done(task, args, over))
        return True

    def _done(
        self,
        task: asyncio.Task[None],
        args: tuple[object, ...],
        over: Callable[..., None] | None,
    ) -> None:
        self._tasks.discard(task)
        for argument in args:
            close_unstarted(argument)
        if not task.cancelled():
            error = task.exception()  # asyncio logs an exception that is never retrieved
            # KeyboardInterrupt and SystemExit have already been raised out of the loop.
            if error is not None and not isinstance(error, (KeyboardInterrupt, SystemExit)):
                logger.error(
                    "an internal task of aioca failed; please report this error", exc_info=error
                )
        elif over is not None:
            over(*args)

    def spawn_in(
        self,
        task_group: Any,
        function: Callable[[], Coroutine[Any, Any, None]],
        done: Callable[[], None],
    ) -> None:
        if hasattr(task_group, "start_soon"):
            task_group.start_soon(function)
            return
        if not hasattr(task_group, "create_task"):
            raise TypeError(
                f"task_group must be an anyio TaskGroup or an asyncio.TaskGroup, not {task_group!r}"
            )
        coroutine = function()
        try:
            task: asyncio.Task[None] = task_group.create_task(coroutine)
        except BaseException:
            coroutine.close()
            raise
        task.add_done_callback(lambda _: done())

    def after(self, seconds: float, job: Callable[[], object]) -> Callable[[], None]:
        return self._loop.call_later(seconds, call_job, job).cancel

    def _drain_after(self, seconds: float) -> None:
        if seconds:
            self._loop.call_later(seconds, self._drain)
        else:
            self._loop.call_soon(self._drain)


def _asyncio() -> Any:
    """Return the module asyncio, which has been imported: one of its loops is running."""
    return sys.modules["asyncio"]
