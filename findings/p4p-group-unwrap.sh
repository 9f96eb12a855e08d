#!/bin/bash
# After one read of a structure that is no normative type, a p4p Context returns bare Values.
#
# Versions: p4p 4.3.0, QSRV of epicscorelibs 7.0.10.99.0.2.
# Expected: what `Context.get` returns depends on the PV: an ai is a float with `.timestamp`, a
#   group PV is a Value. The order of the reads does not matter.
# Found: a read of a group PV switches the unwrapping off, and it stays off for the type that was
#   unwrapped last before it. The same ai is then a Value without `.timestamp`, until a PV of
#   another normative type has been read.
. "$(dirname "$0")/common.bash"
install p4p==4.3.0 epicscorelibs==7.0.10.99.0.2 numpy==2.4.6

cat >"$work/group.db" <<'DB'
record(ai, "one:ai") { field(VAL, "1.5") }
record(bo, "one:bo") { field(ZNAM, "off") field(ONAM, "on") }
record(ai, "one:member") { info(Q:group, { "one:group": { "x": { +channel: "VAL" } } }) }
DB
soft_ioc "$work/group.db"
client <<'PYTHON'
from p4p.client.thread import Context

context = Context("pva")

def kind(pv):
    value = context.get(pv, timeout=10)
    return f"{type(value).__name__}{'' if hasattr(value, 'timestamp') else ' without timestamp'}"

seen = [(pv, kind(pv)) for pv in ("one:ai", "one:group", "one:ai", "one:ai", "one:bo", "one:ai")]
print("versions: p4p 4.3.0, epicscorelibs 7.0.10.99.0.2")
print("expected: each read of one:ai is an ntfloat with .timestamp")
for pv, what in seen:
    print(f"  get {pv}: {what}")
assert [what for pv, what in seen] == [
    "ntfloat", "Value without timestamp", "Value without timestamp", "Value without timestamp",
    "ntenum", "ntfloat",
], seen
print("found: p4p returns an ai as a bare Value after a group PV was read in the same Context")
PYTHON
