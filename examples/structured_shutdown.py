"""Structured shutdown: whatever ends the program, the heater is off before it is gone.

    aioca ioc examples/records.db       # in another terminal
    python examples/structured_shutdown.py HEATER TEMPERATURE

Ctrl-C and SIGTERM cancel one scope, and so do an interlock (--limit 80) and a lost IOC. The last
values are written in a shielded block: the cancellation that led there does not cancel them.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from aioca import camonitor, caput, run
from aioca.types import AugmentedValue


@asynccontextmanager
async def enabled(heater: str) -> AsyncGenerator[None]:
    pvs = [heater, f"{heater}:ENABLE"]
    await caput(pvs, [0, "On"], wait=True)
    try:
        yield
    finally:
        # A deadline of its own, so that a server that is gone cannot keep the program here.
        with anyio.CancelScope(shield=True):
            results = await caput(pvs, [0, "Off"], wait=True, timeout=2, throw=False)
            print("the heater is off" if all(results) else f"CHECK THE HEATER: {results}")


async def ramp(heater: str) -> None:
    for power in range(0, 101, 5):
        await caput(heater, power, wait=True)
        await anyio.sleep(0.5)


async def control(heater: str, temperature: str, limit: float) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with enabled(heater), anyio.create_task_group() as tasks:

            def check(value: AugmentedValue) -> None:
                print(value)
                if not value.ok or +value > limit:
                    print("interlock")
                    tasks.cancel_scope.cancel()

            camonitor(temperature, check, notify_disconnect=True, task_group=tasks)
            tasks.start_soon(ramp, heater)
            print((await anext(signals)).name)
            tasks.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Heat until told to stop.")
    parser.add_argument("heater", help="a PV with another one for its switch, :ENABLE")
    parser.add_argument("temperature")
    parser.add_argument("--limit", type=float, default=200)
    parser.add_argument("--backend", default="asyncio", choices=["asyncio", "trio"])
    o = parser.parse_args()
    run(control(o.heater, o.temperature, o.limit), backend=o.backend)
