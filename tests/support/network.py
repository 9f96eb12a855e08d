"""Faults on the way between client and server, made by a proxy.

The IOC is at a port at which nobody searches. Two proxies lead to it: a faulty one, and one that
works, for names that end in ``:direct``, which are aliases of the same records. So a test can
look at a record, and write to it, beside the way that it has just broken.

In none of these tests may Channel Access block the loop: see `heartbeat`.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.to_thread

import aioca
from aioca import caget, caput
from aioca.testing import SoftIoc, loopback_environment
from tests.support.client_program import Program
from tests.support.iocs import PORTS
from tests.support.proxy import CaProxy

SHORT = 0.2  # seconds for a call that is to fail
GRACE = 1.0  # that it may be late by, on a busy machine
MANY_BIG = 10  # waveforms of 800 kB each
LINES = 30
DATABASE = """
    record(ao, "$(P)x") { field(FLNK, "$(P)x:history") }
    record(compress, "$(P)x:history") {
        field(INP, "$(P)x") field(ALG, "Circular Buffer") field(NSAM, "500")
    }
    record(waveform, "$(P)w") {
        field(FTVL, "DOUBLE") field(NELM, "100000") field(FLNK, "$(P)w:first")
    }
    record(calc, "$(P)w:first") {
        field(INPA, "$(P)w") field(CALC, "A") field(FLNK, "$(P)w:history")
    }
    record(compress, "$(P)w:history") {
        field(INP, "$(P)w:first") field(ALG, "Circular Buffer") field(NSAM, "500")
    }
    alias("$(P)x", "$(P)x:direct")
    alias("$(P)w", "$(P)w:direct")
    alias("$(P)x:history", "$(P)x:history:direct")
    alias("$(P)w:history", "$(P)w:history:direct")
"""


def big_records(count: int) -> str:
    """Arrays of which it is known what they have been written with."""
    return "".join(
        f"""
        record(waveform, "$(P)b{i}") {{
            field(FTVL, "DOUBLE") field(NELM, "100000") field(FLNK, "$(P)b{i}:first")
        }}
        record(calc, "$(P)b{i}:first") {{
            field(INPA, "$(P)b{i}") field(CALC, "A") field(FLNK, "$(P)b{i}:history")
        }}
        record(compress, "$(P)b{i}:history") {{
            field(INP, "$(P)b{i}:first") field(ALG, "Circular Buffer") field(NSAM, "500")
        }}
        alias("$(P)b{i}:history", "$(P)b{i}:history:direct")
        """
        for i in range(count)
    )


def lines_of_records(count: int) -> str:
    """Arrays and numbers, of which each will have a line of its own."""
    return "".join(
        f"""
        record(waveform, "$(P)w{i}") {{ field(FTVL, "DOUBLE") field(NELM, "5000") }}
        record(ao, "$(P)x{i}") {{ field(FLNK, "$(P)x{i}:history") }}
        record(compress, "$(P)x{i}:history") {{
            field(INP, "$(P)x{i}") field(ALG, "Circular Buffer") field(NSAM, "500")
        }}
        alias("$(P)w{i}", "$(P)w{i}:direct")
        alias("$(P)x{i}", "$(P)x{i}:direct")
        alias("$(P)x{i}:history", "$(P)x{i}:history:direct")
        """
        for i in range(count)
    )


class Net(NamedTuple):
    """An IOC and the ways to it."""

    ioc: SoftIoc
    proxy: CaProxy  # the faulty one
    p: str  # the prefix of the records

    async def history(self, record: str) -> list[float]:
        """The values that the record has been processed with since `forget`."""
        return list(await caget(f"{self.p}{record}:history:direct", timeout=10))

    async def forget(self, record: str) -> None:
        await caput(f"{self.p}{record}:history:direct.RES", 1, wait=True)


def is_direct(name: str) -> bool:
    return name.partition(".")[0].endswith(":direct")


@contextlib.contextmanager
def ends_after(seconds: float) -> Iterator[None]:
    """It must take so long, but for what a busy machine makes of it."""
    begun = time.monotonic()
    yield
    took = time.monotonic() - begun
    assert seconds - 0.02 < took < seconds + GRACE, took


def is_whole(value: Any, count: int) -> bool:
    """Whether an array is one that was written: of one number only."""
    return len(value) == count and bool((value == value[0]).all())


LONGEST = 0.05
SOURCES = str(Path(aioca.__file__).parent)


class Heart:
    """A task that wants to run every 5 ms, and a thread that looks at what else the loop does.

    On a busy machine a loop is late for reasons that are none of ours. So a gap counts only

    - if the loop's thread slept in one and the same call that aioca had made, as often as it was
      looked at: it waited there, for a lock or for a server; or
    - if that thread itself has used the time, and in aioca; but not for collecting garbage, which
      takes the longer the more there is in the process.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self.beats = 0
        self.faults: list[str] = []
        self._thread = threading.get_ident()
        self._state = Path(f"/proc/self/task/{threading.get_native_id()}/stat")
        self._last = time.monotonic()
        self._stop = threading.Event()
        self._collecting = 0.0  # seconds that the loop's thread has collected garbage for
        gc.callbacks.append(self._collects)
        self._seen: list[str] = []  # in this gap: where it was, or "" if that was not in aioca
        self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._watcher.start()

    async def beat(self) -> None:
        used = time.thread_time() - self._collecting
        while True:
            self._last = time.monotonic()
            self._seen = []
            await anyio.sleep(0.005)
            gap, before = time.monotonic() - self._last, used
            used = time.thread_time() - self._collecting
            self.longest = max(self.longest, gap)
            ours = list(filter(None, self._seen))
            if gap > LONGEST and used - before > LONGEST and len(ours) > len(self._seen) / 2:
                self.faults.append(f"worked for {used - before:.3f} s in {Counter(ours)}")
            self.beats += 1

    def _collects(self, phase: str, info: dict[str, int]) -> None:
        if threading.get_ident() == self._thread:
            self._collecting += time.thread_time() * (1 if phase == "stop" else -1)

    async def next_beat(self) -> None:
        beats = self.beats
        while self.beats == beats:
            await anyio.sleep(0.001)

    def _watch(self) -> None:
        """Thread."""
        place: tuple[object, ...] = ()
        since, looks = 0.0, 0
        while not self._stop.wait(0.004):
            now = time.monotonic()
            if now - self._last < 0.015:
                place = ()
                continue
            frame = sys._current_frames().get(self._thread)
            if frame is None:
                continue
            file = frame.f_code.co_filename
            ours = file.startswith(SOURCES)
            self._seen.append(f"{Path(file).name}:{frame.f_code.co_name}" if ours else "")
            if not ours or not self._sleeps():
                place = ()
                continue
            here = self._last, file, frame.f_lineno, frame.f_lasti
            del frame
            if here != place:
                place, since, looks = here, now, 0
            looks += 1
            if now - since > LONGEST and looks > 5:
                self.faults.append(f"slept for {now - since:.3f} s in {file}:{here[2]}")

    def _sleeps(self) -> bool:
        return self._state.read_text().rpartition(")")[2].split()[0] in "SD"

    def stop(self) -> None:
        gc.callbacks.remove(self._collects)
        self._stop.set()
        self._watcher.join()


@contextlib.asynccontextmanager
async def heartbeat() -> AsyncIterator[Heart]:
    """A block in which Channel Access may not block the loop for more than 50 ms."""
    heart = Heart()
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(heart.beat)
            await heart.next_beat()
            yield heart
            await heart.next_beat()
            group.cancel_scope.cancel()
    finally:
        heart.stop()
    assert not heart.faults, heart.faults[-1]


WRITE = """
    import sys
    from aioca import caput, run

    async def main():
        await caput(sys.argv[1], float(sys.argv[2]), wait=True)

    run(main())
"""


def environment(ports: list[int]) -> dict[str, str]:
    return {**loopback_environment(ports), "EPICS_CA_CONN_TMO": "2"}


def write(pv: str, value: float) -> None:
    """By another client."""
    with Program(WRITE, pv, value, environment=environment(PORTS)) as program:
        program.finish()
