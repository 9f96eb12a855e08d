#!/bin/bash
# A calc record that divides by zero is in no alarm; only 0/0 is, and as UDF, not as CALC.
#
# Versions: EPICS base 7.0.10 (epicscorelibs 7.0.10.99.0.2), pyepics 3.5.10 as client.
# Expected: CALC="A/B" with B=0 gives an INVALID severity and the status CALC, as the manual's
#   "calc alarm" says for an expression that fails.
# Found: 1/0 gives infinity and NO_ALARM; infinity also passes an expression link ({calc: ...})
#   and an ai without alarm. 0/0 gives NaN and INVALID with the status UDF, so that UDFS=NO_ALARM
#   takes that alarm away, too.
. "$(dirname "$0")/common.bash"
install pyepics==3.5.10 epicscorelibs==7.0.10.99.0.2 numpy==2.4.6

cat >"$work/zero.db" <<'DB'
record(calc, "zero:one") { field(INPA, "1") field(CALC, "A/B") }
record(ai, "zero:link") { field(INP, {calc: {expr: "1/0"}}) }
record(calc, "zero:zero") { field(CALC, "A/B") }
record(calc, "zero:udfs") { field(CALC, "A/B") field(UDFS, "NO_ALARM") }
DB
soft_ioc "$work/zero.db"
client <<'PYTHON'
from epics import caget, caput

seen = {}
for name in "zero:one", "zero:link", "zero:zero", "zero:udfs":
    caput(name + ".PROC", 1, wait=True)
    values = [caget(name + field, use_monitor=False) for field in ("", ".SEVR", ".STAT")]
    seen[name] = str(values[0]), int(values[1]), int(values[2])
NO_ALARM, INVALID, UDF = 0, 3, 17  # the status CALC would be 12
print("versions: epicscorelibs 7.0.10.99.0.2, pyepics 3.5.10")
print("expected: severity 3 (INVALID) and status 12 (CALC) for all")
for name, what in seen.items():
    print(f"  {name}: value {what[0]}, severity {what[1]}, status {what[2]}")
assert seen == {
    "zero:one": ("inf", NO_ALARM, 0),
    "zero:link": ("inf", NO_ALARM, 0),
    "zero:zero": ("nan", INVALID, UDF),
    "zero:udfs": ("nan", NO_ALARM, 0),
}, seen
print("found: CALC 1/0 is infinity in NO_ALARM; 0/0 is UDF, and NO_ALARM with UDFS=NO_ALARM")
PYTHON
