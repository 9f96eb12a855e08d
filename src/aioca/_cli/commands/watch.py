"""``aioca watch``: a live table of PVs in the terminal.

The load is bounded, however many updates come: the latest update of each PV is taken at most ten
times a second, and drawing takes at most a sixth of the time. The subscriptions count the updates
that newer ones have replaced, so the displayed rate counts all updates.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import anyio
import click
from rich.console import Console

from ... import (
    DBE_PROPERTY,
    FORMAT_CTRL,
    FORMAT_TIME,
    CAValueError,
    Updates,
    camonitor,
)
from ..._printable import printable
from ..live.labels import name_states
from ..live.table import ORDERS, Painter, Row, View
from ..shared import Failure, Seconds, backend_option, run_command
from ..terminal.keys import Keyboard
from ..terminal.screen import Screen
from ..terminal.signals import Interruption

# Windows has neither: there, the next drawing, within a second, takes the new size.
_SIGNALS = [getattr(signal, name) for name in ("SIGWINCH", "SIGTSTP") if hasattr(signal, name)]
_FRAME_SECONDS = 0.1  # least time between two drawings: faster ones cannot be read
_MESSAGE_SECONDS = 10.0  # a log message is shown that long


@click.command()
@click.argument("pvs", nargs=-1, required=True, metavar="PV...")
@click.option(
    "--seconds", type=Seconds(), metavar="S", help="End after this time (default: at the key q)."
)
@click.option(
    "--sort",
    type=click.Choice(ORDERS),
    default="given",
    help="The order (default: given; s changes it).",
)
@click.option("-S", "--strings", is_flag=True, help="Show arrays of CHAR as long strings.")
@backend_option
def command(
    pvs: tuple[str, ...], seconds: float | None, sort: str, strings: bool, backend: str
) -> int:
    """Show PVs in a live table, until q is pressed.

    The table shows values with precision and units, alarms in colour, updates per second, and the
    last minute as a line (of an array: its shape). Arrows, PgUp, PgDn, Home and End scroll; s
    changes the order.

    \b
    Examples: aioca watch TEMPERATURE SETPOINT
              aioca watch --sort alarm $(cat pvs.txt)
    """  # not a raw string: click needs the backspace
    console = Console()
    if not console.is_terminal or console.is_dumb_terminal:
        raise Failure("standard output is not a terminal; `aioca camonitor` prints line by line")
    rows = [Row(name, n, strings) for n, name in enumerate(dict.fromkeys(pvs))]
    watch = Watch(View(rows, sort, Painter(console)))
    try:
        return run_command(watch.run(seconds), backend)
    except CAValueError as error:
        raise Failure(str(error)) from None


class Watch:
    """The run of the command: its tasks, and their shared state. All on the event loop's thread."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._rows = {row.name: row for row in view.rows}
        self._changed: anyio.Event
        self._screen = Screen()
        self._keyboard = Keyboard()
        self._log = _Log()

    async def run(self, seconds: float | None) -> int:
        """Show the table until q, a signal, or the end of `seconds`; returns the exit status."""
        self._changed = anyio.Event()
        names = list(self._rows)
        interruption = Interruption()
        async with (
            camonitor(names, format=FORMAT_TIME, notify_disconnect=True) as values,
            # One element is enough for the properties of an array
            camonitor(
                names, format=FORMAT_CTRL, events=DBE_PROPERTY, count=1, notify_disconnect=True
            ) as properties,
        ):
            with self._log, anyio.move_on_after(seconds):
                try:
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(interruption.watch, tasks.cancel_scope)
                        tasks.start_soon(self._obey, tasks.cancel_scope)
                        tasks.start_soon(self._heed_terminal)
                        tasks.start_soon(self._follow, values, Row.take)
                        tasks.start_soon(self._follow, properties, Row.learn)
                        tasks.start_soon(self._count, values)
                        tasks.start_soon(name_states, lambda: self._view.shown, self._redraw)
                        tasks.start_soon(self._draw)
                finally:
                    self._keyboard.close()
                    self._screen.close()
        return interruption.status

    async def _follow(self, updates: Updates, take: Callable[[Row, Any], None]) -> None:
        taken = 0
        async for update in updates:
            take(self._rows[update.name], update)
            self._changed.set()
            taken += 1
            if taken >= len(self._rows):  # during the pause, newer updates replace older ones
                await anyio.sleep(_FRAME_SECONDS)
                taken = 0

    async def _count(self, updates: Updates) -> None:
        while True:
            now = time.monotonic()
            for row, subscription in zip(self._view.rows, updates.subscriptions, strict=True):
                row.count(now, subscription.dropped_callbacks)
            self._view.message = self._log.message(now)
            self._changed.set()
            await anyio.sleep(1.0)

    async def _draw(self) -> None:
        self._keyboard.open()
        self._screen.open()
        while True:
            self._changed = anyio.Event()
            begin = time.thread_time()  # CPU time, without the wait for a terminal that is stopped
            size = self._screen.size()
            self._screen.show(size, self._view.lines(*size, time.time()))
            took = time.thread_time() - begin
            await anyio.sleep(min(max(_FRAME_SECONDS, 5 * took), 1.0))
            await self._changed.wait()

    def _redraw(self) -> None:
        self._changed.set()

    async def _obey(self, scope: anyio.CancelScope) -> None:
        while keys := await self._keyboard.read():
            for key in keys:
                if key == "q":
                    scope.cancel()
                    return
                self._view.press(key)
            self._changed.set()

    async def _heed_terminal(self) -> None:
        """Redraw when the terminal changes its size; release the terminal during Ctrl-Z."""
        if not _SIGNALS:
            return
        with anyio.open_signal_receiver(*_SIGNALS) as signals:
            async for number in signals:
                if number != signal.SIGWINCH:
                    self._keyboard.close()
                    self._screen.close()
                    os.kill(os.getpid(), signal.SIGSTOP)
                    self._keyboard.open()
                    self._screen.open()
                self._changed.set()


class _Log(logging.Handler):
    """Keeps the last warning for the last line of the screen, instead of printing it over it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._last: tuple[float, str] = (-_MESSAGE_SECONDS, "")
        self._logger = logging.getLogger("aioca")

    def __enter__(self) -> None:
        self._propagate, self._logger.propagate = self._logger.propagate, False
        self._logger.addHandler(self)

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = self._propagate

    def emit(self, record: logging.LogRecord) -> None:
        self._last = time.monotonic(), printable(record.getMessage())

    def message(self, now: float) -> str:
        logged, text = self._last
        return text if now - logged < _MESSAGE_SECONDS else ""
