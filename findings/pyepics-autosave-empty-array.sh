#!/bin/bash
# epics.autosave of pyepics saves an empty array with the value of the PV before it in the list.
#
# Versions: pyepics 3.5.10, pyparsing 3.2.5, soft IOC of epicscorelibs 7.0.10.99.0.2.
# Expected: `save_pvs` writes each PV with its own value; for an array without elements an empty
#   one, or it leaves the PV out and says so.
# Found: the line of the empty array has the value of the line before. `restore_pvs` then writes
#   this value to the array, and says that all went well.
. "$(dirname "$0")/common.bash"
install pyepics==3.5.10 pyparsing==3.2.5 epicscorelibs==7.0.10.99.0.2 numpy==2.4.6

cat >"$work/save.db" <<'DB'
record(waveform, "save:full") { field(NELM, "3") field(FTVL, "DOUBLE") field(INP, [7, 8, 9]) }
record(waveform, "save:empty") { field(NELM, "3") field(FTVL, "DOUBLE") }
DB
printf '%s\n' save:full save:empty >"$work/save.req"
soft_ioc "$work/save.db"
export work
client <<'PYTHON'
import os, time
from epics import PV
from epics.autosave import restore_pvs, save_pvs

work = os.environ["work"]
empty = PV("save:empty", auto_monitor=False)
assert empty.wait_for_connection(timeout=10)
before = empty.get().tolist()
save_pvs(work + "/save.req", work + "/save.sav")
lines = [line for line in open(work + "/save.sav").read().splitlines() if line.startswith("save:")]
restored = restore_pvs(work + "/save.sav")
time.sleep(1)
after = empty.get().tolist()
print("versions: pyepics 3.5.10, epicscorelibs 7.0.10.99.0.2")
print("expected: the file has no elements for save:empty, and restoring leaves it empty")
print("in the file:", *lines, sep="\n  ")
print("save:empty before:", before, "restored:", restored, "after:", after)
assert lines == ["save:full @array@ [7.0, 8.0, 9.0]", "save:empty @array@ [7.0, 8.0, 9.0]"], lines
assert (before, restored, after) == ([], True, [7.0, 8.0, 9.0]), (before, restored, after)
print("found: epics.autosave saves an empty waveform with the elements of the PV before it")
PYTHON
