#!/bin/bash
# The autosave of pythonSoftIOC saves fields such as HIHI and EGU, and does not restore them.
#
# Versions: softioc 4.7.2, pvxslibs 1.5.3, pyepics 3.5.10, PyYAML 6.0.3.
# Expected: `aOut(..., autosave=["VAL", "HIHI", "EGU"])` restores the three when the IOC starts again;
#   an alarm limit that an operator has set stays set.
# Found: all three are in the file, HIHI as the text that the record shows: 2.45 with PREC 1 is '2.5'.
#   After a restart VAL has the saved value, and HIHI and EGU have those of the program. Nothing is
#   printed. So a value that was an alarm before the restart is none after it.
. "$(dirname "$0")/common.bash"
install softioc==4.7.2 pvxslibs==1.5.3 pyepics==3.5.10 epicscorelibs==7.0.10.99.0.2 numpy==2.4.6 \
    PyYAML==6.0.3

cat >"$work/server.py" <<'PYTHON'
import os
import time

from softioc import asyncio_dispatcher, autosave, builder, softioc

folder = os.path.dirname(__file__)
autosave.configure(folder, "supply", save_period=0.5, timestamped_backups=False)
builder.SetDeviceName("PS")
builder.aOut("CURRENT", initial_value=0.0, PREC=1, HIHI=100, HHSV="MAJOR", EGU="?",
             autosave=["VAL", "HIHI", "EGU"])
builder.LoadDatabase()
softioc.iocInit(asyncio_dispatcher.AsyncioDispatcher())
print("initialization complete", flush=True)
while True:
    time.sleep(1)
PYTHON
cat >"$work/read.py" <<'PYTHON'
import sys

from epics import PV

FIELDS = "HIHI", "EGU", "VAL"
pvs = {field: PV("PS:CURRENT." + field, auto_monitor=False) for field in FIELDS}
assert all(pv.wait_for_connection(timeout=10) for pv in pvs.values())
for field, text in zip(FIELDS, sys.argv[1:]):
    pvs[field].put(text if field == "EGU" else float(text), wait=True)
print(*(pv.get() for pv in pvs.values()), "severity", pvs["VAL"].get_ctrlvars()["severity"])
PYTHON
soft_ioc - python "$work/server.py"
before=$(python "$work/read.py" 2.45 mA 3 2>"$work/client.log")
for _ in {1..100}; do grep -qs 'CURRENT: 3' "$work/supply.softsav" && break; sleep 0.1; done
saved=$(cat "$work/supply.softsav")
stop_all
soft_ioc - python "$work/server.py"
after=$(python "$work/read.py" 2>"$work/client.log")
echo "versions: softioc 4.7.2, PyYAML 6.0.3"
echo "expected: the same HIHI, EGU and VAL before and after the restart"
echo "before: $before"
echo "$saved"
echo "after:  $after"
[ "$before" = "2.45 mA 3.0 severity 2" ]
[ "$(LC_ALL=C sort <<<"$saved" | tr '\n' ' ')" = "PS:CURRENT.EGU: mA PS:CURRENT.HIHI: '2.5' PS:CURRENT: 3.0 " ]
[ "$after" = "100.0 ? 3.0 severity 0" ]
echo "found: autosave of pythonSoftIOC saves HIHI and EGU, and restores only VAL"
