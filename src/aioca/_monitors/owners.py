"""Owners of monitors with a callback: they run its awaitables and receive its errors.

The portal calls callbacks directly, outside of any task. The awaitables that callbacks return, and
their errors, go to an owner:

- ``LoopOwner``: the default. Awaitables run in the background until the end of the loop's run.
  An error closes the monitor and is logged with its traceback.
- ``GroupOwner``: a task in the user's task group. It ends when the monitors are closed, and raises
  the error of a callback into the group.
- ``BlockOwner``: an ``async with`` block. An error cancels the block and is raised from it.

Callbacks of one monitor never overlap; callbacks of different monitors may. Everything here runs on
the loop's thread.
"""

from __future__ import annotations

import contextvars
import logging
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import anyio
from anyio import CancelScope
from anyio.abc import TaskGroup

from .._portal.interface import Portal, close_unstarted

if TYPE_CHECKING:
    from .handles import Subscription

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup  # pyright: ignore[reportMissingImports]

logger = logging.getLogger("aioca")

Pump = Callable[..., Coroutine[Any, Any, None]]


def exit_in(error: BaseException) -> BaseException | None:
    """Return the KeyboardInterrupt or SystemExit in an error or exception group, or None."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return next(filter(None, map(exit_in, group.exceptions)), None)
    return error if isinstance(error, (KeyboardInterrupt, SystemExit)) else None


def without(
    kind: type[BaseException] | tuple[type[BaseException], ...], error: BaseException
) -> BaseException | None:
    """Return an error, or a group of errors, without those of a kind; None if none is left."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return group if group.subgroup(kind) is None else group.split(kind)[1]
    return None if isinstance(error, kind) else error


class Owner(ABC):
    """The owner of one or more monitors with a callback."""

    @abstractmethod
    def spawn(
        self, pump: Pump, awaitable: object, context: contextvars.Context, over: Callable[..., None]
    ) -> None:
        """Run ``pump(awaitable)``, which raises only cancellation, in a copy of a context.

        If the task is cancelled, ``over(awaitable)`` may be called. It is called for certain if
        the task is cancelled before its first step and the owner continues.
        """

    @abstractmethod
    def failed(self, name: str, error: BaseException) -> None:
        """Receive the error of a callback, whose monitor is already closed."""

    def on_closed(self) -> None:  # noqa: B027
        """Note that one of the monitors was closed; called once for each."""


class LoopOwner(Owner):
    """The run of the event loop: it owns monitors that have no other owner."""

    def __init__(self, portal: Portal) -> None:
        self._portal = portal

    def __repr__(self) -> str:
        return f"<LoopOwner {self._portal!r}>"

    def spawn(
        self, pump: Pump, awaitable: object, context: contextvars.Context, over: Callable[..., None]
    ) -> None:
        if not self._portal.spawn(pump, awaitable, context=context, over=over):
            close_unstarted(awaitable)
            over(awaitable)

    def failed(self, name: str, error: BaseException) -> None:
        ending = exit_in(error)
        if ending is not None and self._portal.lets_exit_through:
            rest = without((KeyboardInterrupt, SystemExit), error)
            if rest is not None:
                logger.error("%s: the monitor's callback also raised an error", name, exc_info=rest)
            raise ending
        logger.error(
            "%s: the monitor's callback raised %r; the monitor is closed",
            name, error, exc_info=error,
        )  # fmt: skip


class _TaskGroupOwner(Owner):
    """The base of `GroupOwner` and `BlockOwner`: an anyio task group that runs the awaitables.

    The task `_dispatch` starts the other tasks of the group. Portal jobs do not start them, because
    jobs run outside of any task, where anyio may not detect the async library.
    """

    def __init__(self, portal: Portal, subscriptions: Sequence[Subscription]) -> None:
        self.error: BaseException | None = None
        self._subscriptions = subscriptions
        self._open = len(subscriptions)
        self._portal = portal
        self._scope: CancelScope | None = None
        self._queue: deque[tuple[Pump, object]] = deque()
        self._wake: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._open} open>"

    def spawn(
        self, pump: Pump, awaitable: object, context: contextvars.Context, over: Callable[..., None]
    ) -> None:
        self._queue.append((pump, awaitable))
        self._look()

    def failed(self, name: str, error: BaseException) -> None:
        if self.error is not None:  # only one can be raised
            if exit_in(error) is not None and exit_in(self.error) is None:
                self.error, error = error, self.error
            logger.error("%s: the monitor's callback also raised an error", name, exc_info=error)
            return
        self.error = error
        self._close_all()
        if self._scope is not None:
            self._scope.cancel()

    def on_closed(self) -> None:
        self._open -= 1
        self._look()

    def _look(self) -> None:
        if self._wake is not None:
            self._wake()

    async def _dispatch(self, tasks: TaskGroup) -> None:
        """Start a task for each queued awaitable, until the last monitor is closed."""
        self._scope = tasks.cancel_scope
        if self.error is not None:
            tasks.cancel_scope.cancel()
        while True:
            while self._queue:
                pump, awaitable = self._queue.popleft()
                tasks.start_soon(pump, awaitable)
            if self._open <= 0:
                return
            waiter = self._portal.waiter()
            self._wake = waiter.wake
            await waiter.wait()

    def _check_library(self) -> None:
        """Raise RuntimeError if anyio would create a task group of the wrong library.

        asyncio and trio may both run in this thread, and the user's task group may belong to the
        other one. anyio also takes an asyncio loop that runs inside a trio task for trio.
        """
        found = anyio.get_cancelled_exc_class()
        if found is not self._portal.cancelled:
            library, other = self._portal.library, found.__module__.partition(".")[0]
            raise RuntimeError(
                f"camonitor was called under {library}, but anyio treats the task that would own"
                f" its callbacks as a task of {other}: use a task group of {library}, and run a"
                " second event loop in its own thread, with aioca.run()"
            )

    def _raise_own(self, other: BaseException | None) -> None:
        """Raise the error of the callback, also if the owner was cancelled.

        If ``other``, which is being raised, is to end the program, log the error instead.
        """
        if self.error is None:
            return
        if other is None or exit_in(other) is None:
            raise self.error
        logger.error("a monitor's callback also raised an error", exc_info=self.error)

    def _close_all(self) -> None:
        for subscription in self._subscriptions:
            subscription.close()

    def _close(self) -> None:
        self._close_all()
        self._scope = self._wake = None
        for _, awaitable in self._queue:
            close_unstarted(awaitable)
        self._queue.clear()


class GroupOwner(_TaskGroupOwner):
    """A task in the user's task group. `Portal.spawn_in` runs `live`."""

    async def live(self) -> None:
        other: BaseException | None = None
        try:
            self._check_library()
            async with anyio.create_task_group() as tasks:
                await self._dispatch(tasks)
                # Awaitables that run when their monitor is closed run to their end.
        except BaseException as error:
            other = error
            raise
        finally:
            self._close()
            self._raise_own(other)


class BlockOwner(_TaskGroupOwner):
    """An ``async with`` block."""

    def __init__(self, portal: Portal, subscriptions: Sequence[Subscription]) -> None:
        super().__init__(portal, subscriptions)
        self._tasks: TaskGroup | None = None

    async def enter(self) -> None:
        self._check_library()
        self._tasks = tasks = anyio.create_task_group()
        await tasks.__aenter__()
        self._scope = tasks.cancel_scope
        tasks.start_soon(self._dispatch, tasks)

    async def exit(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        tasks = self._tasks
        assert tasks is not None
        self._close()
        swallowed = False
        try:
            if isinstance(error, self._portal.cancelled):
                swallowed = bool(await tasks.__aexit__(kind, error, traceback))
            else:
                # The task group would wrap an error of the body in an exception group; the user's
                # error must leave the block unchanged. Shielded: we wait only for our own tasks,
                # which are cancelled.
                tasks.cancel_scope.cancel()
                tasks.cancel_scope.shield = True
                await tasks.__aexit__(None, None, None)
        finally:
            self._raise_own(error)
        return swallowed
