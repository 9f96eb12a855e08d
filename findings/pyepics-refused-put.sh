#!/bin/bash
# pyepics returns 1 for a write that the IOC refused, also with wait=True.
#
# Versions: pyepics 3.5.10, soft IOC of epicscorelibs 7.0.10.99.0.2.
# Expected: with wait=True the IOC answers ECA_PUTFAIL for a record with DISP=1; `caput` raises, or
#   returns something other than the 1 of a completed write.
# Found: `caput(pv, 5, wait=True)` and `PV.put(5, wait=True)` return 1, `use_complete=True` says
#   that the put is complete, and the record still has its old value.
. "$(dirname "$0")/common.bash"
install pyepics==3.5.10 epicscorelibs==7.0.10.99.0.2 numpy==2.4.6

cat >"$work/refuse.db" <<'DB'
record(ao, "refuse:off") { field(VAL, "1") field(DISP, "1") }
record(ao, "refuse:on") { field(VAL, "1") }
DB
soft_ioc "$work/refuse.db"
client <<'PYTHON'
import time
from epics import PV, caput

seen = []
for name in "refuse:on", "refuse:off":
    pv = PV(name)
    assert pv.wait_for_connection(timeout=10)
    returned = caput(name, 5, wait=True), pv.put(5, wait=True)
    pv.put(5, use_complete=True)
    time.sleep(1)
    seen.append((*returned, pv.put_complete, pv.get(use_monitor=False)))
print("versions: pyepics 3.5.10, epicscorelibs 7.0.10.99.0.2")
print("expected: caput, PV.put and put_complete tell a refused write from a completed one")
print("a record that takes it:    ", *seen[0])
print("a record that refuses it:  ", *seen[1])
assert seen == [(1, 1, True, 5.0), (1, 1, True, 1.0)], seen
print("found: caput(wait=True) of pyepics returns 1 for a write that the IOC refused")
PYTHON
