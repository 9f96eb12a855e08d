"""Write a setpoint, wait for the processing, then wait for the readback to follow.

aioca ioc examples/records.db       # in another terminal
python examples/move_and_wait.py SETPOINT READBACK 3
"""

from __future__ import annotations

import argparse

from aioca import CATimeout, caput, run, wait_for_value
from aioca.types import AugmentedValue


async def move(setpoint: str, readback: str, target: float, timeout: float) -> None:
    def near(value: AugmentedValue) -> bool:
        return bool(abs(+value - target) < 0.01)

    await caput(setpoint, target, wait=True, timeout=timeout)
    try:
        value = await wait_for_value(readback, near, timeout=timeout)
    except CATimeout as error:
        print("not there:", error)
    else:
        print("there:", value)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Move, and wait until it is there.")
    parser.add_argument("setpoint", help="the PV to write to")
    parser.add_argument("readback", help="the PV that follows")
    parser.add_argument("target", type=float)
    parser.add_argument("--timeout", type=float, default=10, help="seconds for each of the two")
    parser.add_argument("--backend", default="asyncio", choices=["asyncio", "trio"])
    o = parser.parse_args()
    run(move(o.setpoint, o.readback, o.target, o.timeout), backend=o.backend)
