"""The queue of a portal, and the drain that serves it on the loop.

Invariants:

- ``post`` never waits for the loop. It is called while libca holds its callback lock, and the loop
  may be inside ``ca_clear_*``, waiting for that lock. (This is why anyio's BlockingPortal cannot
  be used.)
- A drain resets the wake flag ``awake`` first and then checks the queue once more. So a job that is
  posted at the same time is either found, or its thread sees that the flag is reset and wakes the
  loop. In the opposite order the last job of a burst could stay in the queue.
- Without a GIL the same holds, because each side changes one object under its lock (the queue, the
  portal) before it reads the other one: see `docs/explanations/threads.md`.
- Ctrl-C raises KeyboardInterrupt anywhere on the loop's thread, and the loop may continue after it
  (a notebook). So a drain always resets the flag before it ends, and sets it only after the next
  drain is certain. If Ctrl-C prevents even this, `check_closed` repeats the wake.
- ``queue`` contains pairs, stored as a key followed by an item. The key of a job is None. Any other
  item goes to the receiver that ``receivers`` has for the key, and is dropped if there is none. All
  items are served in the order in which they were posted.
- A job never raises into the loop, because this would crash a run of trio.

Delivery under load: with one wake for each update, the two threads would compete for the GIL. So
one wake serves all items that were posted before the loop reacts to it. After a drain that found
many items, a timer of one millisecond starts the next drain instead of a wake. This continues while
the drains find many items. A single update always wakes the loop.

A loop that executes Python code keeps the GIL and releases it every 5 ms, long enough for a single
update. So a drain that starts late first pauses, and libca's threads queue the updates that they
have received. Without the pause the server, which cannot send more updates, would soon merge them.

Tricks of the benchmark, with their rows: ``poll``, the timer (monitor_10k, monitor_3k); ``pause``
(busy_task_3k, iterate_starved_10k); ``drain_clock``, `_PAIRS_PER_CLOCK_CHECK` (monitor_10k).
"""

from __future__ import annotations

import logging
import opcode
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
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
_REPEAT_WAKE_SECONDS = 1.0  # a wake that no drain has followed for this long is repeated


JOB_FAILED = "an internal job of aioca failed; please report this error"


class Receiver(Protocol):
    """Receives the items that are queued under a key."""

    def receive(self, item: Any) -> None:
        """Process an item. On the loop's thread.

        Must raise only exceptions that end the program.
        """


class LoopQueue(ABC):
    """The queue of one run of an event loop, and its drain. Made on the loop's thread.

    Attributes:
        queue: pairs, stored as a key followed by an item. ``queue.extend((key, item))`` is atomic.
            The thread that has added a pair must then call `ensure_drain` unless ``awake`` is true.
        receivers: by key, the receiver of its items.
        awake: whether a drain is certain to come.
    """

    # Without a GIL, CPython reads a slot with sequential consistency, another attribute only with
    # acquire semantics. The wake flag needs the former.
    __slots__ = ("__dict__", "__weakref__", "awake")

    def __init__(self) -> None:
        self.queue: deque[Any] = deque()
        self.receivers: dict[int | None, Receiver] = {}
        self.awake: bool = False
        self._due: float = 0.0  # when the next drain would come if the loop were idle
        self._woken_at: float = 0.0  # when the loop was last woken, or the last drain ended
        self._on_end: list[Callable[[], None]] = []  # has one callback until it is called
        self._at_work: Callable[[], bool] = lambda: False
        self._thread = threading.get_ident()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self.queue) // 2} queued, awake {self.awake}>"

    # -- What a backend provides -------------------------------------------------------------------

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

    @abstractmethod
    def _drain_after(self, seconds: float) -> None:
        """Schedule ``_drain`` from a drain: after ``seconds``, or in the next pass if 0."""

    def _release_eventfd(self) -> None:  # noqa: B027
        """Release the eventfd of this run, if it has one. On any thread. Idempotent."""

    # -- Any thread --------------------------------------------------------------------------------

    def post(self, job: Callable[[], object]) -> None:
        """Queue ``job`` to be called on the loop. On any thread; never waits."""
        self.queue.extend((None, job))
        if not self.awake:
            self.ensure_drain()
        else:
            self.check_closed()

    def put(self, key: int, item: object) -> None:
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
        self._release_eventfd()
        # At the exit of the process, the loop may still be in a drain, in a daemon thread. To clear
        # the queue then could part the two halves of a pair.
        if self._thread == threading.get_ident() or not self.is_running():
            self.queue.clear()
        try:
            on_end = self._on_end.pop()  # atomic: two threads may detect the end at once
        except IndexError:
            return
        on_end()

    # -- The loop's thread -------------------------------------------------------------------------

    def on_end(
        self, callback: Callable[[], None], at_work: Callable[[], bool] = lambda: False
    ) -> None:
        """Register a callback to call once when the run of the loop is over.

        ``at_work`` returns whether any call is still waiting for a reply.
        """
        self._on_end.append(callback)
        self._at_work = at_work

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
        finally:  # also if Ctrl-C was raised in a callback: the items in the queue must be served
            self.awake = False
            self._due = self._woken_at = now
            if there >= _MIN_PAIRS_TO_POLL and not queue:
                self._due += _POLL_SECONDS
                self._drain_after(_POLL_SECONDS)
                self.awake = True
            elif queue and not self.awake:  # posted before the flag was reset, so without a wake
                self._drain_after(0.0)
                self.awake = True

    def _serve(self, pairs: int) -> None:
        """Serve so many pairs; one whose call Ctrl-C has prevented stays in the queue."""
        queue, receiver_of = self.queue, self.receivers.get
        # zip takes both halves of a pair with no Python instruction between, so that Ctrl-C cannot
        # separate them.
        halves = starmap(queue.popleft, repeat((), 2 * pairs))
        key = item = None
        taken = called = False
        try:
            for key, item in zip(halves, halves):  # noqa: B905
                taken = True
                receiver = receiver_of(key)
                called = True
                if receiver is not None:
                    receiver.receive(item)
                elif key is None:
                    try:
                        item()
                    except Exception:
                        logger.exception(JOB_FAILED)
                taken = called = False
        except (KeyboardInterrupt, SystemExit) as error:
            if taken and not (called and _has_begun(error)):
                queue.extendleft((item, key))
            raise

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


# The instruction at which a function begins, and at which CPython raises what a signal handler
# raises. Before Python 3.11 there is none, and the first instruction is that place.
_RESUME = opcode.opmap.get("RESUME")


def _has_begun(error: BaseException) -> bool:
    """Whether the function that raised ``error`` had begun; the caller has handled the error."""
    traceback = error.__traceback__
    inner = traceback and traceback.tb_next
    if inner is None:  # the function has returned: signals are handled after a call, too
        return True
    return inner.tb_lasti > 0 and inner.tb_frame.f_code.co_code[inner.tb_lasti] != _RESUME
