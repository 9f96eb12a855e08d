"""The records of tests/long/servers, served by caproto: ``python caproto_server.py PREFIX MANY``.

It runs in an environment of its own, which has nothing of this package. Where and at which port,
the environment says. It ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading

from caproto import ChannelInteger, ChannelType
from caproto.server import PVGroup, pvproperty, run

LONG_TEXT = "a string that is longer than forty characters"
LABELS = ["Off", "Manual", "Automatic"]


class Records(PVGroup):
    double = pvproperty(value=1.5, precision=3, units="mm", name="double")
    long = pvproperty(value=42, units="cnt", name="long")
    string = pvproperty(value="hello", dtype=ChannelType.STRING, name="string")
    enum = pvproperty(value=1, dtype=ChannelType.ENUM, enum_strings=LABELS, name="enum")
    text = pvproperty(value=LONG_TEXT, dtype=ChannelType.CHAR, max_length=100, name="text")
    doubles = pvproperty(value=[1.5, -2.5, 3.0], max_length=10, name="doubles")
    longs = pvproperty(value=[1, -2, 3], max_length=10, name="longs")

    nothing = pvproperty(value="", name="nothing")  # a CHAR, of which it sends no element
    word = pvproperty(value="x", name="word")
    put_double = pvproperty(value=0.0, name="put:double")
    put_long = pvproperty(value=0, name="put:long")
    put_string = pvproperty(value="", dtype=ChannelType.STRING, name="put:string")
    put_enum = pvproperty(value=0, dtype=ChannelType.ENUM, enum_strings=LABELS, name="put:enum")
    put_text = pvproperty(value="", dtype=ChannelType.CHAR, max_length=100, name="put:text")
    put_doubles = pvproperty(value=[0.0], max_length=10, name="put:doubles")
    put_longs = pvproperty(value=[0], max_length=10, name="put:longs")

    limits = pvproperty(
        value=0.25, precision=2, units="V", upper_disp_limit=20.0, lower_disp_limit=-20.0,
        upper_ctrl_limit=10.0, lower_ctrl_limit=-10.0, name="limits",
    )  # fmt: skip
    with_alarms = pvproperty(
        value=0.0, upper_alarm_limit=10.0, lower_alarm_limit=-10.0, upper_warning_limit=5.0,
        lower_warning_limit=-5.0, name="alarms",
    )  # fmt: skip
    slow = pvproperty(value=0.0, name="slow")
    ticks = pvproperty(value=0.0, name="ticks")
    refuses = pvproperty(value=7.0, read_only=True, name="refuses")

    @slow.putter
    async def slow(self, instance, value):
        await asyncio.sleep(0.5)

    @ticks.startup
    async def ticks(self, instance, async_lib):
        while True:
            await async_lib.library.sleep(0.1)
            await instance.write(instance.value + 1)


def end_with_parent() -> None:
    """Thread: end when the standard input does."""
    sys.stdin.read()
    os._exit(0)


async def ready(async_lib) -> None:
    print("ready", flush=True)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    prefix, many = sys.argv[1], int(sys.argv[2])
    served = dict(Records(prefix=prefix).pvdb)
    for number in range(many):
        served[f"{prefix}many:{number}"] = ChannelInteger(value=number)
    run(served, interfaces=["127.0.0.1"], log_pv_names=False, startup_hook=ready)
