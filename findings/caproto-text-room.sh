#!/bin/bash
# A text PV of a caproto server holds no text that is longer than its first one.
#
# Versions: caproto 1.3.0, pyepics 3.5.10.
# Expected: `pvproperty(value="on", dtype=str)` is a string of Channel Access, with room for 39
#   characters, as a stringout record.
# Found: it is an array of CHAR with as many elements as the first text has characters: two. pyepics
#   cuts a longer text to "of", and reports success. `max_length=39` gives it room.
. "$(dirname "$0")/common.bash"
install caproto==1.3.0 pyepics==3.5.10 epicscorelibs==7.0.10.99.0.2 numpy==2.4.6

cat >"$work/server.py" <<'PYTHON'
from caproto.server import PVGroup, pvproperty, run

class Group(PVGroup):
    state = pvproperty(value="on", dtype=str)
    wide = pvproperty(value="on", dtype=str, max_length=39)

    @state.startup
    async def state(self, instance, async_lib):
        print("caproto: initialization complete", flush=True)

run(Group(prefix="room:").pvdb, interfaces=["127.0.0.1"])
PYTHON
soft_ioc - python "$work/server.py"
client <<'PYTHON'
from epics import PV

seen = {}
for name in "state", "wide":
    pv = PV("room:" + name, auto_monitor=False)
    assert pv.wait_for_connection(timeout=10)
    returned = pv.put("offline", wait=True)
    seen[name] = pv.nelm, returned, pv.get(as_string=True)
print("versions: caproto 1.3.0, pyepics 3.5.10")
print("expected: 'offline' fits into each of them")
for name, row in seen.items():
    print(f"{name}: room for {row[0]}, put returned {row[1]}, now {row[2]!r}")
assert seen == {"state": (2, 1, "of"), "wide": (39, 1, "offline")}, seen
print("found: 'offline' written to pvproperty(value='on', dtype=str) of caproto is stored as 'of'")
PYTHON
