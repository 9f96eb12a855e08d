#!/bin/bash
# A FastCS setpoint with a minimum of -10 and no maximum turns every positive number into 0.
#
# Versions: fastcs 0.14.4 (its Channel Access transport), softioc 4.7.2, pyepics 3.5.10.
# Expected: `Float(min=-10.0)`, "the minimum allowed value", leaves numbers above -10 as they are.
# Found: 5 and 50 reach the device as 0. The limit that is not given stays 0 in the record (DRVH),
#   which clamps to it. With `Int(max=10)` the lower limit is 0 in the same way: -5 becomes 0. The
#   put-callback succeeds, and there is no alarm. With both limits, or none, all is well.
. "$(dirname "$0")/common.bash"
fastcs_ioc ST <<'PYTHON'
class Device(Controller):
    low = AttrRW(Float(min=-10.0))
    high = AttrRW(Int(max=10))
    both = AttrRW(Float(min=-10.0, max=10.0))
    free = AttrRW(Float())
PYTHON
client <<'PYTHON'
import time
from epics import PV

seen = {}
for name in ("Low", "High", "Both", "Free"):
    setpoint, readback = PV("ST:" + name), PV(f"ST:{name}_RBV")
    severity = PV(f"ST:{name}.SEVR")
    assert all(pv.wait_for_connection(timeout=10) for pv in (setpoint, readback, severity))
    for value in (5, -5):
        assert setpoint.put(value, wait=True, timeout=10) == 1
        time.sleep(0.5)
        seen[name, value] = readback.get(use_monitor=False)
        assert severity.get(use_monitor=False) == 0
print("versions: fastcs 0.14.4, softioc 4.7.2, pyepics 3.5.10")
print("expected: 5 and -5 reach each of the four as they are")
for (name, value), result in seen.items():
    print(f"  {name}: {value} became {result:g}")
assert list(seen.values()) == [0, -5, 5, 0, 5, -5, 5, -5], seen
print("found: Float(min=-10.0) passes 5 on as 0, and Int(max=10) passes -5 on as 0")
PYTHON
