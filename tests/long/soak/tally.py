"""What a soak run has seen: counts, the worst of each, and what was wrong."""

from __future__ import annotations

import gc
import logging
import os
import statistics
import sys
import threading
import time
import traceback
from collections import Counter
from types import TracebackType
from typing import Any

import anyio

_BEAT = 0.01  # seconds between two heartbeats
_LATE = 0.25  # after so many without one, the stack of the loop's thread is noted


class Tally:
    """Counts of a run, of all rounds, and its problems."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.worst: dict[str, float] = {}
        self.problems: list[str] = []
        self.round = 0

    def problem(self, text: str) -> None:
        """Something is not as it has to be: the run has failed."""
        text = f"round {self.round}: {text}"
        self.problems.append(text)
        if len(self.problems) <= 50:  # one cause may have very many effects
            print(f"PROBLEM {text}", file=sys.stderr, flush=True)

    def longest(self, what: str, seconds: float) -> None:
        self.worst[what] = max(self.worst.get(what, 0.0), seconds)


# -- What nobody is told of ------------------------------------------------------------------------


class LogWatch(logging.Handler):
    """Takes what is logged: counts it, and finds what must not be there."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(logging.INFO)
        self._tally = tally

    def emit(self, record: logging.LogRecord) -> None:
        self._tally.counts[f"log {record.name} {record.levelname.lower()}"] += 1
        if record.levelno < logging.ERROR and record.exc_info is None:
            return
        error = record.exc_info[1] if record.exc_info else None
        detail = "".join(traceback.format_exception(error)) if error is not None else ""
        self._tally.problem(f"logged by {record.name}: {record.getMessage()}\n{detail}")


def watch_process(tally: Tally) -> None:
    """Make a problem of each error that would only be logged or printed."""
    handler = LogWatch(tally)
    for name in ("aioca", "asyncio", "trio"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        logger.propagate = False

    def unraisable(args: Any) -> None:
        text = "".join(traceback.format_exception(args.exc_value))
        tally.problem(f"{args.err_msg or 'ignored'} {args.object!r}: {text}")

    def in_thread(args: threading.ExceptHookArgs) -> None:
        error = args.exc_value or args.exc_type()
        tally.problem(f"in {args.thread}: {''.join(traceback.format_exception(error))}")

    sys.unraisablehook = unraisable
    threading.excepthook = in_thread


# -- The heartbeat ---------------------------------------------------------------------------------


class Heartbeat:
    """How long the loop was at most not able to run a task; and what it did, if that was long.

    Used as a context manager around the run of a loop, with a task of `beat` in it. A pause of the
    garbage collector, which some faults bring about, is measured for comparison.
    """

    def __init__(self) -> None:
        self.gap = 0.0
        self.collecting = 0.0
        self.stacks: list[str] = []
        self._last = 0.0
        self._ident = 0
        self._stop = threading.Event()
        self._began = 0.0
        self._thread = threading.Thread(target=self._watch, name="soak heartbeat", daemon=True)

    async def beat(self) -> None:
        """Task: be there."""
        self._ident = threading.get_ident()
        self._last = time.monotonic()
        try:
            while True:
                await anyio.sleep(_BEAT)
                now = time.monotonic()
                self.gap = max(self.gap, now - self._last - _BEAT)
                self._last = now
        finally:
            self._last = 0.0

    def _watch(self) -> None:
        """Thread: look whether it is late."""
        noted = 0.0
        while not self._stop.wait(_LATE / 5):
            last = self._last
            if last and last != noted and time.monotonic() - last > _LATE:
                noted = last
                frame = sys._current_frames().get(self._ident)
                if frame is not None:
                    stack = "".join(traceback.format_stack(frame)[-6:])
                    self.stacks.append(f"after {time.monotonic() - last:.2f} s:\n{stack}")

    def _collection(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.monotonic()
        else:
            self.collecting = max(self.collecting, time.monotonic() - self._began)

    def __enter__(self) -> Heartbeat:
        gc.callbacks.append(self._collection)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        gc.callbacks.remove(self._collection)
        self._stop.set()
        self._thread.join()


# -- The process -----------------------------------------------------------------------------------


def rss() -> int:
    """Bytes of memory that this process has now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def foreign_threads() -> Counter[str]:
    """The threads that are not Python's own, by name: those of libca."""
    python = {
        thread.native_id
        for thread in threading.enumerate()
        if not isinstance(thread, threading._DummyThread)
    }
    found: Counter[str] = Counter()
    for task in os.listdir("/proc/self/task"):
        if int(task) not in python:
            try:
                with open(f"/proc/self/task/{task}/comm") as file:
                    found[file.read().strip()] += 1
            except OSError:
                pass  # it has just ended
    return found


def open_files() -> Counter[str]:
    """The open files, by what they are; less libca's UDP sockets.

    Those are few, and for the whole process, but libca's repeater, which runs in this process if
    no other has one, makes and closes some at times of its own.
    """
    with open("/proc/self/net/udp") as file:
        datagrams = {line.split()[9] for line in file}
    found: Counter[str] = Counter()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            kind, _, inode = os.readlink(f"/proc/self/fd/{descriptor}").partition(":")
        except OSError:
            continue  # the one of the folder itself
        if kind == "socket" and inode.strip("[]") in datagrams:
            continue
        found[kind + inode if kind == "anon_inode" else kind] += 1
    return found


def slope(values: list[float]) -> float:
    """By how much they rise from one to the next: the median over all pairs."""
    pairs = [
        (values[j] - values[i]) / (j - i)
        for i in range(len(values))
        for j in range(i + 1, len(values))
    ]
    return statistics.median(pairs) if pairs else 0.0
