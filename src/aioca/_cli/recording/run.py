"""The run of `record`: monitors fill the intake, and a thread writes what is in it.

The event loop makes rows of the updates, also while a worker thread writes. The thread only writes:
while it ran Python code, libca's threads would get the GIL every 5 ms for a single update, and the
server would drop updates.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

import anyio
import anyio.to_thread
from rich.cells import set_cell_size

from ... import FORMAT_TIME, camonitor
from ..._printable import printable
from ..shared import Failure
from ..terminal.signals import Interruption
from .intake import Intake
from .rows import Writer
from .target import Target, error_text

_STEP_SECONDS = 0.1  # between two times when rows are made; bounds how long the loop is busy
_FIND_SECONDS = 5.0  # after which a PV that is not found gets a row
_SHOWN_NAMES = 5  # of PVs that were not found


class RecordingRun:
    """One run of the command.

    Args:
        names: the PVs, each once.
        target: where the rows go.
        seconds: how long to record; None until a signal.
        flush_seconds: the most time for which rows may be lost if the process is killed.
    """

    def __init__(
        self, names: Sequence[str], target: Target, seconds: float | None, flush_seconds: float
    ) -> None:
        self._names = names
        self._target = target
        self._seconds = seconds
        self._flush_seconds = flush_seconds
        self._intake = Intake(names, keep_last=target.rotates)
        self._begin = self._flushed_at = time.monotonic()
        self._problem: Exception | None = None
        self._bytes = self._rows = 0  # in closed files
        self._writer: Writer | None = None
        self._begins = False  # whether the file still lacks the rows with which it begins
        self._busy = False  # whether the worker thread writes; only it uses the writer then

    async def run(self) -> int:
        """Record until the time is over or a signal comes; returns the exit status."""
        interruption = Interruption()
        # Before the file is made and outside the task group: a bad name raises here, by itself
        subscriptions = camonitor(
            list(self._names), self._intake.take, format=FORMAT_TIME, all_updates=True,
            notify_disconnect=True, connect_timeout=_FIND_SECONDS,
        )  # fmt: skip
        try:
            self._writer = self._target.open()
        except (OSError, RuntimeError) as error:
            raise Failure(error_text(self._target, error)) from None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(interruption.watch, tasks.cancel_scope)
            with anyio.move_on_after(self._seconds):
                async with subscriptions:
                    await self._record()
            tasks.cancel_scope.cancel()
        self._finish()
        return self._report(interruption.status)

    async def _record(self) -> None:
        """Write until cancelled, or until a file cannot be written."""
        shown_at = 0.0
        async with anyio.create_task_group() as writing:
            while self._problem is None:
                await anyio.sleep(_STEP_SECONDS)
                self._intake.collect()
                if not self._busy:
                    self._add_rows()
                    if self._must_write():
                        self._busy = True
                        writing.start_soon(anyio.to_thread.run_sync, self._write)
                if time.monotonic() - shown_at >= 1.0 and sys.stderr.isatty():
                    shown_at = time.monotonic()
                    self._show_statistics()

    # -- Files: in the worker thread, and at the end on the loop's thread --------------------------

    def _add_rows(self) -> None:
        """Give the rows that wait to the file. Runs on the loop's thread.

        A file that begins gets only its first rows: they are written by themselves, so that their
        size is known.
        """
        assert self._writer is not None
        for rows in self._intake.beginning() if self._begins else self._intake.drain():
            self._writer.add(rows)

    def _must_write(self) -> bool:
        assert self._writer is not None
        late = time.monotonic() - self._flushed_at >= self._flush_seconds
        return late or self._begins or self._writer.full or self._target.is_over(self._writer)

    def _write(self) -> None:
        """Write rows, and begin the next file if it is time; keeps an error in `_problem`."""
        assert self._writer is not None
        try:
            self._writer.flush()
            self._flushed_at = time.monotonic()
            if self._begins:
                self._begins = False
                self._target.note_beginning(self._writer)
            elif self._target.is_over(self._writer):
                self._close()
                self._writer = self._target.open()
                self._begins = True
        except (OSError, RuntimeError) as error:  # h5py raises both
            self._problem = error
        finally:
            self._busy = False

    def _close(self) -> None:
        assert self._writer is not None
        self._writer.close()
        self._rows += self._writer.written
        self._bytes += self._writer.size
        self._writer = None

    def _finish(self) -> None:
        """Write what has come since the last write, and close the file."""
        try:
            if self._problem is None and self._writer is not None:
                if self._begins:
                    self._add_rows()
                    self._begins = False
                self._intake.collect()
                self._add_rows()
                self._writer.flush()
            if self._writer is not None:
                self._close()
        except (OSError, RuntimeError) as error:
            self._problem = self._problem or error

    # -- Messages ----------------------------------------------------------------------------------

    def _statistics(self) -> str:
        intake, took = self._intake, time.monotonic() - self._begin
        size = self._bytes + (self._writer.size if self._writer is not None else 0)
        return (
            f"{sum(intake.connected)} of {len(self._names)} PVs connected,"
            f" {intake.updates:,} updates in {took:.1f} s ({intake.updates / took:,.0f}/s),"
            f" {intake.lost:,} lost, {intake.disconnections:,} disconnections, {size:,} bytes in"
            f" {self._target.text()}"
        )

    def _show_statistics(self) -> None:
        """Show the statistics in the last line of the terminal."""
        columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80  # 0: it does not say
        # A longer line would begin another one each second; terminals differ in the last column
        line = set_cell_size(printable(self._statistics()), columns - 1).rstrip()
        print(f"\r{line}\x1b[K", end="", file=sys.stderr, flush=True)

    def _report(self, status: int) -> int:
        """Print the statistics and what went wrong; returns the exit status."""
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        if self._problem is not None:
            rows = self._rows + (self._writer.written if self._writer is not None else 0)
            raise Failure(
                f"{error_text(self._target, self._problem)}; the recording has ended, the"
                f" {rows:,} rows written before are in {self._target.text()}"
            )
        print(printable(self._statistics()))
        missing = [n for n, seen in zip(self._names, self._intake.seen, strict=True) if not seen]
        if missing:
            more = len(missing) - _SHOWN_NAMES
            others = f" and {more} others" if more > 0 else ""
            text = f"never connected: {', '.join(missing[:_SHOWN_NAMES])}{others}"
            print(f"aioca record: {printable(text)}", file=sys.stderr)
        return status or (1 if missing else 0)
