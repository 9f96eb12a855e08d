"""From the threads of libca into an event loop: what asyncio and trio have in common.

What must stay true here:

- ``post`` never waits for the loop: it is called while libca holds its callback lock, and the
  loop may be inside ``ca_clear_*``, waiting for that lock. (This is why anyio's BlockingPortal
  cannot be used.)
- The wake flag is lowered first and the queue looked at once more after that: a job that is posted
  meanwhile either is seen, or finds the flag down and wakes. The other way round the last one
  of a burst could stay.
- Ctrl-C raises KeyboardInterrupt anywhere on the loop's thread, and the loop may go on after it (a
  notebook). So whatever a drain was doing, it lowers the flag before it ends, and raises it only
  after the next drain is certain. Where that was still missed, `check_closed` wakes once more.
- What is posted is a pair, one behind the other in ``queue``: a job has None before it; anything
  else is for the receiver that is entered in ``receivers`` under the key before it, and is dropped
  if none is. All of it is served in the order in which it was posted.
- A job never raises into the loop: in trio that would crash the run.
- When the run of the loop ends, ``on_end`` is called, once, on the loop's thread if the loop
  still tells us, else on the thread that finds out.

Delivery under load: a wake per update would have the two threads fight for the GIL. One wake
serves everything that has been posted when it is answered; and after a drain that found many
jobs, the next one comes from a timer of a millisecond instead of from a wake, as long as it
stays like that. A lone update is always woken for.

A loop that is busy with Python keeps the GIL, and gives it up every 5 ms, for a single update. So a
drain that comes late begins with a pause, in which libca's threads can bring what has piled up;
else the server, which cannot send it, would soon merge it.
"""

from __future__ import annotations

import contextvars
import inspect
import logging
import math
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from itertools import repeat, starmap
from typing import Any, Protocol

logger = logging.getLogger("aioca")

_MANY = 32  # pairs in one drain that make it worth to poll
_POLL = 0.001  # seconds between drains then
_SLICE = 0.005  # seconds after which a drain lets the rest of the loop run
_CLOCK_EVERY = 16  # pairs between looks at the clock
_BUSY = 0.002  # seconds by which a drain is late if the loop was busy
_PAUSE = 0.0002  # seconds in which libca's threads bring some 100 updates, if there are any
_PAUSES = 0.004  # seconds of pauses at most
_CATCH_UP = 1.0  # seconds that a call waits at most for a backlog of the queue to be served
_WAKE_LOST = 1.0  # seconds without a drain after which a wake is repeated
TURN = 0.005  # seconds for which one task or call keeps the loop before the others get their turn


class Receiver(Protocol):
    """Who is given what was put into the queue under a key."""

    def receive(self, item: Any) -> None:
        """On the loop's thread. Raises only what is to end the program."""


class Waiter(ABC):
    """One task that waits for one wake."""

    __slots__ = ()

    @abstractmethod
    def wake(self) -> None:
        """Wake the task; on the loop's thread. Idempotent."""

    def wake_now(self) -> None:
        """The same as a job of the portal: the task may run on before this returns."""
        self.wake()

    @abstractmethod
    async def wait(self, deadline: float = math.inf) -> bool:
        """Wait; false if the deadline (on the portal's clock) came first."""


class Portal(ABC):
    """The way into one run of one event loop.

    Attributes:
        queue: pairs of a key and an item, one behind the other; ``queue.extend((key, item))`` is
            atomic. Whoever appends must then `ensure_drain` if it is not `awake`.
        receivers: who is given the items of a key.
        awake: whether a drain is certain to come.
        library: ``"asyncio"`` or ``"trio"``.
        cancelled: what it raises in a task that is cancelled.
        lets_exit_through: whether a job may raise KeyboardInterrupt or SystemExit, to end the
            program. In trio that would be an internal error.
    """

    library: str
    cancelled: type[BaseException]
    lets_exit_through = True

    def __init__(self) -> None:
        self.queue: deque[Any] = deque()
        self.receivers: dict[int | None, Receiver] = {}
        self.awake: bool = False
        self._due: float = 0.0  # when the next drain would come if the loop were idle
        self._woken_at: float = 0.0  # when the last wake was, or the last drain ended
        self._on_end: list[Callable[[], None]] = []  # one until it has been called
        self._at_work: Callable[[], bool] = lambda: False
        self._sentinel = _until_run_ends(self)
        try:
            # A step up to its yield makes the generator one of the loop's: asyncio.run,
            # anyio.run and trio.run close those when they end.
            self._sentinel.__anext__().send(None)
        except StopIteration:
            pass

    # -- Any thread --------------------------------------------------------------------------------

    def post(self, job: Callable[[], object]) -> None:
        """Have ``job`` called on the loop; any thread, never waits."""
        self.put(None, job)

    def put(self, key: int | None, item: object) -> None:
        """Queue an item for the receiver of a key; any thread, never waits."""
        self.queue.extend((key, item))
        if not self.awake:
            self.ensure_drain()
        else:
            self.check_closed()

    def ensure_drain(self) -> None:
        """Make a drain come; any thread."""
        self._due = self._woken_at = time.monotonic()
        self.awake = True
        try:
            self._wake()
        except RuntimeError:  # the loop is closed (trio.RunFinishedError is one, too)
            self.close()
        except BaseException:  # Ctrl-C, on the loop's own thread
            self.awake = False
            raise

    def check_closed(self) -> None:
        """Notice a loop that was closed with a drain still to come, or a wake lost; any thread."""
        if self.is_closed():
            self.close()
        elif self.awake and time.monotonic() > self._woken_at + _WAKE_LOST:
            # Most often the loop is only busy, and this wake is one too many.
            due = self._due
            self.ensure_drain()
            self._due = due

    def after_fork(self) -> None:
        """In a forked child: nothing is to be closed when this copy of the loop ends."""
        self._on_end.clear()
        self.queue.clear()
        self.receivers.clear()

    def close(self) -> None:
        """The run is over: tell the owner, once."""
        self._leave()
        self.queue.clear()
        try:
            on_end = self._on_end.pop()  # two threads may find out at once
        except IndexError:
            return
        on_end()

    @abstractmethod
    def is_closed(self) -> bool:
        """Whether the loop can be seen to be closed."""

    @abstractmethod
    def is_running(self) -> bool:
        """Whether what is posted will be served."""

    @abstractmethod
    def _wake(self) -> None:
        """Have ``_drain`` called on the loop soon; any thread."""

    def _leave(self) -> None:  # noqa: B027
        """Give back what the loop was lent; any thread, idempotent."""

    # -- The loop's thread -------------------------------------------------------------------------

    def on_end(
        self, callback: Callable[[], None], at_work: Callable[[], bool] = lambda: False
    ) -> None:
        """Have this called once when the run of the loop is over.

        ``at_work`` tells whether anybody is waiting for an answer.
        """
        self._on_end.append(callback)
        self._at_work = at_work

    async def drain_at_shutdown(self) -> None:  # noqa: B027
        """Wait, for a bounded time, for what is still being called where the run ends."""

    @abstractmethod
    def now(self) -> float:
        """The loop's clock, seconds."""

    @abstractmethod
    def waiter(self) -> Waiter: ...

    @abstractmethod
    async def checkpoint(self, suspends: bool = False) -> None:
        """Be fair in a call that need not wait.

        In trio, always let the other tasks run, and cancellation in. In asyncio, only where this
        and the calls before it have kept the loop for `TURN` since its last pass; and not at all
        in a call that is going to suspend (``suspends``).
        """

    @abstractmethod
    async def yield_turn(self) -> None:
        """Let every other task run once."""

    async def catch_up(self) -> None:
        """Wait until the loop has served what is queued now, for a second at most.

        A call whose deadline has passed waits for this: a busy loop may have left unserved what
        had come before the deadline.
        """
        if self.queue:
            waiter = self.waiter()
            self.post(waiter.wake)
            await waiter.wait(self.now() + _CATCH_UP)

    @abstractmethod
    def spawn(
        self,
        function: Callable[..., Coroutine[Any, Any, None]],
        *args: object,
        context: contextvars.Context | None = None,
        over: Callable[..., None] | None = None,
    ) -> bool:
        """Run in the background until done or until the run ends; must not raise.

        In a copy of ``context`` if one is given. If it is cancelled, perhaps before its first step,
        ``over(*args)`` is called where the backend allows that, and coroutines among ``args`` that
        have not begun are closed.

        False if the run is at its end and takes no new task; ``function`` was not called.
        """

    @abstractmethod
    def spawn_in(
        self,
        task_group: Any,
        function: Callable[[], Coroutine[Any, Any, None]],
        done: Callable[[], None],
    ) -> None:
        """Run as a child of the user's task group (anyio's, trio's or asyncio's).

        ``done`` is called when it is over, even if it was cancelled before its first step; it may
        be called besides by ``function`` itself.
        """

    @abstractmethod
    def after(self, seconds: float, job: Callable[[], object]) -> Callable[[], None]:
        """Call ``job`` on the loop after a while; returns what cancels that."""

    @abstractmethod
    def _drain_after(self, seconds: float) -> None: ...

    def _drain(self) -> None:
        # The wake flag stays up for as long as we are at it, so that libca's thread need not wake
        # a loop that is awake.
        queue = self.queue
        there = 0
        now = self._due
        try:
            now = time.monotonic()
            if now > self._due + _BUSY:
                now = self._pause(now)
            there = left = len(queue) // 2  # bounded: the rest of the loop wants its turn
            stop = now + _SLICE
            while left > 0:
                self._serve(min(left, _CLOCK_EVERY))
                left -= _CLOCK_EVERY
                now = time.monotonic()
                if now > stop:
                    now -= _SLICE  # we were what has kept the loop busy
                    break
        except IndexError:  # the queue was cleared by a job that ended us
            pass
        finally:  # also when Ctrl-C was raised in a callback: what is queued stays to be done
            self.awake = False
            self._due = self._woken_at = now
            if there >= _MANY and not queue:
                self._due += _POLL
                self._drain_after(_POLL)
                self.awake = True
            elif queue and not self.awake:  # posted before the flag was down: no wake has come
                self._drain_after(0.0)
                self.awake = True

    def _pause(self, now: float) -> float:
        """Let other threads have the GIL for as long as they bring updates; returns the time."""
        stop = now + _PAUSES
        brought = len(self.queue)
        while brought > 2 and now < stop:  # a lone job is not worth it
            before = len(self.queue)
            time.sleep(_PAUSE)
            brought = len(self.queue) - before
            now = time.monotonic()
        return now

    def _serve(self, count: int) -> None:
        # Both halves of a pair are taken with no step of Python's between: Ctrl-C cannot part them.
        halves = starmap(self.queue.popleft, repeat((), 2 * count))
        receiver_of = self.receivers.get
        for key, item in zip(halves, halves):  # noqa: B905
            receiver = receiver_of(key)
            if receiver is not None:
                receiver.receive(item)
            elif key is None:
                self._do(item)

    def _do(self, job: Callable[[], object]) -> None:
        try:
            job()
        except Exception:
            logger.exception("a job of aioca failed; please report this")


async def _until_run_ends(portal: Portal) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        try:
            await portal.drain_at_shutdown()
        finally:
            portal.close()


def close_unstarted(awaitable: object) -> None:
    """Keep Python from complaining of a coroutine that nobody is going to await."""
    if (
        inspect.iscoroutine(awaitable)
        and inspect.getcoroutinestate(awaitable) == inspect.CORO_CREATED
    ):
        awaitable.close()
