#!/bin/bash
# The alarm limits of a FastCS attribute raise no alarm: they become limits of the display.
#
# Versions: fastcs 0.14.4, softioc 4.7.2, pyepics 3.5.10.
# Expected: `Int(min_alarm=2, max_alarm=8)`, whose values beyond "will be set with an alarm state",
#   has an alarm at 9, and 2 and 8 as its alarm limits (LOLO or LOW, HIGH or HIHI).
# Found: 9 and 1 have no alarm. The limits are in LOPR and HOPR, the range that a display shows, and
#   the alarm limits of the record are not set.
. "$(dirname "$0")/common.bash"
fastcs_ioc COOL <<'PYTHON'
class Device(Controller):
    flow = AttrRW(Int(units="l/min", min_alarm=2, max_alarm=8))
PYTHON
client <<'PYTHON'
import time
from epics import PV

flow = PV("COOL:Flow")
readback = PV("COOL:Flow_RBV", form="ctrl")
assert flow.wait_for_connection(timeout=10) and readback.wait_for_connection(timeout=10)
severities = []
for value in (5, 9, 1):
    assert flow.put(value, wait=True, timeout=10) == 1
    time.sleep(0.5)
    found = readback.get_with_metadata(form="ctrl", use_monitor=False)
    assert found["value"] == value
    severities.append(found["severity"])
limits = {name: found[name] for name in (
    "lower_alarm_limit", "upper_alarm_limit", "lower_disp_limit", "upper_disp_limit")}
print("versions: fastcs 0.14.4, softioc 4.7.2, pyepics 3.5.10")
print("expected: with min_alarm=2 and max_alarm=8, the values 9 and 1 have an alarm")
print("severity at 5, 9, 1:", severities)
print("limits:", limits)
assert severities == [0, 0, 0], severities
assert list(limits.values()) == [0, 0, 2, 8], limits
print("found: no value has an alarm; 2 and 8 are the limits of the display")
PYTHON
