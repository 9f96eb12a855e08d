#!/bin/bash
# After a second writeMatrix, restoreEpics() restores nothing, and says nothing.
#
# Versions: restoreEpics 0.3.3.4, pyepics 3.5.10, IOC of EPICS base 7.0.10.
# Expected: restoreEpics(), which "restores channels to their backed up values", brings a matrix back
#   to the values before the first `writeMatrix`, as it does for a channel after two `caput`.
# Found: after one `writeMatrix` it does. The second one replaces the backup by the values that the
#   first had written, under a number that the restore does not reach: the matrix keeps the values of
#   the second write, without an error. A channel that was written twice comes back.
. "$(dirname "$0")/common.bash"
install restoreEpics==0.3.3.4 pyepics==3.5.10 numpy==2.4.6 epicscorelibs==7.0.10.99.0.2

cat >"$work/matrix.db" <<'DB'
record(ao, "once_1_1") { }
record(ao, "once_1_2") { }
record(ao, "twice_1_1") { }
record(ao, "twice_1_2") { }
record(ao, "channel") { }
DB
soft_ioc "$work/matrix.db"
client <<'PYTHON'
import epics
import numpy
import restoreEpics

def matrix(name):
    return [epics.PV(f"{name}_1_{column}").get(use_monitor=False) for column in (1, 2)]

def start(names):
    for name in names:
        assert epics.caput(name, 1, wait=True, timeout=10) == 1

def restore():
    restoreEpics.restoreEpics()
    restoreEpics.backUpVals.clear()  # the next case has a backup of its own

seen = {}
start(["once_1_1", "once_1_2", "twice_1_1", "twice_1_2", "channel"])
restoreEpics.caput("channel", 5.0, wait=True)
restoreEpics.caput("channel", 9.0, wait=True)
restore()
channel = epics.PV("channel")
assert channel.wait_for_connection(timeout=10)
seen["a channel, written twice"] = channel.get(use_monitor=False)

restoreEpics.writeMatrix("once", numpy.array([[5.0, 6.0]]))
restore()
seen["a matrix, written once"] = matrix("once")

restoreEpics.writeMatrix("twice", numpy.array([[5.0, 6.0]]))
restoreEpics.writeMatrix("twice", numpy.array([[8.0, 9.0]]))
restore()
seen["a matrix, written twice"] = matrix("twice")

print("versions: restoreEpics 0.3.3.4, pyepics 3.5.10, epicscorelibs 7.0.10.99.0.2")
print("expected: after restoreEpics(), all are 1 again")
for case, value in seen.items():
    print(f"  {case}: {value}")
assert list(seen.values()) == [1.0, [1.0, 1.0], [8.0, 9.0]], seen
print("found: after two calls of writeMatrix, restoreEpics() leaves the matrix at the second values")
PYTHON
