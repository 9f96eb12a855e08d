#!/bin/bash
# A waveform that pythonSoftIOC makes of Python integers has 32 bits: 2**40 is served as 0.
#
# Versions: softioc 4.7.2, pyepics 3.5.10, numpy 2.4.6.
# Expected: `WaveformIn("W", [1, 2, 2**40])` becomes an int64 array in numpy, and so an array of
#   INT64 (a double over Channel Access), or is refused.
# Found: the record is an array of LONG, and 2**40 has become 0 in it, without a warning. `set` of
#   a numpy array cuts in the same way; `set` of the same numbers in a list raises OverflowError.
. "$(dirname "$0")/common.bash"
install softioc==4.7.2 pvxslibs==1.5.3 pyepics==3.5.10 epicscorelibs==7.0.10.99.0.2 numpy==2.4.6

cat >"$work/server.py" <<'PYTHON'
import sys
import numpy
from softioc import asyncio_dispatcher, builder, softioc

builder.SetDeviceName("bits")
wave = builder.WaveformIn("wave", [1, 2, 2**40])
later = builder.WaveformIn("later", [1, 2, 3])
builder.LoadDatabase()
softioc.iocInit(asyncio_dispatcher.AsyncioDispatcher())
try:
    later.set([1, 2, 2**32 + 5])
except OverflowError:
    later.set(numpy.array([1, 2, 2**32 + 5]))
sys.stdin.read()
PYTHON
soft_ioc - python "$work/server.py"
client <<'PYTHON'
import time
from epics import PV

time.sleep(1)
pvs = [PV("bits:" + name) for name in ("wave", "later")]
assert all(pv.wait_for_connection(timeout=10) for pv in pvs)
wave, later = (pv.get(use_monitor=False) for pv in pvs)
seen = pvs[0].type, wave.tolist(), later.tolist()
print("versions: softioc 4.7.2, pyepics 3.5.10, numpy 2.4.6")
print("expected: 2**40 and 2**32 + 5 are served as they are, or refused")
print("seen:", *seen)
assert seen == ("time_long", [1, 2, 0], [1, 2, 5]), seen
print("found: WaveformIn of [1, 2, 2**40] serves 1, 2, 0; set() of an array with 2**32 + 5 serves 5")
PYTHON
