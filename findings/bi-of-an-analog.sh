#!/bin/bash
# A bi record that reads 5 from an ai is in neither of its two states, and in no alarm.
#
# Versions: EPICS base 7.0.10 (epicscorelibs 7.0.10.99.0.2), pyepics 3.5.10 as client.
# Expected: a bi holds 0 or 1: a number other than 0 that comes over INP is state 1.
# Found: with "Soft Channel" the number goes to VAL as it is, cut to 16 bits: 5 is 5, and 65536
#   is 0. A client gets an enum of 5 with two labels, in NO_ALARM though both states have an alarm.
#   With "Raw Soft Channel" both numbers are state 1.
. "$(dirname "$0")/common.bash"
install pyepics==3.5.10 epicscorelibs==7.0.10.99.0.2 numpy==2.4.6

cat >"$work/state.db" <<'DB'
record(ao, "state:source") { }
record(bi, "state:soft") { field(INP, "state:source") field(ZNAM, "off") field(ONAM, "on")
    field(ZSV, "MINOR") field(OSV, "MAJOR") }
record(bi, "state:raw") { field(INP, "state:source") field(ZNAM, "off") field(ONAM, "on")
    field(DTYP, "Raw Soft Channel") }
DB
soft_ioc "$work/state.db"
client <<'PYTHON'
from epics import caget, caput

def read(name):
    caput(name + ".PROC", 1, wait=True)
    return int(caget(name, use_monitor=False)), int(caget(name + ".SEVR", use_monitor=False))

seen = {}
for number in 1, 5, 65536, 65537:
    caput("state:source", number, wait=True)
    seen[number] = *read("state:soft"), read("state:raw")[0]
print("versions: epicscorelibs 7.0.10.99.0.2, pyepics 3.5.10")
print("expected: state 1 in MAJOR (2) for each number")
for number, (value, severity, raw) in seen.items():
    print(f"  {number}: Soft Channel {value} in severity {severity}, Raw Soft Channel {raw}")
assert seen[5] == (5, 0, 1) and seen[1] == (1, 2, 1), seen
assert seen[65536][:2] == (0, 1) and seen[65537][:2] == (1, 2), seen
print("found: a bi that reads 5 has the value 5 in NO_ALARM, and 65536 is its state 0")
PYTHON
