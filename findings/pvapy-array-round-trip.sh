#!/bin/bash
# The array that pvapy reads is one that it cannot write: put of a numpy array is refused.
#
# Versions: pvapy 5.6.0, numpy 2.4.6, QSRV of epicscorelibs 7.0.10.99.0.2.
# Expected: `get()["value"]` is a numpy array, and `put` takes it back.
# Found: `put` raises ArgumentError for every numpy array and takes lists only; `list(value)`,
#   which holds numpy's floats, is taken as well.
. "$(dirname "$0")/common.bash"
install pvapy==5.6.0 epicscorelibs==7.0.10.99.0.2 numpy==2.4.6

cat >"$work/trip.db" <<'DB'
record(waveform, "trip:array") { field(NELM, "3") field(FTVL, "DOUBLE") field(INP, [1, 2, 3]) }
DB
soft_ioc "$work/trip.db"
client <<'PYTHON'
import pvaccess

def put(channel, value):
    try:
        channel.put(value)
    except Exception as error:
        return type(error).__name__
    return "written"

array = pvaccess.Channel("trip:array")
value = array.get()["value"]
seen = type(value).__name__, put(array, value), put(array, value.tolist()), put(array, list(value))
print("versions: pvapy 5.6.0, numpy 2.4.6, epicscorelibs 7.0.10.99.0.2")
print("expected: ndarray, and the puts of the array, of tolist() and of list() written")
print("seen:", *seen)
assert seen == ("ndarray", "ArgumentError", "written", "written"), seen
print("found: Channel.get of pvapy returns a numpy array, and Channel.put refuses it")
PYTHON
