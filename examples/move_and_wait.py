"""Write a setpoint, wait for the processing, then wait for the readback to follow.

Usage: python move_and_wait.py SETPOINT READBACK VALUE
"""

import sys

from aioca import CATimeout, caput, run, wait_for_value


async def move(setpoint: str, readback: str, target: float) -> None:
    await caput(setpoint, target, wait=True, timeout=30)
    try:
        value = await wait_for_value(readback, lambda v: abs(v - target) < 0.01, timeout=10)
    except CATimeout as error:
        print("not there:", error)
    else:
        print("there:", value)


if __name__ == "__main__":
    run(move(sys.argv[1], sys.argv[2], float(sys.argv[3])))
