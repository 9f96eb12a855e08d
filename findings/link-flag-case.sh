#!/bin/bash
# A link flag in lower case, or one that is misspelt, is dropped in silence: "ms" is NMS.
#
# Versions: EPICS base 7.0.10 (epicscorelibs 7.0.10.99.0.2), pyepics 3.5.10 as client.
# Expected: dbLoadRecords refuses field(INP, "source ms") with an error, as it refuses a choice of
#   a menu that differs in case (SCAN "passive": "Did you mean ...").
# Found: the file loads without a word, and the link reads back as "source NPP NMS": no alarm comes
#   through, and the source is not processed ("pp"). The same for any other word (MAS).
. "$(dirname "$0")/common.bash"
install pyepics==3.5.10 epicscorelibs==7.0.10.99.0.2 numpy==2.4.6

cat >"$work/flags.db" <<'DB'
record(ao, "flag:source") { field(HIGH, "1") field(HSV, "MAJOR") }
record(ai, "flag:MS") { field(INP, "flag:source MS") }
record(ai, "flag:ms") { field(INP, "flag:source ms") }
record(ai, "flag:typo") { field(INP, "flag:source MAS PP") }
DB
soft_ioc "$work/flags.db"
! grep -iE 'error|warn' "$work/ioc.log"
client <<'PYTHON'
from epics import caget, caput

caput("flag:source", 5, wait=True)
seen = []
for name in "flag:MS", "flag:ms", "flag:typo":
    caput(name + ".PROC", 1, wait=True)
    seen.append((caget(name + ".INP"), int(caget(name + ".SEVR", use_monitor=False))))
print("versions: epicscorelibs 7.0.10.99.0.2, pyepics 3.5.10")
print('expected: an error at "flag:source ms" and "flag:source MAS PP"')
print("seen:", *seen)
assert seen == [
    ("flag:source NPP MS", 2), ("flag:source NPP NMS", 0), ("flag:source PP NMS", 0)], seen
print('found: INP "source ms" loads without a word, and is NMS: the MAJOR alarm does not come through')
PYTHON
