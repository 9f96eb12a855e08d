#!/bin/bash
# What a setter of epicsdev publishes to its own PV is replaced by the number that was asked for.
#
# Versions: epicsdev 3.3.3, p4p 4.3.0, numpy 2.4.6.
# Expected: a setter gets the value and the PV, `setter(value, spv)`. One that sets a device, reads
#   back what the device took, and publishes this to the PV, makes the PV show it: 50 is asked for,
#   the device takes 10, the PV is 10.
# Found: the PV is 50. After the setter, epicsdev posts the value of the client, over what the setter
#   had posted. The put succeeds. A second PV that the setter publishes to has 10.
. "$(dirname "$0")/common.bash"
install epicsdev==3.3.3 p4p==4.3.0 numpy==2.4.6

cat >"$work/server.py" <<'PYTHON'
import sys
from epicsdev.epicsdev import init_epicsdev, publish
from p4p.server import Server

def set_current(value, spv):
    taken = min(value, 10.0)  # the most that the device can do
    spv.post(taken)
    publish("readback", taken)

pvs = init_epicsdev(
    "PSU:",
    [
        ["current", "setpoint", 1.0, {"features": "W", "setter": set_current}],
        ["readback", "what the device has", 1.0],
    ],
    listDir="",
    autosaveDir=None,
)
with Server(providers=[pvs]):
    print("initialization complete", flush=True)
    sys.stdin.read()
PYTHON
soft_ioc - python "$work/server.py"
client <<'PYTHON'
import time
from p4p.client.thread import Context

seen, updates = {}, []
with Context("pva") as context:
    subscription = context.monitor("PSU:current", lambda value: updates.append(float(value)))
    time.sleep(1)
    for value in (5.0, 50.0):
        context.put("PSU:current", value, timeout=10)
        time.sleep(0.5)
        names = ["PSU:current", "PSU:readback"]
        seen[value] = tuple(float(number) for number in context.get(names, timeout=10))
print("versions: epicsdev 3.3.3, p4p 4.3.0, numpy 2.4.6")
print("expected: after a put of 50, both PVs are 10, as the device can do no more")
for value, (current, readback) in seen.items():
    print(f"  put {value}: the PV of the setter {current}, the second PV {readback}")
print("  last update of the monitor:", updates[-1])
assert seen == {5.0: (5.0, 5.0), 50.0: (50.0, 10.0)}, seen
assert updates[-1] == 50.0, updates
print("found: a setter of epicsdev posts 10 to its PV, and the PV shows 50")
PYTHON
