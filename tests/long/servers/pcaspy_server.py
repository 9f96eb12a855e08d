"""The records of tests/long/servers, served by pcaspy: ``python pcaspy_server.py PREFIX MANY``.

It runs in an environment of its own, which has nothing of this package. Where and at which port,
the environment says. It ends when its standard input does.
"""

from __future__ import annotations

import os
import sys
import threading
import time

from pcaspy import Alarm, Driver, Severity, SimpleServer

LONG_TEXT = "a string that is longer than forty characters"
LABELS = ["Off", "Manual", "Automatic"]
RECORDS = {
    "double": {"type": "float", "value": 1.5, "prec": 3, "unit": "mm"},
    "long": {"type": "int", "value": 42, "unit": "cnt"},
    "string": {"type": "string", "value": "hello"},
    "enum": {"type": "enum", "value": 1, "enums": LABELS},
    "text": {"type": "char", "count": 100, "value": LONG_TEXT},
    "doubles": {"type": "float", "count": 10, "value": [1.5, -2.5, 3.0]},
    "longs": {"type": "int", "count": 10, "value": [1, -2, 3]},
    "put:double": {"type": "float"},
    "put:long": {"type": "int"},
    "put:string": {"type": "string", "value": ""},
    "put:enum": {"type": "enum", "enums": LABELS},
    "put:text": {"type": "char", "count": 100, "value": ""},
    "put:doubles": {"type": "float", "count": 10, "value": [0.0]},
    "put:longs": {"type": "int", "count": 10, "value": [0]},
    "limits": {
        "type": "float", "value": 0.25, "prec": 2, "unit": "V", "hilim": 20, "lolim": -20,
    },
    "alarms": {
        "type": "float", "hihi": 10, "high": 5, "low": -5, "lolo": -10,
    },
    "slow": {"type": "float", "asyn": True},
    "ticks": {"type": "float"},
    "refuses": {"type": "float", "value": 7.0},
}  # fmt: skip


class Records(Driver):
    def __init__(self):
        super().__init__()
        for reason in RECORDS:  # else they are undefined until they are written to
            self.setParamStatus(reason, Alarm.NO_ALARM, Severity.NO_ALARM)

    def write(self, reason, value):
        if reason == "refuses":
            return False
        if reason == "slow":
            threading.Timer(0.5, self.done, args=(reason, value)).start()
            return True
        self.setParam(reason, value)
        self.updatePVs()
        return True

    def done(self, reason, value):
        self.setParam(reason, value)
        self.callbackPV(reason)
        self.updatePVs()


def end_with_parent() -> None:
    """Thread: end when the standard input does."""
    sys.stdin.read()
    os._exit(0)


def main(prefix: str, many: int) -> None:
    threading.Thread(target=end_with_parent, daemon=True).start()
    server = SimpleServer()
    RECORDS.update({f"many:{number}": {"type": "int", "value": number} for number in range(many)})
    server.createPV(prefix, RECORDS)
    records = Records()
    print("ready", flush=True)
    moves = time.monotonic()
    while True:
        server.process(0.02)
        if time.monotonic() > moves:
            moves += 0.1
            records.setParam("ticks", records.getParam("ticks") + 1)
            records.updatePVs()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
