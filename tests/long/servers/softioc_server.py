"""The records of tests/long/servers, served by pythonSoftIOC.

``python softioc_server.py PREFIX MANY`` starts it.

It runs in an environment of its own, which has nothing of this package. Where and at which port,
the environment says. It ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import os
import sys

import numpy as np
from softioc import asyncio_dispatcher, builder, softioc

LONG_TEXT = "a string that is longer than forty characters"
LABELS = ("Off", "Manual", "Automatic")


def make_records():
    """Make them all; the one that moves by itself is returned."""
    builder.aOut("double", initial_value=1.5, PREC=3, EGU="mm")
    builder.longOut("long", initial_value=42, EGU="cnt")
    builder.stringOut("string", initial_value="hello")
    builder.mbbOut("enum", *LABELS, initial_value=1)
    builder.longStringOut("text", length=100, initial_value=LONG_TEXT)
    builder.WaveformOut("doubles", length=10, datatype=float, initial_value=[1.5, -2.5, 3.0])
    builder.WaveformOut("longs", length=10, datatype="int32", initial_value=[1, -2, 3])

    builder.aOut("put:double", initial_value=0)
    builder.longOut("put:long", initial_value=0)
    builder.stringOut("put:string", initial_value="")
    builder.mbbOut("put:enum", *LABELS, initial_value=0)
    builder.longStringOut("put:text", length=100, initial_value="")
    builder.WaveformOut("put:doubles", length=10, datatype=float, initial_value=np.zeros(1))
    builder.WaveformOut("put:longs", length=10, datatype="int32", initial_value=[0])

    builder.aOut(
        "limits", initial_value=0.25, EGU="V", PREC=2, HOPR=20, LOPR=-20, DRVH=10, DRVL=-10
    )
    builder.aOut(
        "alarms", initial_value=0, HIHI=10, HIGH=5, LOW=-5, LOLO=-10,
        HHSV="MAJOR", HSV="MINOR", LSV="MINOR", LLSV="MAJOR",
    )  # fmt: skip

    async def take_time(_):
        await asyncio.sleep(0.5)

    builder.aOut("slow", initial_value=0, always_update=True, blocking=True, on_update=take_time)

    def fail(_, value):
        raise ValueError(value)

    builder.aOut("validated", initial_value=1, validate=lambda _, value: value < 10)
    builder.aOut("validate:fails", initial_value=1, validate=fail)
    builder.longStringOut("word", initial_value="x")
    builder.aOut("refuses", initial_value=7, DISP=1)
    return builder.aIn("ticks", initial_value=0)


def main(prefix: str, many: int) -> None:
    dispatcher = asyncio_dispatcher.AsyncioDispatcher()
    builder.SetDeviceName(prefix.rstrip(":"))
    ticks = make_records()
    for number in range(many):
        builder.longOut(f"many:{number}", initial_value=number)
    builder.LoadDatabase()
    softioc.iocInit(dispatcher, enable_pva=False)

    async def move() -> None:
        while True:
            await asyncio.sleep(0.1)
            ticks.set(ticks.get() + 1)

    dispatcher(move)
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
