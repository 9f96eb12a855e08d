#!/bin/bash
# Two subscriptions to PV.{"dbnd":{"d":5}} on one channel: the second never gets an update.
#
# Versions: EPICS base 7.0.10 (epicscorelibs 7.0.10.99.0.2), pyepics 3.5.10.
# Expected: a filter belongs to a subscription, as the mask of a subscription does: each gets the
#   present value first, and then every change of more than 5.
# Found: the IOC keeps the last value of the filter with the channel. It runs the filter for each
#   subscription in turn: what the first one has got is no change any more for the second, which
#   gets nothing, not even the first value. pyepics, as most clients, has one channel for a name.
. "$(dirname "$0")/common.bash"
install pyepics==3.5.10 epicscorelibs==7.0.10.99.0.2 numpy==2.4.6

cat >"$work/band.db" <<'DB'
record(ao, "band") { field(VAL, "0") field(PINI, "YES") }
DB
soft_ioc "$work/band.db"
client <<'PYTHON'
import time
from epics import ca, caput, dbr

def updates(channels):
    caput("band", 0, wait=True)
    seen, kept = [], []
    for chid in channels:
        values = []
        seen.append(values)
        kept.append(ca.create_subscription(
            chid, mask=dbr.DBE_VALUE,
            callback=lambda value, values=values, **more: values.append(float(value))))
        time.sleep(0.5)
    for number in (3, 6, 9, 12, 15):
        caput("band", number, wait=True)
    time.sleep(0.5)
    for _, _, event in kept:
        ca.clear_subscription(event)
    return seen

plain = ca.create_channel("band", connect=True)
filtered = ca.create_channel('band.{"dbnd":{"d":5}}', connect=True)
without, with_filter = updates([plain, plain]), updates([filtered, filtered])
print("versions: epicscorelibs 7.0.10.99.0.2, pyepics 3.5.10")
print("expected: both subscriptions get [0, 6, 12] with the filter")
print("no filter, two subscriptions on one channel:  ", *without)
print("dbnd of 5, two subscriptions on one channel:  ", *with_filter)
assert without[0] == without[1] == [0, 3, 6, 9, 12, 15], without
assert with_filter == [[0, 6, 12], []], with_filter
print("found: of two subscriptions to one channel with a dbnd filter, the second gets no update")
PYTHON
