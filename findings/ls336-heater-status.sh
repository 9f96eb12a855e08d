#!/bin/bash
# The heater status of ls336-ioc cannot be read while the controller answers.
#
# Versions: ls336-ioc 0.3.0, caproto 1.3.0, PyVISA-sim 0.7.1 (a simulated Lake Shore 336), pyepics 3.5.10.
# Expected: HEATER1_STAT, an enum of "no error", "open load" and "short", shows the answer to
#   `HTRST? 1`; a text that is none of its labels would be refused by caproto, and the label remain.
# Found: the IOC writes the answer to `HTR? 1`, a percentage. caproto stores this text in the enum. Each
#   read then fails with status 142 (an internal failure of Channel Access); the PV stays connected, and
#   the other PVs of the IOC are right.
. "$(dirname "$0")/common.bash"
install ls336-ioc==0.3.0 caproto==1.3.0 PyVISA-sim==0.7.1 PyVISA-py==0.8.1 pyepics==3.5.10 \
    epicscorelibs==7.0.10.99.0.2 numpy==2.4.6

cat >"$work/server.py" <<'PYTHON'
import asyncio
import itertools

from caproto.asyncio.server import start_server
from ls336_ioc.application import Application

# The answers of a controller at 294.5 K, whose heaters are at 25 and 50 percent
answers = {"*IDN?": "LSCI,MODEL336,LSA133P/#######,2.9"}
inputs = {"KRDG": "+294.50", "TLIMIT": "+450.0", "HTRST": "0", "ALARMST": "0,0", "RDGST": "000"}
outputs = {
    "HTRSET": "1,2,+1.000,2", "HTRST": "0", "OUTMODE": "1,1,0", "PID": "+50.0,+20.0,+0.0",
    "RAMP": "0,+1.0", "RANGE": "3", "RELAY": "1,A,2", "SETP": "+295.0", "RAMPST": "0",
    "ZONE": "+100,+50,+20,+0,+0,1,1,+1", "RELAYST": "0", "RDGST": "000", "AOUT": "+10.0",
    "WARMUP": "1,+100.0",
}
answers |= {f"{name}? {n}": text for name, text in inputs.items() for n in "ABCD"}
answers |= {f"{name}? {n}": text for name, text in outputs.items() for n in "1234"}
answers |= {"HTR? 1": "+25.0", "HTR? 2": "+50.0", "OPST?": "0", "OPSTE?": "0", "OPSTR?": "0"}
dialogues = "".join(f'      - {{q: "{asked}", r: "{text}"}}\n' for asked, text in answers.items())
simulated = f"""\
spec: "1.1"
devices:
  controller:
    eom:
      ASRL INSTR: {{q: "\\r\\n", r: "\\r\\n"}}
    dialogues:
{dialogues}resources:
  ASRL1::INSTR:
    device: controller
"""
path = __file__.replace("server.py", "ls336.yaml")
with open(path, "w") as file:
    file.write(simulated)

async def main():
    app = Application("LS:", dev="ASRL1::INSTR", rman=f"{path}@sim")
    ready = lambda: print("initialization complete", flush=True)
    asyncio.get_running_loop().call_later(3, ready)
    await start_server(app.ioc.pvdb, interfaces=["127.0.0.1"], log_pv_names=False)

asyncio.run(main())
PYTHON
soft_ioc - python "$work/server.py"
client <<'PYTHON'
from epics import PV
from epics.ca import ChannelAccessGetFailure

rows = {}
for name in "krdg1_RBV", "HEATER1_OUT_RBV", "HEATER1_STAT":
    pv = PV("LS:" + name, auto_monitor=False)
    assert pv.wait_for_connection(timeout=10), name
    try:
        rows[name] = pv.get(timeout=10)
    except ChannelAccessGetFailure as error:
        rows[name] = f"status {error.status}"
print("versions: ls336-ioc 0.3.0, caproto 1.3.0")
print("expected: temperature 294.5, heater at 25 percent, status 0 (no error)")
for name, row in rows.items():
    print(f"{name}: {row}")
assert list(rows.values()) == [294.5, 25, "status 142"], rows
print("found: each read of HEATER1_STAT of ls336-ioc fails with status 142")
PYTHON
