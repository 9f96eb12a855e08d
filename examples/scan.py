"""A step scan with a progress bar: move, trigger, read, write a line; go back at the end.

    aioca ioc examples/records.db       # in another terminal
    python examples/scan.py SETPOINT READBACK DETECTOR 0 4 9 -o scan.csv

Ctrl-C stops it: the stage goes back then too. Needs rich: pip install 'aioca[cli]'.
"""

from __future__ import annotations

import argparse
import csv
import sys

import anyio
from rich.progress import Progress

from aioca import caget, caput, run, wait_for_value
from aioca.types import AugmentedValue


async def move(setpoint: str, readback: str, target: float) -> None:
    def near(value: AugmentedValue) -> bool:
        return bool(abs(+value - target) < 0.005)

    await caput(setpoint, target, wait=True, timeout=30)
    await wait_for_value(readback, near, timeout=30)


async def scan(
    setpoint: str, readback: str, detector: str, positions: list[float], file: str
) -> None:
    before = await caget(setpoint)
    try:
        with open(file, "w", newline="") as lines, Progress() as progress:
            csv.writer(lines).writerow([readback, detector])
            for position in progress.track(positions, description=setpoint):
                await move(setpoint, readback, position)
                await caput(f"{detector}.PROC", 1, wait=True, timeout=30)
                csv.writer(lines).writerow(await caget([readback, detector]))
    finally:
        with anyio.CancelScope(shield=True):
            await caput(setpoint, before, wait=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Scan a stage, and count at each position.")
    parser.add_argument("pvs", nargs=3, metavar="PV", help="setpoint, readback, detector")
    parser.add_argument("start", type=float)
    parser.add_argument("stop", type=float)
    parser.add_argument("steps", type=int, help="how many positions, 2 or more")
    parser.add_argument("-o", "--output", default="scan.csv", metavar="FILE")
    parser.add_argument("--backend", default="asyncio", choices=["asyncio", "trio"])
    o = parser.parse_args()
    positions = [o.start + (o.stop - o.start) * i / (o.steps - 1) for i in range(o.steps)]
    try:
        run(scan(o.pvs[0], o.pvs[1], o.pvs[2], positions, o.output), backend=o.backend)
    except KeyboardInterrupt:
        sys.exit("stopped")
