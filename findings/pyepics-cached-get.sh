#!/bin/bash
# caget of pyepics gives the last monitored value: within the deadband MDEL it stays at the old one.
#
# Versions: pyepics 3.5.10, soft IOC of epicscorelibs 7.0.10.99.0.2.
# Expected: `caget` asks the server, as caget of EPICS base does; after `caput(pv, 4, wait=True)`
#   it returns 4.
# Found: `caget` subscribes on its first call, and later calls return what the subscription
#   brought. MDEL=5 holds changes of less than 5 back, so caget still returns 0 a second later.
#   `use_monitor=False` asks the server.
. "$(dirname "$0")/common.bash"
install pyepics==3.5.10 epicscorelibs==7.0.10.99.0.2 numpy==2.4.6

cat >"$work/band.db" <<'DB'
record(ao, "band:5") { field(VAL, "0") field(MDEL, "5") field(PINI, "YES") }
DB
soft_ioc "$work/band.db"
client <<'PYTHON'
import time
from epics import caget, caput

caget("band:5")
time.sleep(1)
caput("band:5", 4, wait=True)
time.sleep(1)
seen = caget("band:5"), caget("band:5", use_monitor=False)
print("versions: pyepics 3.5.10, epicscorelibs 7.0.10.99.0.2")
print("expected: caget returns 4.0 after caput(pv, 4, wait=True)")
print("caget:", seen[0], " caget(use_monitor=False):", seen[1])
assert seen == (0.0, 4.0), seen
print("found: caget of pyepics returns 0.0 a second after 4 was written, where MDEL is 5")
PYTHON
