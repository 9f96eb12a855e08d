"""The interface of a portal: what aioca uses of an event loop, on asyncio and trio alike.

A portal passes jobs and updates from libca's threads to one run of one event loop (`queue`), and
offers what a call needs of this loop: its clock, waiting, tasks and timers.

Invariant: when the run of the loop ends, ``on_end`` is called once: on the loop's thread if the
loop reports its end, else on the thread that detects it.
"""

from __future__ import annotations

import contextvars
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from .queue import JOB_FAILED, LoopQueue, logger

# One task or call keeps the loop for this long at most before other tasks get a turn, which are
# delayed by as much.
TURN_SECONDS = 0.005
_MAX_CATCH_UP_SECONDS = 1.0  # a call waits at most this long for the queue to be served


class Waiter(ABC):
    """One task that waits for one wake."""

    __slots__ = ()

    @abstractmethod
    def wake(self) -> None:
        """Wake the task. On the loop's thread. Idempotent."""

    def wake_now(self) -> None:
        """Wake the task from a job of the portal. The task may continue before this returns."""
        self.wake()

    @abstractmethod
    async def wait(self, deadline: float = math.inf) -> bool:
        """Wait for the wake; return false if the deadline (on the portal's clock) came first."""


class Portal(LoopQueue):
    """Passes jobs and updates from libca's threads to one run of one event loop.

    Attributes:
        library: ``"asyncio"`` or ``"trio"``.
        cancelled: the exception that the library raises in a task that is cancelled.
        lets_exit_through: whether a job may raise KeyboardInterrupt or SystemExit to end the
            program. In trio this would be an internal error.
        now: returns the time of the loop's clock, in seconds.
        waiter: returns a new waiter, for one task and one wake.
    """

    library: str
    cancelled: type[BaseException]
    lets_exit_through = True
    now: Callable[[], float]
    waiter: Callable[[], Waiter]

    def __init__(self) -> None:
        super().__init__()
        self._sentinel = _until_run_ends(self)
        try:
            # The first step, to the yield, registers the generator with the loop: asyncio.run,
            # anyio.run and trio.run close such generators when they end.
            self._sentinel.__anext__().send(None)
        except StopIteration:
            pass

    async def drain_at_shutdown(self) -> None:
        """Wait, for a limited time, for the calls that are under way when the run ends."""

    @abstractmethod
    async def checkpoint(self, suspends: bool = False) -> None:
        """Let other tasks run, in a call that need not wait.

        In trio, always let the other tasks run and allow cancellation. In asyncio, do so only if
        this call and those before it have kept the loop for `TURN_SECONDS` since its last pass, and
        not in a call that is going to suspend (``suspends``).
        """

    @abstractmethod
    async def yield_turn(self) -> None:
        """Let every other task run once."""

    async def catch_up(self) -> None:
        """Wait until the loop has served the items that are queued now, for a second at most.

        A call does this when its deadline has passed: a busy loop may not yet have served a reply
        that arrived before the deadline.
        """
        if self.queue:
            waiter = self.waiter()
            self.post(waiter.wake)
            await waiter.wait(self.now() + _MAX_CATCH_UP_SECONDS)

    @abstractmethod
    def spawn(
        self,
        function: Callable[..., Coroutine[Any, Any, None]],
        *args: object,
        context: contextvars.Context | None = None,
        over: Callable[..., None] | None = None,
    ) -> bool:
        """Run ``function`` in a background task until it is done or until the run ends.

        ``function`` must not raise. The task uses a copy of ``context`` if one is given. If the
        task is cancelled, perhaps before its first step, ``over(*args)`` is called where the
        backend allows this, and coroutines in ``args`` that have not begun are closed.

        Returns:
            False if the run is ending and takes no new task; ``function`` was not called.
        """

    @abstractmethod
    def spawn_in(
        self,
        task_group: Any,
        function: Callable[[], Coroutine[Any, Any, None]],
        done: Callable[[], None],
    ) -> None:
        """Run ``function`` in a task of the user's task group (anyio's, trio's or asyncio's).

        ``done`` is called when the task has ended, even if the task was cancelled before its first
        step. ``function`` itself may call ``done``, too.
        """

    @abstractmethod
    def after(self, seconds: float, job: Callable[[], object]) -> Callable[[], None]:
        """Schedule ``job`` to be called on the loop after ``seconds``.

        Returns:
            A function that cancels the call.
        """


def call_job(job: Callable[[], object]) -> None:
    """Call a job in a timer of the loop, and log what it raises."""
    try:
        job()
    except Exception:
        logger.exception(JOB_FAILED)


async def _until_run_ends(portal: Portal) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        try:
            await portal.drain_at_shutdown()
        finally:
            portal.close()


def close_unstarted(awaitable: object) -> None:
    """Close a coroutine that will not be awaited, so that Python does not warn about it."""
    if (
        inspect.iscoroutine(awaitable)
        and inspect.getcoroutinestate(awaitable) == inspect.CORO_CREATED
    ):
        awaitable.close()
