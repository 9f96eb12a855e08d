#!/bin/bash
# A string that p4p read is a `str`, yet as text it begins with its time; numpy makes 'Thu' of it.
#
# Versions: p4p 4.3.0, numpy 2.4.6.
# Expected: `ntstr` and `ntfloat` are subclasses of str and float, so str(), f-strings, csv and
#   numpy show the value.
# Found: str() and "{}" give "Thu Jan  1 00:00:05 1970 'abc'"; a csv cell of a number is such a
#   text, too. `numpy.array([value])` asks for the length (3) and then for the text, and keeps
#   the day of the week. `value + ""` is the way out.
. "$(dirname "$0")/common.bash"
install p4p==4.3.0 numpy==2.4.6

export TZ=UTC
client <<'PYTHON'
import csv, io
import numpy
from p4p.nt import NTScalar

def received(spec, value):
    """What Context.get returns for such a PV with a stamp of 5 s after 1970."""
    return NTScalar.unwrap(NTScalar(spec).wrap(value, timestamp=5))

text, number = received("s", "abc"), received("d", 1.5)
assert isinstance(text, str) and text == "abc" and isinstance(number, float) and number == 1.5
cell = io.StringIO()
csv.writer(cell).writerow([number])
seen = f"{text}", cell.getvalue().strip(), numpy.array([text]).tolist(), text + ""
print("versions: p4p 4.3.0, numpy 2.4.6")
print("expected: 'abc', '1.5', ['abc'], 'abc' as f-string, csv cell, numpy array, sum with ''")
print("seen:", *map(repr, seen))
assert seen == (
    "Thu Jan  1 00:00:05 1970 'abc'", "Thu Jan  1 00:00:05 1970 1.5", ["Thu"], "abc"), seen
print("found: numpy.array of a string read by p4p holds 'Thu'; a csv cell holds date and number")
PYTHON
