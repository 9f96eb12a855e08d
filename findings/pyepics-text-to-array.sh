#!/bin/bash
# A text that pyepics writes to an array of numbers becomes the codes of its characters.
#
# Versions: pyepics 3.5.10, soft IOC of epicscorelibs 7.0.10.99.0.2.
# Expected: `caput(waveform of DOUBLE, "12")` writes the number 12, as it does for an ao and as
#   caput of EPICS base does, or raises; a number is taken as an array of one element.
# Found: the text is taken as a sequence of characters: the waveform holds 49.0 and 50.0. The
#   number raises TypeError.
. "$(dirname "$0")/common.bash"
install pyepics==3.5.10 epicscorelibs==7.0.10.99.0.2 numpy==2.4.6

cat >"$work/text.db" <<'DB'
record(ao, "text:scalar") { }
record(waveform, "text:array") { field(NELM, "5") field(FTVL, "DOUBLE") }
DB
soft_ioc "$work/text.db"
client <<'PYTHON'
import contextlib, io
from epics import caget, caput

def put(pv, value):
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # a warning of pyepics
            caput(pv, value, wait=True)
    except TypeError:
        return "TypeError"
    got = caget(pv, use_monitor=False)
    return got.tolist() if hasattr(got, "tolist") else got

seen = put("text:scalar", "12"), put("text:array", "12"), put("text:array", 12)
print("versions: pyepics 3.5.10, epicscorelibs 7.0.10.99.0.2")
print("expected: '12' to an ao 12.0, '12' to a waveform [12.0], 12 to a waveform [12.0]")
print("seen:", *seen)
assert seen == (12.0, [49.0, 50.0], "TypeError"), seen
print("found: pyepics writes the text '12' to a DOUBLE waveform as 49.0, 50.0")
PYTHON
