"""A scan as a plain script, without async; an interlock ends it.

aioca ioc examples/records.db       # in another terminal
python examples/scan_without_async.py 0 4 1
"""

import argparse

from aioca.blocking import caget, camonitor, caput, wait_for_value
from aioca.types import AugmentedValue


class InterlockError(Exception):
    """The interlock is open."""


def interlock(value: AugmentedValue) -> None:
    """Called with each update. What it raises ends the block, wherever the block waits."""
    if value != 0:
        raise InterlockError(f"{value.name} is {value}")


def move(position: float) -> None:
    def arrived(value: float) -> bool:
        return abs(value - position) < 0.01

    caput("SETPOINT", position, wait=True)
    wait_for_value("READBACK", arrived, timeout=30)


def scan(start: float, stop: float, step: float) -> None:
    position = start
    while position <= stop:
        move(position)
        caput("DETECTOR.PROC", 1, wait=True)
        at, counts = caget(["READBACK", "DETECTOR"], datatype=float)
        print(f"{at:.2f} mm {counts:.0f} counts")
        position += step


def main() -> None:
    parser = argparse.ArgumentParser(description="a scan without async")
    for name in ("start", "stop", "step"):
        parser.add_argument(name, type=float)
    parser.add_argument("--interlock", default="PV1", help="the scan stops unless it is 0 (PV1)")
    options = parser.parse_args()
    home = caget("SETPOINT")
    try:
        with camonitor(options.interlock, interlock):
            scan(options.start, options.stop, options.step)
    except InterlockError as error:
        print("stopped:", error)
    finally:
        caput("SETPOINT", home, wait=True)


if __name__ == "__main__":
    main()
