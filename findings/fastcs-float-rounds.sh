#!/bin/bash
# A FastCS device gets 0.0 when a client writes 0.004: Float rounds to two decimals by default.
#
# Versions: fastcs 0.14.4, softioc 4.7.2, pyepics 3.5.10.
# Expected: `prec`, "number of decimal places to represent value", is for displays, as PREC is in a
#   record: the device gets the number that was written.
# Found: the device gets the number rounded to `prec` decimals, and `prec` is 2 unless it is given.
#   The setpoint goes on to show 0.004, the put-callback succeeds, and there is no alarm.
. "$(dirname "$0")/common.bash"
fastcs_ioc PSU <<'PYTHON'
class Device(Controller):
    current = AttrRW(Float(units="A"))
    trim = AttrRW(Float(units="A", prec=6))
PYTHON
client <<'PYTHON'
import time
from epics import PV

seen = []
for name in ("Current", "Trim"):
    setpoint, readback = PV("PSU:" + name), PV(f"PSU:{name}_RBV")
    assert setpoint.wait_for_connection(timeout=10) and readback.wait_for_connection(timeout=10)
    for value in (1.0, 0.004):  # the first write also sets the setpoint, to what the device got
        assert setpoint.put(value, wait=True, timeout=10) == 1
        time.sleep(0.5)
    seen.append((setpoint.get(use_monitor=False), readback.get(use_monitor=False)))
    severity = PV(f"PSU:{name}.SEVR")
    assert severity.wait_for_connection(timeout=10) and severity.get() == 0
print("versions: fastcs 0.14.4, softioc 4.7.2, pyepics 3.5.10")
print("expected: after a put of 0.004, the setpoint and the readback are 0.004")
print("Float():       setpoint", seen[0][0], "readback", seen[0][1])
print("Float(prec=6): setpoint", seen[1][0], "readback", seen[1][1])
assert seen == [(0.004, 0.0), (0.004, 0.004)], seen
print("found: Float() of FastCS passes 0.004 on as 0.0")
PYTHON
