#!/bin/bash
# A histogram record counts a value on the edge of two bins in the lower one; numpy in the upper.
#
# Versions: EPICS base 7.0.10 (epicscorelibs 7.0.10.99.0.2), numpy 2.4.6, pyepics 3.5.10.
# Expected: five bins from 0 to 5 hold 0, 1, 2, 3 and 4 in one bin each, as numpy.histogram does;
#   5 is in the last bin (numpy) or outside.
# Found: a bin holds its upper edge: 0 and 1 are both in the first, the last is empty, and 5 (the
#   field ULIM) is not counted at all. Integer readings, such as ADC codes, are one bin off.
. "$(dirname "$0")/common.bash"
install pyepics==3.5.10 epicscorelibs==7.0.10.99.0.2 numpy==2.4.6

cat >"$work/bins.db" <<'DB'
record(histogram, "bins") { field(NELM, "5") field(LLIM, "0") field(ULIM, "5") }
DB
soft_ioc "$work/bins.db"
client <<'PYTHON'
import numpy
from epics import caget, caput

values = 0, 1, 2, 3, 4, 5
for value in values:
    caput("bins.SGNL", value, wait=True)
record = [int(count) for count in caget("bins", use_monitor=False)]
expected = numpy.histogram(values, 5, (0, 5))[0].tolist()
print("versions: epicscorelibs 7.0.10.99.0.2, numpy 2.4.6, pyepics 3.5.10")
print("expected: as numpy.histogram of 0, 1, 2, 3, 4, 5:", expected)
print("seen:", record)
assert record == [2, 1, 1, 1, 0], record
assert expected == [1, 1, 1, 1, 2], expected
print("found: the histogram record has 0 and 1 in the first bin, none in the last, and leaves out 5")
PYTHON
