"""A monitor that a trio nursery owns: an error in its callback cancels the nursery.

aioca ioc examples/records.db       # in another terminal
python examples/nursery_scoped_monitor.py PV3 50
"""

from __future__ import annotations

import sys

import trio

from aioca import camonitor
from aioca.types import AugmentedValue


class TooHighError(Exception):
    """The interlock of this program."""


async def main(pv: str, limit: float) -> None:
    def check(value: AugmentedValue) -> None:
        print(value.name, value)
        if +value > limit:
            raise TooHighError(f"{value.name} is {value}")

    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            print("work was cancelled")

    try:
        async with trio.open_nursery() as nursery:
            camonitor(pv, check, task_group=nursery)
            nursery.start_soon(work)
    except Exception as group:  # a nursery raises a group; from Python 3.11 on there is except*
        print("stopped:", *getattr(group, "exceptions", [group]))


if __name__ == "__main__":
    trio.run(main, sys.argv[1], float(sys.argv[2]))
