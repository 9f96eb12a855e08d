"""The smallest program: write, read, monitor until Ctrl-C."""

from aioca import caget, camonitor, caput, run


async def do_stuff():
    await caput("PV1", 1234)
    print(await caget("PV2"))

    def callback(value):
        print("callback", value)

    camonitor("PV3", callback)


if __name__ == "__main__":
    run(do_stuff(), forever=True)
