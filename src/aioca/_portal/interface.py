"""The part of the portal that asyncio and trio share: the queue and its drain.

A portal passes jobs and updates from libca's threads to one run of one event loop.

Invariants:

- ``post`` never waits for the loop. It is called while libca holds its callback lock, and the loop
  may be inside ``ca_clear_*``, waiting for that lock. (This is why anyio's BlockingPortal cannot
  be used.)
- A drain resets the wake flag ``awake`` first and then checks the queue once more. So a job that is
  posted at the same time is either found, or its thread sees that the flag is reset and wakes the
  loop. In the opposite order the last job of a burst could stay in the queue.
- Ctrl-C raises KeyboardInterrupt anywhere on the loop's thread, and the loop may continue after it
  (a notebook). So a drain always resets the flag before it ends, and sets it only after the next
  drain is certain. If Ctrl-C prevents even this, `check_closed` repeats the wake.
- ``queue`` contains pairs, stored as a key followed by an item. The key of a job is None. Any other
  item goes to the receiver that ``receivers`` has for the key, and is dropped if there is none. All
  items are served in the order in which they were posted.
- A job never raises into the loop, because this would crash a run of trio.
- When the run of the loop ends, ``on_end`` is called once: on the loop's thread if the loop reports
  its end, else on the thread that detects it.

Delivery under load: with one wake for each update, the two threads would compete for the GIL. So
one wake serves all items that were posted before the loop reacts to it. After a drain that found
many items, a timer of one millisecond starts the next drain instead of a wake. This continues while
the drains find many items. A single update always wakes the loop.

A loop that executes Python code keeps the GIL and releases it every 5 ms, long enough for a single
update. So a drain that starts late first pauses, and libca's threads queue the updates that they
have received. Without the pause the server, which cannot send more updates, would soon merge them.
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

_MIN_PAIRS_TO_POLL = 32  # a drain that found this many pairs is followed by a timer, not a wake
_POLL_SECONDS = 0.001  # the interval of this timer
_MAX_DRAIN_SECONDS = 0.005  # a longer drain is continued after the loop has run other tasks
_PAIRS_PER_CLOCK_CHECK = 16  # a drain reads the clock once for this many pairs, to save time
_LATE_SECONDS = 0.002  # a drain that starts this late pauses first, because the loop was busy
_PAUSE_SECONDS = 0.0002  # one pause: libca's threads queue about 100 updates, if there are any
_MAX_PAUSES_SECONDS = 0.004  # the sum of the pauses of one drain, at most
_MAX_CATCH_UP_SECONDS = 1.0  # a call waits at most this long for the queue to be served
_REPEAT_WAKE_SECONDS = 1.0  # a wake that no drain has followed for this long is repeated
TURN = 0.005  # seconds that one task or call may keep the loop before other tasks get a turn


class Receiver(Protocol):
    """Receives the items that are queued under a key."""

    def receive(self, item: Any) -> None:
        """Process an item. On the loop's thread.

        Must raise only exceptions that end the program.
        """


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


class Portal(ABC):
    """Passes jobs and updates from libca's threads to one run of one event loop.

    Attributes:
        queue: pairs, stored as a key followed by an item. ``queue.extend((key, item))`` is atomic.
            The thread that has added a pair must then call `ensure_drain` unless ``awake`` is true.
        receivers: by key, the receiver of its items.
        awake: whether a drain is certain to come.
        library: ``"asyncio"`` or ``"trio"``.
        cancelled: the exception that the library raises in a task that is cancelled.
        lets_exit_through: whether a job may raise KeyboardInterrupt or SystemExit to end the
            program. In trio this would be an internal error.
    """

    library: str
    cancelled: type[BaseException]
    lets_exit_through = True

    def __init__(self) -> None:
        self.queue: deque[Any] = deque()
        self.receivers: dict[int | None, Receiver] = {}
        self.awake: bool = False
        self._due: float = 0.0  # when the next drain would come if the loop were idle
        self._woken_at: float = 0.0  # when the loop was last woken, or the last drain ended
        self._on_end: list[Callable[[], None]] = []  # has one callback until it is called
        self._at_work: Callable[[], bool] = lambda: False
        self._sentinel = _until_run_ends(self)
        try:
            # The first step, to the yield, registers the generator with the loop: asyncio.run,
            # anyio.run and trio.run close such generators when they end.
            self._sentinel.__anext__().send(None)
        except StopIteration:
            pass

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self.queue) // 2} queued, awake {self.awake}>"

    # -- Any thread --------------------------------------------------------------------------------

    def post(self, job: Callable[[], object]) -> None:
        """Queue ``job`` to be called on the loop. On any thread; never waits."""
        self.put(None, job)

    def put(self, key: int | None, item: object) -> None:
        """Queue an item for the receiver of a key. On any thread; never waits."""
        self.queue.extend((key, item))
        if not self.awake:
            self.ensure_drain()
        else:
            self.check_closed()

    def ensure_drain(self) -> None:
        """Wake the loop, so that a drain is certain to come. On any thread; never waits."""
        self._due = self._woken_at = time.monotonic()
        self.awake = True
        try:
            self._wake()
        except RuntimeError:  # the loop is closed (trio.RunFinishedError is a RuntimeError)
            self.close()
        except BaseException:  # Ctrl-C, on the loop's own thread
            self.awake = False
            raise

    def check_closed(self) -> None:
        """Close the portal of a closed loop; repeat a wake that was lost. On any thread."""
        if self.is_closed():
            self.close()
        elif self.awake and time.monotonic() > self._woken_at + _REPEAT_WAKE_SECONDS:
            # In most cases the loop is only busy and does not need this wake.
            due = self._due
            self.ensure_drain()
            self._due = due

    def after_fork(self) -> None:
        """Drop all references in a forked child, so that the end of this loop closes nothing."""
        self._on_end.clear()
        self.queue.clear()
        self.receivers.clear()

    def close(self) -> None:
        """Clear the queue and call ``on_end`` when the run is over. On any thread. Idempotent."""
        self._leave()
        self.queue.clear()
        try:
            on_end = self._on_end.pop()  # atomic: two threads may detect the end at once
        except IndexError:
            return
        on_end()

    @abstractmethod
    def is_closed(self) -> bool:
        """Whether the loop is known to be closed. On any thread."""

    @abstractmethod
    def is_running(self) -> bool:
        """Whether the loop runs, so that it will serve posted items. On any thread."""

    @abstractmethod
    def _wake(self) -> None:
        """Schedule ``_drain`` on the loop. On any thread; never waits.

        Raises:
            RuntimeError: if the loop is closed.
        """

    def _leave(self) -> None:  # noqa: B027
        """Release the resources of this run (the eventfd). On any thread. Idempotent."""

    # -- The loop's thread -------------------------------------------------------------------------

    def on_end(
        self, callback: Callable[[], None], at_work: Callable[[], bool] = lambda: False
    ) -> None:
        """Register a callback to call once when the run of the loop is over.

        ``at_work`` returns whether any call is still waiting for a reply.
        """
        self._on_end.append(callback)
        self._at_work = at_work

    async def drain_at_shutdown(self) -> None:  # noqa: B027
        """Wait, for a limited time, for the calls that are under way when the run ends."""

    @abstractmethod
    def now(self) -> float:
        """Return the time of the loop's clock, in seconds."""

    @abstractmethod
    def waiter(self) -> Waiter:
        """Return a new waiter, for one task and one wake."""

    @abstractmethod
    async def checkpoint(self, suspends: bool = False) -> None:
        """Let other tasks run, in a call that need not wait.

        In trio, always let the other tasks run and allow cancellation. In asyncio, do so only if
        this call and those before it have kept the loop for `TURN` since its last pass, and not in
        a call that is going to suspend (``suspends``).
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

    @abstractmethod
    def _drain_after(self, seconds: float) -> None:
        """Schedule ``_drain`` from a drain: after ``seconds``, or in the next pass if 0."""

    def _drain(self) -> None:
        """Serve the items that are queued now, until `_MAX_DRAIN_SECONDS` have passed."""
        # The wake flag stays set during the drain, so that libca's threads need not wake the loop.
        queue = self.queue
        there = 0
        now = self._due
        try:
            now = time.monotonic()
            if now > self._due + _LATE_SECONDS:
                now = self._pause(now)
            there = left = len(queue) // 2  # bounded, so that other tasks of the loop can run
            stop = now + _MAX_DRAIN_SECONDS
            while left > 0:
                self._serve(min(left, _PAIRS_PER_CLOCK_CHECK))
                left -= _PAIRS_PER_CLOCK_CHECK
                now = time.monotonic()
                if now > stop:
                    now -= _MAX_DRAIN_SECONDS  # the next drain is late because of this one
                    break
        except IndexError:  # a job has closed the portal, which cleared the queue
            pass
        finally:  # also if Ctrl-C was raised in a callback: the items in the queue remain to do
            self.awake = False
            self._due = self._woken_at = now
            if there >= _MIN_PAIRS_TO_POLL and not queue:
                self._due += _POLL_SECONDS
                self._drain_after(_POLL_SECONDS)
                self.awake = True
            elif queue and not self.awake:  # posted before the flag was reset, so without a wake
                self._drain_after(0.0)
                self.awake = True

    def _pause(self, now: float) -> float:
        """Release the GIL while other threads queue updates; return the time. Blocks the loop."""
        stop = now + _MAX_PAUSES_SECONDS
        brought = len(self.queue)
        while brought > 2 and now < stop:  # no pause for a single item
            before = len(self.queue)
            time.sleep(_PAUSE_SECONDS)
            brought = len(self.queue) - before
            now = time.monotonic()
        return now

    def _serve(self, count: int) -> None:
        # zip takes both halves of a pair with no Python instruction between, so that Ctrl-C cannot
        # separate them.
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
            logger.exception("an internal job of aioca failed; please report this error")


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
