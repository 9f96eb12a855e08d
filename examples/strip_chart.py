"""A strip chart with matplotlib, until Ctrl-C: in a window, or in a picture at the end.

    aioca ioc examples/records.db       # in another terminal
    python examples/strip_chart.py SINE NOISE READBACK
    python examples/strip_chart.py SINE NOISE READBACK --seconds 20 -o chart.png

Needs matplotlib: pip install 'aioca[plot]'. Drawing keeps the event loop busy for a while; what
comes meanwhile is drawn the next time, thanks to all_updates.
"""
# pyright: reportUnknownMemberType=false
# (the annotations of matplotlib have gaps)

from __future__ import annotations

import argparse
import math
import signal
import time

import anyio
import matplotlib.pyplot as plt

from aioca import FORMAT_TIME, camonitor, run
from aioca.types import AugmentedValue


async def chart(pvs: list[str], seconds: float, output: str | None) -> None:
    figure, grid = plt.subplots(len(pvs), 1, sharex=True, squeeze=False, layout="constrained")
    points: list[list[tuple[float, float]]] = [[(0, math.nan)] for _ in pvs]
    for number, pv in enumerate(pvs):
        grid[number, 0].set_ylabel(pv)
        grid[number, 0].plot([], [], f"C{number}", drawstyle="steps-post")
    grid[-1, 0].set_xlabel("seconds")
    start = time.time()

    def keep(value: AugmentedValue, index: int) -> None:
        stamp = value.timestamp if value.ok else time.time()
        points[index].append((max(0.0, stamp - start), +value if value.ok else math.nan))

    def draw() -> None:
        for axes, trace in zip(grid[:, 0], points, strict=True):
            held = (time.time() - start, trace[-1][1])  # the last value, up to now
            axes.lines[0].set_data(*zip(*trace, held, strict=True))
            axes.relim()
            axes.autoscale_view()
        figure.canvas.draw_idle()
        figure.canvas.flush_events()

    if output is None:
        plt.show(block=False)
    with anyio.open_signal_receiver(signal.SIGINT) as signals:
        async with anyio.create_task_group() as tasks:

            async def until_ctrl_c() -> None:
                await anext(signals)
                tasks.cancel_scope.cancel()

            tasks.start_soon(until_ctrl_c)
            camonitor(
                pvs, keep, format=FORMAT_TIME, all_updates=True, notify_disconnect=True,
                task_group=tasks,
            )  # fmt: skip
            while time.time() - start < seconds and plt.fignum_exists(figure.number):
                await anyio.sleep(0.1)
                draw()
            tasks.cancel_scope.cancel()
    if output is not None:
        figure.savefig(output, dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw PVs as they come.")
    parser.add_argument("pvs", nargs="+", metavar="PV")
    parser.add_argument("--seconds", type=float, default=math.inf)
    parser.add_argument("-o", "--output", metavar="FILE", help="a picture, in place of a window")
    parser.add_argument("--backend", default="asyncio", choices=["asyncio", "trio"])
    o = parser.parse_args()
    if o.output:
        plt.switch_backend("Agg")
    run(chart(o.pvs, o.seconds, o.output), backend=o.backend)
