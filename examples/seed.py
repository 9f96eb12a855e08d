"""The smallest program: write, read, monitor until Ctrl-C.

aioca ioc examples/records.db       # in another terminal
python examples/seed.py
"""

from aioca import caget, camonitor, caput, run
from aioca.types import AugmentedValue


async def do_stuff() -> None:
    await caput("PV1", 1234)
    print(await caget("PV2"))

    def callback(value: AugmentedValue) -> None:
        print("callback", value)

    camonitor("PV3", callback)


if __name__ == "__main__":
    run(do_stuff(), forever=True)
