"""A Bluesky scan with ophyd-async devices, whose CA signals go through this package.

    aioca ioc examples/records.db       # in another terminal
    python examples/ophyd_async_scan.py

Needs pip install 'ophyd-async[ca]' (Python 3.11); it runs on asyncio only. Nothing in it knows
that aioca is another one than ophyd-async was written for.
"""

# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# (the annotations of bluesky have gaps)

from __future__ import annotations

from typing import Annotated, Any

from bluesky import RunEngine
from bluesky.plans import scan
from ophyd_async.core import (
    AsyncStatus,
    SignalR,
    SignalRW,
    StandardReadable,
    init_devices,
    set_and_wait_for_other_value,
)
from ophyd_async.core import StandardReadableFormat as Format
from ophyd_async.epics.core import EpicsDevice, PvSuffix


class Stage(EpicsDevice, StandardReadable):
    setpoint: Annotated[SignalRW[float], PvSuffix("SETPOINT")]
    readback: Annotated[SignalR[float], PvSuffix("READBACK"), Format.HINTED_SIGNAL]

    @AsyncStatus.wrap
    async def set(self, value: float) -> None:
        await set_and_wait_for_other_value(
            self.setpoint, value, self.readback, lambda there: abs(there - value) < 0.005
        )


class Detector(EpicsDevice, StandardReadable):
    counts: Annotated[SignalR[float], PvSuffix("DETECTOR"), Format.HINTED_SIGNAL]
    process: Annotated[SignalRW[int], PvSuffix("DETECTOR.PROC")]

    @AsyncStatus.wrap
    async def trigger(self) -> None:
        await self.process.set(1)


def show(name: str, document: Any) -> None:
    if name == "event":
        print("{stage-readback:8.3f} {detector-counts:8.1f}".format(**document["data"]))


if __name__ == "__main__":
    engine = RunEngine()
    with init_devices():
        stage = Stage("ca://")
        detector = Detector("ca://")
    engine(scan([detector], stage, 0, 4, 5), show)
