#!/bin/bash
# An empty list that pyepics writes fills the whole array with zeros.
#
# Versions: pyepics 3.5.10, soft IOC of epicscorelibs 7.0.10.99.0.2.
# Expected: `caput(waveform, [])` empties it (NORD 0), as a put of no elements does in Channel
#   Access; a list of two elements sets NORD to 2.
# Found: two elements do; none sets NORD to NELM, and every element is 0. An array of strings
#   gets NELM empty strings.
. "$(dirname "$0")/common.bash"
install pyepics==3.5.10 epicscorelibs==7.0.10.99.0.2 numpy==2.4.6

cat >"$work/empty.db" <<'DB'
record(waveform, "empty:numbers") { field(NELM, "5") field(FTVL, "DOUBLE") field(INP, [9, 9, 9]) }
record(waveform, "empty:texts") { field(NELM, "4") field(FTVL, "STRING") field(INP, ["a"]) }
DB
soft_ioc "$work/empty.db"
client <<'PYTHON'
from epics import caget, caput

def put(name, value):
    caput(name, value, wait=True)
    return int(caget(name + ".NORD", use_monitor=False)), caget(name, use_monitor=False).tolist()

seen = put("empty:numbers", [1, 2]), put("empty:numbers", []), put("empty:texts", [])
print("versions: pyepics 3.5.10, epicscorelibs 7.0.10.99.0.2")
print("expected: NORD 2 for [1, 2], and 0 for []")
print("[1, 2]:", *seen[0], " []:", *seen[1], " [] of strings:", *seen[2])
assert seen == ((2, [1.0, 2.0]), (5, [0.0] * 5), (4, [""] * 4)), seen
print("found: caput(waveform, []) of pyepics writes NELM zeros; the array is full, not empty")
PYTHON
