#!/bin/bash
# Which number selects the first link? 1 in a dfanout, 0 in a fanout and a seq; in a mask all differ.
#
# Versions: EPICS base 7.0.10 (epicscorelibs 7.0.10.99.0.2), pyepics 3.5.10 as client.
# Expected: the three records count alike. SELM "Specified" with SELN=1 selects either the first
#   link or the second; SELM "Mask" with SELN=1 (bit 0) selects the first.
# Found: Specified, SELN=1: the dfanout writes to its first link, seq and fanout to their second
#   (LNK1). Mask, SELN=1: the dfanout takes its first link, seq and fanout LNK1, so that no mask
#   reaches their LNK0: the field SHFT shifts it by -1 unless set to 0.
. "$(dirname "$0")/common.bash"
install pyepics==3.5.10 epicscorelibs==7.0.10.99.0.2 numpy==2.4.6

for mode in Specified Mask; do
    cat <<DB
record(dfanout, "$mode:dfanout") { field(SELM, "$mode") field(SELN, "1") field(VAL, "7")
    field(OUTA, "$mode:dfanout:0 PP") field(OUTB, "$mode:dfanout:1 PP") }
record(seq, "$mode:seq") { field(SELM, "$mode") field(SELN, "1")
    field(DO0, "7") field(DO1, "7") field(LNK0, "$mode:seq:0 PP") field(LNK1, "$mode:seq:1 PP") }
record(fanout, "$mode:fanout") { field(SELM, "$mode") field(SELN, "1")
    field(LNK0, "$mode:fanout:0") field(LNK1, "$mode:fanout:1") }
record(ao, "$mode:dfanout:0") { } record(ao, "$mode:dfanout:1") { }
record(ao, "$mode:seq:0") { } record(ao, "$mode:seq:1") { }
record(calc, "$mode:fanout:0") { field(CALC, "7") } record(calc, "$mode:fanout:1") { field(CALC, "7") }
DB
done >"$work/links.db"
soft_ioc "$work/links.db"
client <<'PYTHON'
from epics import caget, caput

def reached(record):
    """Which of the first two links the record reaches when it is processed."""
    caput(record + ".PROC", 1, wait=True)
    return [n for n in (0, 1) if caget(f"{record}:{n}", use_monitor=False) == 7]

seen = {
    mode: {kind: reached(f"{mode}:{kind}") for kind in ("dfanout", "seq", "fanout")}
    for mode in ("Specified", "Mask")
}
print("versions: epicscorelibs 7.0.10.99.0.2, pyepics 3.5.10")
print("expected: with SELN=1 all three reach the same link, and bit 0 of a mask is link 0")
for mode, links in seen.items():
    print(f"  {mode}, SELN=1: links reached:", links)
assert seen == {
    "Specified": {"dfanout": [0], "seq": [1], "fanout": [1]},
    "Mask": {"dfanout": [0], "seq": [1], "fanout": [1]},
}, seen
print("found: SELN=1 is the first link of a dfanout and the second of seq and fanout, as mask, too")
PYTHON
