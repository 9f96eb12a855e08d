"""The records of tests/long/servers, served by channel-access-server.

``python casrv_server.py PREFIX MANY`` starts it.

It runs in an environment of its own, which has nothing of this package. Where and at which port,
the environment says. It ends when its standard input does.
"""

from __future__ import annotations

import os
import sys
import threading
import time

import channel_access.common as ca
import channel_access.server as cas

LONG_TEXT = b"a string that is longer than forty characters"
LABELS = ("Off", "Manual", "Automatic")
DOUBLE, LONG, STRING, ENUM = ca.Type.DOUBLE, ca.Type.LONG, ca.Type.STRING, ca.Type.ENUM
NO_ALARM = {"status": ca.Status.NO_ALARM, "severity": ca.Severity.NO_ALARM}
RECORDS = {  # the type, the number of elements, the attributes
    "double": (DOUBLE, None, {"value": 1.5, "precision": 3, "unit": "mm"}),
    "long": (LONG, None, {"value": 42, "unit": "cnt"}),
    "string": (STRING, None, {"value": "hello"}),
    "enum": (ENUM, None, {"value": 1, "enum_strings": LABELS}),
    "text": (ca.Type.CHAR, len(LONG_TEXT), {"value": tuple(LONG_TEXT)}),
    "doubles": (DOUBLE, 3, {"value": (1.5, -2.5, 3.0)}),
    "longs": (LONG, 3, {"value": (1, -2, 3)}),
    "put:double": (DOUBLE, None, {}),
    "put:long": (LONG, None, {}),
    "put:string": (STRING, None, {}),
    "put:enum": (ENUM, None, {"enum_strings": LABELS}),
    "put:text": (ca.Type.CHAR, 100, {}),
    "put:doubles": (DOUBLE, 10, {}),
    "put:longs": (LONG, 10, {}),
    "limits": (
        DOUBLE, None,
        {
            "value": 0.25, "precision": 2, "unit": "V", "display_limits": (-20, 20),
            "control_limits": (-10, 10),
        },
    ),
    "alarms": (DOUBLE, None, {"alarm_limits": (-10, 10), "warning_limits": (-5, 5)}),
    "slow": (DOUBLE, None, {}),
    "ticks": (DOUBLE, None, {}),
    "refuses": (DOUBLE, None, {"value": 7.0}),
}  # fmt: skip


def take_time(pv, value, timestamp, context):
    completion = cas.AsyncWrite(pv, context)
    threading.Timer(0.5, completion.complete, (value,)).start()
    return completion


def end_with_parent() -> None:
    """Thread: end when the standard input does."""
    sys.stdin.read()
    os._exit(0)


def main(prefix: str, many: int) -> None:
    threading.Thread(target=end_with_parent, daemon=True).start()
    with cas.Server() as server:
        made = {}
        for name, (kind, count, attributes) in RECORDS.items():
            made[name] = server.createPV(
                prefix + name, kind, count=count, attributes={**NO_ALARM, **attributes},
                read_only=name == "refuses", write_handler=take_time if name == "slow" else None,
            )  # fmt: skip
        kept = [
            server.createPV(
                f"{prefix}many:{number}", LONG, attributes={**NO_ALARM, "value": number}
            )
            for number in range(many)
        ]
        print("ready", flush=True)
        while len(kept) == many:
            time.sleep(0.1)
            made["ticks"].value += 1


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
