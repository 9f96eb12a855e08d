#!/bin/bash
# In a CALC expression -A**2 is the square of -A, so EXP(-A**2) grows; and 2**3**2 is 64.
#
# Versions: EPICS base 7.0.10 (epicscorelibs 7.0.10.99.0.2), read with pyepics 3.5.10.
# Expected: as in Python, Fortran and on paper: a power binds closer than the sign before it, so -3**2
#   is -9, and powers group from the right, so 2**3**2 is 512. A bell curve is EXP(-A**2).
# Found: the sign goes first: -3**2 is 9, and EXP(-A**2) is 54.6 for A=2, not 0.018. Powers group
#   from the left. 0-3**2 is -9, so a term that is moved to the front of a sum changes its sign.
. "$(dirname "$0")/common.bash"
install epicscorelibs==7.0.10.99.0.2 pyepics==3.5.10 numpy==2.4.6

cat >"$work/power.db" <<'DB'
record(calc, "power:bell") { field(INPA, "2") field(CALC, "EXP(-A**2)") }
record(calc, "power:sign") { field(INPA, "3") field(CALC, "-A**2") }
record(calc, "power:caret") { field(INPA, "3") field(CALC, "-A^2") }
record(calc, "power:zero") { field(INPA, "3") field(CALC, "0-A**2") }
record(calc, "power:front") { field(INPA, "3") field(CALC, "-A**2+1") }
record(calc, "power:back") { field(INPA, "3") field(CALC, "1-A**2") }
record(calc, "power:chain") { field(CALC, "2**3**2") }
DB
soft_ioc "$work/power.db"
client <<'PYTHON'
from math import exp
from epics import PV

print("versions: epicscorelibs 7.0.10.99.0.2 (EPICS base 7.0.10), pyepics 3.5.10")
print("expected: a power before the sign in front of it, and powers from the right")
guess = {"bell": exp(-4), "sign": -9, "caret": -9, "zero": -9, "front": -8, "back": -8, "chain": 512}
seen = {}
for name in guess:
    expression, process, value = (PV(f"power:{name}{end}") for end in (".CALC", ".PROC", ""))
    assert all(pv.wait_for_connection(timeout=10) for pv in (expression, process, value))
    process.put(1, wait=True, timeout=10)
    seen[name] = value.get(use_monitor=False)
    print(f"  {expression.get()}: expected {guess[name]:.4g}, seen {seen[name]:.4g}")
assert round(seen.pop("bell"), 1) == 54.6, seen
assert list(seen.values()) == [9, 9, -9, 10, -8, 64], seen
print("found: in CALC -A**2 is 9 for A=3, EXP(-A**2) is 54.6 for A=2, and 2**3**2 is 64")
PYTHON
