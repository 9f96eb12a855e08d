#!/bin/bash
# pyepics shows an int64 record as text with six digits at most: 1234567 is "1e+06".
#
# Versions: pyepics 3.5.10, soft IOC of epicscorelibs 7.0.10.99.0.2.
# Expected: Channel Access brings an int64 as a double, so numbers beyond 2**53 lose digits; the
#   text of 1234567 is "1234567", as it is for a longout.
# Found: pyepics makes the text itself, from the precision that an int64 record has not (0), with
#   an exponent as soon as the number has six digits: 123456 is "1e+05". 99999 still is "99999".
. "$(dirname "$0")/common.bash"
install pyepics==3.5.10 epicscorelibs==7.0.10.99.0.2 numpy==2.4.6

cat >"$work/wide.db" <<'DB'
record(longout, "wide:32") { }
record(int64out, "wide:64") { }
DB
soft_ioc "$work/wide.db"
client <<'PYTHON'
from epics import caget, caput

def text(pv, value):
    caput(pv, value, wait=True)
    return caget(pv, as_string=True, use_monitor=False)

numbers = 99999, 123456, 1234567
seen = [[text(pv, number) for number in numbers] for pv in ("wide:32", "wide:64")]
print("versions: pyepics 3.5.10, epicscorelibs 7.0.10.99.0.2")
print("expected:", *map(str, numbers), "from a longout and from an int64out")
print("longout: ", *seen[0])
print("int64out:", *seen[1])
assert seen == [["99999", "123456", "1234567"], ["99999", "1e+05", "1e+06"]], seen
print("found: caget(as_string=True) of pyepics gives '1e+06' for an int64out that holds 1234567")
PYTHON
