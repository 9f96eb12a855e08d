#!/bin/bash
# The two clients of caproto write the text "1" to different choices of an enum.
#
# Versions: caproto 1.3.0, numpy 2.4.6, IOC of EPICS base 7.0.10 (epicscorelibs 7.0.10.99.0.2).
# Expected: `caproto.sync.client.write(pv, "1")` and `PV.write("1")` of caproto.threading.client are
#   the same write. For an mbbo whose choices are "1", "2" and "4" both select the first.
# Found: the sync client sends the text, which is the first choice. The threading client makes the
#   number 1 of it, which is the second choice, "2"; "4" is no choice then and is stored as such. A
#   text that is no number, "off", is written by the one and is a ValueError in the other.
. "$(dirname "$0")/common.bash"
install caproto==1.3.0 numpy==2.4.6 epicscorelibs==7.0.10.99.0.2

cat >"$work/gain.db" <<'DB'
record(mbbo, "enum:gain") {
    field(ZRST, "1") field(ONST, "2") field(TWST, "4") field(THST, "off")
}
DB
soft_ioc "$work/gain.db"
client <<'PYTHON'
from caproto import ChannelType
from caproto.sync.client import read, write
from caproto.threading.client import Context

quiet = {"timeout": 10, "repeater": False}  # a repeater would outlive the finding
options = {"notify": True, **quiet}
context = Context()
pv, = context.get_pvs("enum:gain", timeout=10)
pv.wait_for_connection(timeout=10)

def by_sync(text):
    write("enum:gain", text, **options)

def by_threading(text):
    pv.write(text, wait=True, timeout=10)

seen = {}
for text in ("1", "2", "4", "off"):
    row = []
    for put in (by_sync, by_threading):
        write("enum:gain", 9, **options)  # none of the four
        try:
            put(text)
        except ValueError as error:
            row.append(type(error).__name__)
        else:
            row.append(int(read("enum:gain", data_type=ChannelType.ENUM, **quiet).data[0]))
    seen[text] = tuple(row)
context.disconnect()
print("versions: caproto 1.3.0, numpy 2.4.6, epicscorelibs 7.0.10.99.0.2")
print('expected: both clients: "1" is choice 0, "2" is 1, "4" is 2, "off" is 3')
for text, (sync, threading) in seen.items():
    print(f"  {text!r}: sync client {sync}, threading client {threading}")
assert seen == {"1": (0, 1), "2": (1, 2), "4": (2, 4), "off": (3, "ValueError")}, seen
print('found: the sync client of caproto writes "1" to choice 0, the threading client to choice 1')
PYTHON
