#!/bin/bash
# In the array filter PV.[::2] the 2 is the end and not the step: it gives elements 0, 1 and 2.
#
# Versions: EPICS base 7.0.10 (epicscorelibs 7.0.10.99.0.2), caproto 1.3.0, pyepics 3.5.10.
# Expected: the notation looks like a slice of Python: [::2] every second element, [::-1] the
#   array backwards, [1:3] two elements.
# Found: it is [start:step:end], with the end included: [::2] are the first three elements, [::-1]
#   is the whole array forwards, [1:3] three elements. Every second is [:2:]. No error tells it.
#   The server of caproto, written in Python, has the same order.
. "$(dirname "$0")/common.bash"
install pyepics==3.5.10 caproto==1.3.0 epicscorelibs==7.0.10.99.0.2 numpy==2.4.6

cat >"$work/array.db" <<'DB'
record(waveform, "array") { field(NELM, "6") field(FTVL, "LONG") field(INP, [0, 1, 2, 3, 4, 5]) }
DB
cat >"$work/server.py" <<'PYTHON'
from caproto.server import PVGroup, pvproperty, run

class Group(PVGroup):
    array = pvproperty(value=[0, 1, 2, 3, 4, 5], max_length=6)

    @array.startup
    async def array(self, instance, async_lib):
        print("caproto: initialization complete", flush=True)

run(Group(prefix="").pvdb, interfaces=["127.0.0.1"])
PYTHON
cat >"$work/read.py" <<'PYTHON'
from epics import caget

print([caget("array." + f, timeout=10).tolist() for f in ("[::2]", "[::-1]", "[1:3]", "[:2:]")])
PYTHON

soft_ioc "$work/array.db"
base=$(python "$work/read.py" 2>"$work/base.log")
stop_all
soft_ioc - python "$work/server.py"
caproto=$(python "$work/read.py" 2>"$work/caproto.log")

echo "versions: epicscorelibs 7.0.10.99.0.2, caproto 1.3.0, pyepics 3.5.10"
echo "expected: [::2] [0, 2, 4], [::-1] [5, 4, 3, 2, 1, 0], [1:3] [1, 2], [:2:] [0, 1]"
echo "soft IOC: $base"
echo "caproto:  $caproto"
[ "$base" = "[[0, 1, 2], [0, 1, 2, 3, 4, 5], [1, 2, 3], [0, 2, 4]]" ]
[ "$caproto" = "$base" ]
echo "found: PV.[::2] is elements 0 to 2 and PV.[::-1] the array as it is: the step is in the middle"
