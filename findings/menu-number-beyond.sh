#!/bin/bash
# An IOC takes the number 50 for the field SCAN, which has ten choices; the record is dead then.
#
# Versions: EPICS base 7.0.10 (epicscorelibs 7.0.10.99.0.2), pyepics 3.5.10 as client.
# Expected: a number beyond the choices of a menu is refused, as a text that is no choice is.
# Found: it is stored. The record is not scanned any more, and no alarm tells it.
. "$(dirname "$0")/common.bash"
install pyepics==3.5.10 epicscorelibs==7.0.10.99.0.2 numpy==2.4.6

cat >"$work/scan.db" <<'DB'
record(calc, "scan") { field(SCAN, ".1 second") field(CALC, "VAL+1") }
DB
soft_ioc "$work/scan.db"
client <<'PYTHON'
import time
from epics import caget, caput

def scans():
    before = caget("scan", use_monitor=False, timeout=10)
    time.sleep(1)
    return caget("scan", use_monitor=False, timeout=10) - before

running = scans()
caput("scan.SCAN", 50, wait=True)
stopped = scans()
number = caget("scan.SCAN", use_monitor=False)
severity = caget("scan.SEVR", use_monitor=False)
print("versions: epicscorelibs 7.0.10.99.0.2, pyepics 3.5.10")
print("expected: SCAN stays at 9, '.1 second', and the record is scanned ten times a second")
print(f"scans in a second: {running:.0f} before, {stopped:.0f} after; SCAN {number}, SEVR {severity}")
assert running > 5 and (stopped, number, severity) == (0, 50, 0), (running, stopped, number, severity)
print("found: 50 written to SCAN is stored, and the record is not scanned any more, in NO_ALARM")
PYTHON
