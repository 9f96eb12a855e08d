#!/bin/bash
# pvget of capva ends the monitors of the same PV in the same program, and they do not notice.
#
# Versions: capva 0.2.1, pyepics 3.5.10, soft IOC of epicscorelibs 7.0.10.99.0.2.
# Expected: `pvget(name)` makes a PV of its own, reads it and closes it. A monitor of the same PV
#   that runs meanwhile goes on.
# Found: both are on one channel, because pyepics keeps one for each name, and `pvget` clears it. The
#   monitor gets no further update, and no disconnected one either: a program that watches a PV and
#   once reads it with `pvget` shows the old value from then on.
. "$(dirname "$0")/common.bash"
install capva==0.2.1 pyepics==3.5.10 p4p==4.3.0 epicscorelibs==7.0.10.99.0.2 numpy==2.4.6

cat >"$work/shot.db" <<'DB'
record(calc, "shot:read") { field(SCAN, ".2 second") field(CALC, "VAL+1") }
record(calc, "shot:alone") { field(SCAN, ".2 second") field(CALC, "VAL+1") }
DB
soft_ioc "$work/shot.db"
client <<'PYTHON'
import time
from capva import pvget, pvmonitor

names = "shot:alone", "shot:read"
seen = {name: [] for name in names}
sessions = [pvmonitor(name, seen[name].append) for name in names]
time.sleep(2)
before = [len(seen[name]) for name in names]
read = pvget("shot:read").value
time.sleep(0.5)
at = [len(seen[name]) for name in names]
time.sleep(3)
more = [len(seen[name]) - count for name, count in zip(names, at)]
lost = [any(data.is_disconnected() for data in seen[name][1:]) for name in names]
print("versions: capva 0.2.1, pyepics 3.5.10, epicscorelibs 7.0.10.99.0.2")
print("expected: both monitors get about 15 updates in the 3 seconds after the pvget")
print("not read:        ", before[0], "updates, then", more[0], "disconnected:", lost[0])
print("read with pvget: ", before[1], "updates, then", more[1], "disconnected:", lost[1])
assert read > 0 and min(before) >= 5 and more[0] >= 10, (read, before, more)
assert (more[1], lost[1]) == (0, False), (more, lost)
print("found: after a pvget, the monitor of that PV gets no update and no disconnection")
PYTHON
