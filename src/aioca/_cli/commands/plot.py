"""``aioca plot``: strip charts and traces, in a window or a file.

The window is drawn on the event loop's thread. That thread is the main thread, which GUIs require,
and the only thread that touches the data. Drawing blocks the event loop for some tens of
milliseconds. No update is lost by that: libca's threads continue to receive, each monitor of a
number keeps up to `_MAX_PENDING_UPDATES` updates (and counts the rest), and each update has the
time stamp of the IOC. After each drawing, the event loop runs at least twice as long as the drawing
took.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import click

from ... import (
    DBE_PROPERTY,
    FORMAT_CTRL,
    FORMAT_TIME,
    CAValueError,
    Subscription,
    Updates,
    camonitor,
)
from ..live.labels import name_states
from ..live.recording import Recording
from ..recording.reading import is_recording, read_recording
from ..shared import Failure, FilePath, Seconds, backend_option, run_command
from ..terminal.signals import Interruption
from ..typed import file_name

_MAX_PENDING_UPDATES = 10_000  # of one PV, during a drawing
_FRAME_SECONDS = 0.1  # least time between two drawings: faster ones cannot be seen
_FIRST_VALUE_SECONDS = 5.0  # to wait for first values, with --seconds 0

_WINDOW_SECONDS, _FILE_SECONDS = 60.0, 10.0  # shown by default


@click.command()
@click.argument("pvs", nargs=-1, required=True, metavar="[FILE] PV...")
@click.option(
    "--seconds", type=Seconds(), metavar="S",
    help="The time to show (default: 60), and with -o to record first (default: 10; 0: until every"
    " PV has a value).",
)  # fmt: skip
@click.option(
    "-o", "--output", type=FilePath(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write a picture (.png, .svg, .pdf) instead of opening a window.",
)  # fmt: skip
@backend_option
def command(pvs: tuple[str, ...], seconds: float | None, output: Path | None, backend: str) -> int:
    """Plot PVs: numbers against time, arrays as they are now.

    Bands show the alarm limits (HIGH, HIHI, LOW, LOLO). The axis includes the display limits. The
    plot is hatched where a PV was not connected, and magenta where its value was INVALID. Ctrl-C
    ends the command; with -o, the data recorded until then are written.

    A FILE of `aioca record` (.csv, .parquet, .h5) is shown instead of live PVs: all of its PVs, or
    those that are named, and all of its time, or the last --seconds.

    \b
    Examples: aioca plot TEMPERATURE SPECTRUM
              aioca plot TEMPERATURE --seconds 30 -o temperature.png
              aioca plot night.csv TEMPERATURE
    """  # not a raw string: click needs the backspace
    if importlib.util.find_spec("matplotlib") is None:
        raise Failure("matplotlib is not installed; pip install 'aioca[plot]'")
    if is_recording(pvs[0]):
        return _plot_file(Path(file_name(pvs[0])), list(dict.fromkeys(pvs[1:])), seconds, output)
    recordings = [Recording(name) for name in dict.fromkeys(pvs)]
    try:
        if output is None:
            seconds = _WINDOW_SECONDS if seconds is None else seconds
            return run_command(Live(recordings, seconds).run(), backend)
        seconds = _FILE_SECONDS if seconds is None else seconds
        return _write(recordings, seconds, output, backend)
    except CAValueError as error:
        raise Failure(str(error)) from None


class Recorder:
    """Monitors PVs into recordings, on the event loop's thread."""

    def __init__(self, recordings: Sequence[Recording]) -> None:
        self._recordings = {recording.name: recording for recording in recordings}
        self._subscriptions: list[Subscription] = []

    @property
    def dropped(self) -> int:
        """The number of updates that were lost because more than the maximum were pending."""
        return sum(subscription.dropped_callbacks for subscription in self._subscriptions)

    async def record(self, properties: Updates, tasks: anyio.abc.TaskGroup) -> None:
        """Monitor each PV by its kind: every update of a number, only the latest of an array."""
        monitored: set[str] = set()
        async for update in properties:
            recording = self._recordings[update.name]
            recording.learn(update)
            if recording.kind is not None and recording.name not in monitored:
                monitored.add(recording.name)
                strip = recording.kind == "strip"
                subscription = camonitor(
                    recording.name, recording.take, format=FORMAT_TIME, notify_disconnect=True,
                    max_pending=_MAX_PENDING_UPDATES if strip else None, task_group=tasks,
                )  # fmt: skip
                if strip:
                    self._subscriptions.append(subscription)


class _Run:
    """The run of the command, for a window or a file."""

    def __init__(self, recordings: Sequence[Recording], seconds: float) -> None:
        self.recordings = recordings
        self.seconds = seconds
        self.interruption = Interruption()
        self.recorder = Recorder(recordings)

    async def run(self) -> int:
        """Record until `until_over` returns; returns the exit status."""
        names = [recording.name for recording in self.recordings]
        async with camonitor(
            # One element is enough for the properties of an array
            names, format=FORMAT_CTRL, events=DBE_PROPERTY, count=1, notify_disconnect=True,
        ) as properties, anyio.create_task_group() as tasks:  # fmt: skip
            tasks.start_soon(self.interruption.watch, tasks.cancel_scope)
            tasks.start_soon(self.recorder.record, properties, tasks)
            tasks.start_soon(name_states, lambda: self.recordings)
            await self.until_over()
            tasks.cancel_scope.cancel()
        return self.interruption.status

    async def until_over(self) -> None:
        raise NotImplementedError


class Timed(_Run):
    """The run with a file: records for the given time."""

    async def until_over(self) -> None:
        if self.seconds:
            if sys.stderr.isatty():
                print(f"recording {self.seconds:g} s; Ctrl-C ends it sooner", file=sys.stderr)
            await anyio.sleep(self.seconds)
            return
        with anyio.move_on_after(_FIRST_VALUE_SECONDS):
            while any(r.value is None or r.unlabelled is not None for r in self.recordings):
                await anyio.sleep(0.02)


class Live(_Run):
    """The run with a window: draws until the window is closed."""

    def __init__(self, recordings: Sequence[Recording], seconds: float) -> None:
        from ..live.figure import Chart

        super().__init__(recordings, seconds)
        self._canvas = _window(len(recordings)).canvas
        self._chart = Chart(self._canvas.figure, recordings, seconds)
        self._closed = False

    async def until_over(self) -> None:
        self._canvas.mpl_connect("close_event", self._close)
        while not self._closed:
            begin = time.perf_counter()
            toolbar = getattr(self._canvas, "toolbar", None)
            if not getattr(toolbar, "mode", ""):  # the user is not panning or zooming
                self._chart.update(time.time())
                self._canvas.draw_idle()
            self._canvas.flush_events()  # runs the GUI, which draws, and may close the window
            took = time.perf_counter() - begin
            await anyio.sleep(min(max(_FRAME_SECONDS, 2 * took), 1.0))

    def _close(self, _event: object) -> None:
        self._closed = True


def _window(panels: int) -> Any:
    """Return a figure in a new window of the installed GUI; raises `Failure`."""
    from matplotlib import pyplot

    from ..live.figure import WIDTH, height

    try:
        figure = pyplot.figure(  # pyright: ignore[reportUnknownMemberType]
            "aioca plot", figsize=(WIDTH, min(9.0, height(["strip"] * panels)))
        )
    except Exception as error:  # each GUI raises another class
        raise Failure(f"no window can be opened ({error}); -o FILE.png writes a picture") from None
    if figure.canvas.required_interactive_framework is None:
        raise Failure("there is no display for a window; -o FILE.png writes a picture")
    figure.show()
    return figure


def _plot_file(path: Path, names: list[str], seconds: float | None, output: Path | None) -> int:
    """Show the PVs of a recording, or write a picture of them; returns the exit status."""
    from ..live.figure import Chart

    figure = _empty_picture(output) if output is not None else None
    recordings, begin, end = read_recording(path, names)
    for recording in recordings:
        for remark in recording.remarks:
            print(f"aioca plot: {remark}", file=sys.stderr)
    shown = seconds or end - begin
    if output is not None:
        _draw(figure, recordings, shown, end)
        _save(figure, output)
        return 0
    canvas = _window(len(recordings)).canvas
    Chart(canvas.figure, recordings, shown).update(end)
    closed: list[object] = []
    canvas.mpl_connect("close_event", closed.append)
    canvas.draw_idle()
    while not closed:
        canvas.flush_events()  # runs the GUI
        time.sleep(_FRAME_SECONDS / 2)
    return 0


def _empty_picture(output: Path) -> Any:
    """Return a figure for a picture with this name; raises `Failure` if it cannot be written."""
    from matplotlib.figure import Figure

    from ..live.figure import DPI

    figure = Figure(dpi=DPI)
    suffix = output.suffix.lstrip(".").lower()
    known = figure.canvas.get_supported_filetypes()
    if suffix not in known:
        raise Failure(f"{output}: unknown kind of picture; known are {' '.join(sorted(known))}")
    if not output.parent.is_dir():
        raise Failure(f"{output}: its directory does not exist")
    return figure


def _draw(figure: Any, recordings: Sequence[Recording], seconds: float, now: float) -> None:
    from ..live.figure import WIDTH, Chart, height

    figure.set_size_inches(WIDTH, height([recording.kind for recording in recordings]))
    Chart(figure, recordings, seconds).update(now)


def _save(figure: Any, output: Path) -> None:
    try:
        figure.savefig(output)
    except OSError as error:
        raise Failure(f"{output}: {error.strerror}") from None


def _write(recordings: Sequence[Recording], seconds: float, output: Path, backend: str) -> int:
    figure = _empty_picture(output)
    begin = time.time()
    run = Timed(recordings, seconds)
    status = run_command(run.run(), backend)
    missing = [recording.name for recording in recordings if recording.value is None]
    if len(missing) == len(recordings):
        raise Failure(f"not connected: {', '.join(missing)}; nothing was written")
    now = time.time()
    _draw(figure, recordings, max(now - begin, 1.0), now)
    _save(figure, output)
    if run.recorder.dropped:
        print(f"aioca plot: {run.recorder.dropped} updates came too fast: lost", file=sys.stderr)
    if missing:
        raise Failure(f"not connected: {', '.join(missing)}; the others are in {output}")
    return status
