#!/bin/bash
# The CA client of ophyd-epicsrs reads an empty array as an array full of zeros.
#
# Versions: ophyd-epicsrs 0.13.0, pyepics 3.5.10 for comparison, numpy 2.4.6, soft IOC of
#   epicscorelibs 7.0.10.99.0.2.
# Expected: a waveform has the elements that it has (NORD), as with the tools of EPICS 7 and pyepics.
# Found: `get_with_metadata` gives all elements of NELM, with zeros behind those of the record. So
#   nothing tells [1.5, 2.5] from [1.5, 2.5, 0.0], and an empty array from a reading of zeros.
. "$(dirname "$0")/common.bash"
install ophyd-epicsrs==0.13.0 pyepics==3.5.10 epicscorelibs==7.0.10.99.0.2 numpy==2.4.6

cat >"$work/pad.db" <<'DB'
record(waveform, "pad:two") { field(NELM, "4") field(FTVL, "DOUBLE") field(INP, [1.5, 2.5]) }
record(waveform, "pad:none") { field(NELM, "4") field(FTVL, "DOUBLE") }
record(waveform, "pad:text") { field(NELM, "3") field(FTVL, "STRING") field(INP, ["a"]) }
DB
cat >"$work/pyepics.py" <<'PYTHON'
from epics import caget

print([list(caget(name, timeout=10)) for name in ("pad:two", "pad:none")])
PYTHON
soft_ioc "$work/pad.db"
pyepics=$(python "$work/pyepics.py" 2>"$work/pyepics.log" | sed 's/np.float64(\([0-9.]*\))/\1/g')
echo "versions: ophyd-epicsrs 0.13.0, pyepics 3.5.10, epicscorelibs 7.0.10.99.0.2"
echo "expected: [1.5, 2.5], [] and ['a']"
echo "pyepics: $pyepics"
[ "$pyepics" = "[[1.5, 2.5], []]" ]
client <<'PYTHON'
from ophyd_epicsrs import get_ca_context

pvs = [get_ca_context().create_pv(name) for name in ("pad:two", "pad:none", "pad:text")]
assert all(pv.wait_for_connection(10) for pv in pvs)
seen = [list(pv.get_with_metadata()["value"]) for pv in pvs]
print("ophyd-epicsrs:", *seen)
assert seen == [[1.5, 2.5, 0, 0], [0, 0, 0, 0], ["a", "", ""]], seen
print("found: ophyd-epicsrs reads an empty waveform of NELM 4 as [0, 0, 0, 0]")
PYTHON
