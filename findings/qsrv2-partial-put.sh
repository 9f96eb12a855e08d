#!/bin/bash
# A PVA put that changes only a field beside the value (units, a user tag) sets the record to 0.
#
# Versions: pythonSoftIOC 4.7.2 with pvxslibs 1.5.3 (QSRV2), p4p 4.3.0; for comparison the QSRV of
#   epicscorelibs 7.0.10.99.0.2.
# Expected: a put writes the fields that it names. Without a value among them, the record keeps
#   its value; at most the server refuses.
# Found: QSRV2 accepts the put and writes a value all the same, the zero of the type: 3.0 becomes
#   0.0, "abc" becomes "", the second choice becomes the first. An array keeps its elements. The
#   older QSRV leaves all of them alone.
. "$(dirname "$0")/common.bash"
install softioc==4.7.2 pvxslibs==1.5.3 p4p==4.3.0 epicscorelibs==7.0.10.99.0.2 numpy==2.4.6

cat >"$work/put.db" <<'DB'
record(ao, "put:number") { field(VAL, "3") }
record(stringout, "put:text") { field(VAL, "abc") }
record(mbbo, "put:choice") { field(ZRST, "off") field(ONST, "on") field(VAL, "1") }
record(waveform, "put:array") { field(NELM, "3") field(FTVL, "DOUBLE") field(INP, [1, 2, 3]) }
DB
cat >"$work/qsrv2.py" <<'PYTHON'
import sys, time
from softioc import asyncio_dispatcher, softioc

softioc.dbLoadDatabase(sys.argv[1])
softioc.iocInit(asyncio_dispatcher.AsyncioDispatcher())
time.sleep(300)
PYTHON
cat >"$work/partial.py" <<'PYTHON'
from p4p.client.thread import Context

context = Context("pva")
pvs = ["put:number", "put:text", "put:choice", "put:array"]
for pv in pvs:
    context.put(pv, {"timeStamp.userTag": 7}, timeout=10)
number, text, choice, array = context.get(pvs, timeout=10)
print([float(number), text.raw.value, int(choice), [float(x) for x in array]])
PYTHON

soft_ioc "$work/put.db" python "$work/qsrv2.py" "$work/put.db"
new=$(python "$work/partial.py" 2>"$work/new.log")
stop_all
soft_ioc "$work/put.db"
old=$(python "$work/partial.py" 2>"$work/old.log")

echo "versions: softioc 4.7.2, pvxslibs 1.5.3, p4p 4.3.0, epicscorelibs 7.0.10.99.0.2"
echo "expected: a put of timeStamp.userTag leaves [3.0, 'abc', 1, [1.0, 2.0, 3.0]] as they are"
echo "QSRV of epicscorelibs: $old"
echo "QSRV2: $new"
[ "$old" = "[3.0, 'abc', 1, [1.0, 2.0, 3.0]]" ]
[ "$new" = "[0.0, '', 0, [1.0, 2.0, 3.0]]" ]
echo "found: QSRV2 writes 0, an empty text and the first choice when a PVA put names no value"
