#!/bin/bash
# A monitor of p4p ends when Python collects garbage, unless the program keeps what `monitor` returned.
#
# Versions: p4p 4.3.0, numpy 2.4.6.
# Expected: `context.monitor(name, callback)` calls back as long as the context is open, as `camonitor`
#   of pyepics does; the result is needed only to close it.
# Found: the subscription belongs to the object that is returned. If this is dropped, updates come
#   until the garbage collector next runs, which in a small program may be hours later. Then they
#   stop: the callback gets no more, and no Disconnected or Cancelled, though it asks for them.
. "$(dirname "$0")/common.bash"
install p4p==4.3.0 numpy==2.4.6

client <<'PYTHON'
import gc
import time
from p4p.client.thread import Context
from p4p.nt import NTScalar
from p4p.server import Server, StaticProvider
from p4p.server.thread import SharedPV

pv = SharedPV(nt=NTScalar("d"), initial=0.0)
provider = StaticProvider("findings")
provider.add("number", pv)

def until_last(updates, last):
    deadline = time.monotonic() + 10
    while last not in updates and time.monotonic() < deadline:
        time.sleep(0.05)

gc.disable()  # the collector shall run when it is told to
kept, dropped = [], []
with Server(providers=[provider]), Context("pva") as context:
    subscription = context.monitor("number", kept.append, notify_disconnect=True)
    context.monitor("number", dropped.append, notify_disconnect=True)
    until_last(kept, 0.0)
    until_last(dropped, 0.0)
    pv.post(1.0)
    until_last(kept, 1.0)
    until_last(dropped, 1.0)
    gc.collect()
    for number in (2.0, 3.0):
        pv.post(number)
        until_last(kept, number)
    time.sleep(1)
    seen = tuple(
        [float(one) if isinstance(one, float) else type(one).__name__ for one in updates]
        for updates in (kept, dropped)
    )
print("versions: p4p 4.3.0, numpy 2.4.6")
print("expected: both monitors get 0, 1, 2 and 3; the garbage collector runs after 1")
print("subscription kept:    ", *seen[0])
print("subscription not kept:", *seen[1])
numbers = tuple([one for one in updates if isinstance(one, float)] for updates in seen)
assert numbers == ([0.0, 1.0, 2.0, 3.0], [0.0, 1.0]), seen
print("found: a p4p monitor whose subscription is not kept ends without a word at a garbage collection")
PYTHON
