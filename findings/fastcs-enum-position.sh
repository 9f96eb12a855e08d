#!/bin/bash
# A FastCS enum with OFF = 0 and ON = 1 is switched off by a written 1, if ON comes first.
#
# Versions: fastcs 0.14.4 (its Channel Access transport), softioc 4.7.2, pyepics 3.5.10.
# Expected: the members of an IntEnum have numbers, so a client that writes 1 to the PV gets the
#   member whose number is 1, and one that reads it as a number gets that number.
# Found: the number of a choice is the position of the member in the class. In `class Beam(IntEnum):
#   ON = 1; OFF = 0` the number 1 is OFF, and 0 is ON. Members 10, 20 and 5 are 0, 1 and 2. The names
#   are right, so a display that shows the text looks well.
. "$(dirname "$0")/common.bash"
fastcs_ioc SRC <<'PYTHON'
class Beam(enum.IntEnum):
    ON = 1
    OFF = 0

class Rate(enum.IntEnum):
    SLOW = 10
    FAST = 20
    IDLE = 5

class Device(Controller):
    beam = AttrRW(Enum(Beam), initial_value=Beam.OFF)
    rate = AttrRW(Enum(Rate))
PYTHON
client <<'PYTHON'
import time
from epics import PV

seen = []
for name, value in (("Beam", 1), ("Beam", 0), ("Rate", "FAST"), ("Rate", "IDLE")):
    setpoint, readback = PV("SRC:" + name), PV(f"SRC:{name}_RBV")
    assert all(pv.wait_for_connection(timeout=10) for pv in (setpoint, readback))
    assert setpoint.put(value, wait=True, timeout=10) == 1
    time.sleep(0.5)
    text = readback.get(as_string=True, use_monitor=False)
    seen.append((name, value, text, int(readback.get(use_monitor=False))))
print("versions: fastcs 0.14.4, softioc 4.7.2, pyepics 3.5.10")
print("expected: 1 is ON, 0 is OFF; FAST reads as 20, IDLE as 5")
for name, value, text, number in seen:
    print(f"  {name}: wrote {value!r}, the device has {text}, which reads as {number}")
assert seen == [
    ("Beam", 1, "OFF", 1),
    ("Beam", 0, "ON", 0),
    ("Rate", "FAST", "FAST", 1),
    ("Rate", "IDLE", "IDLE", 2),
], seen
print("found: with ON = 1 before OFF = 0 in an Enum of FastCS, a written 1 is OFF and 0 is ON")
PYTHON
