#!/bin/bash
# A sel record forgets the inputs A to L that its database file sets; a calc record keeps them.
#
# Versions: EPICS base 7.0.10 (epicscorelibs 7.0.10.99.0.2), pyepics 3.5.10 as client.
# Expected: field(A, "1") field(B, "3") with SELM "High Signal" selects 3, as a calc record with
#   the same fields and CALC="MAX(A,B)" gives 3.
# Found: at iocInit the sel record sets all its inputs to NaN, and then takes constants from INPA
#   to INPL only. "High Signal" among none of them is -infinity, in no alarm. field(INPA, "1") works.
. "$(dirname "$0")/common.bash"
install pyepics==3.5.10 epicscorelibs==7.0.10.99.0.2 numpy==2.4.6

cat >"$work/sel.db" <<'DB'
record(calc, "sel:calc") { field(A, "1") field(B, "3") field(CALC, "MAX(A,B)") }
record(sel, "sel:fields") { field(A, "1") field(B, "3") field(SELM, "High Signal") }
record(sel, "sel:links") { field(INPA, "1") field(INPB, "3") field(SELM, "High Signal") }
DB
soft_ioc "$work/sel.db"
client <<'PYTHON'
from epics import caget, caput

seen = []
for name in "sel:calc", "sel:fields", "sel:links":
    caput(name + ".PROC", 1, wait=True)
    seen.append(tuple(str(caget(name + f, use_monitor=False)) for f in ("", ".A", ".SEVR")))
print("versions: epicscorelibs 7.0.10.99.0.2, pyepics 3.5.10")
print("expected: value 3.0, A 1.0, severity 0 for each of them")
print("calc with A, B:", *seen[0], " sel with A, B:", *seen[1], " sel with INPA, INPB:", *seen[2])
assert seen == [("3.0", "1.0", "0"), ("-inf", "nan", "0"), ("3.0", "1.0", "0")], seen
print("found: field(A, ...) of a sel record is NaN once the IOC runs, and selects -inf in NO_ALARM")
PYTHON
