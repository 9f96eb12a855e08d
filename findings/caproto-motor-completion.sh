#!/bin/bash
# A put to a motor record of caproto completes before the motor moves, and with DMOV still at 1.
#
# Versions: caproto 1.3.0 (its example fake_motor_record), pyepics 3.5.10.
# Expected: as with the motor record of EPICS, a put-callback to VAL completes when the motion has
#   ended: then RBV is the new position. A program may wait for that, or for DMOV to be 1.
# Found: the put-callback completes at once. RBV is still the old position, and DMOV is still 1,
#   because a task of the server starts the motion up to 0.1 s later. So both ways to wait are over
#   before the motion begins; only a program that has seen DMOV go to 0 can wait for its end.
. "$(dirname "$0")/common.bash"
install caproto==1.3.0 pyepics==3.5.10 epicscorelibs==7.0.10.99.0.2 numpy==2.4.6

cat >"$work/server.py" <<'PYTHON'
import asyncio

from caproto.asyncio.server import start_server
from caproto.ioc_examples.fake_motor_record import FakeMotorIOC

async def main():
    motors = FakeMotorIOC(prefix="sim:")  # mtr1: 1 unit a second, limits 0 and 10
    asyncio.get_running_loop().call_later(3, lambda: print("initialization complete", flush=True))
    await start_server(motors.pvdb, interfaces=["127.0.0.1"], log_pv_names=False)

asyncio.run(main())
PYTHON
soft_ioc - python "$work/server.py"
client <<'PYTHON'
import threading
import time

from epics import PV

moving = threading.Event()
setpoint, readback, done = (PV("sim:mtr1" + field) for field in (".VAL", ".RBV", ".DMOV"))
for pv in setpoint, readback, done:
    pv.auto_monitor = False
    assert pv.wait_for_connection(timeout=10)
monitor = PV("sim:mtr1.DMOV", callback=lambda value, **_: value == 0 and moving.set())
assert monitor.wait_for_connection(timeout=10)

rows = []
for target in 1.0, 2.0, 3.0:
    moving.clear()
    begin = time.monotonic()
    assert setpoint.put(target, wait=True, timeout=10) == 1
    completed = time.monotonic() - begin
    seen = readback.get(use_monitor=False), done.get(use_monitor=False)
    assert moving.wait(5), "it has not moved"
    while done.get(use_monitor=False) != 1:
        time.sleep(0.05)
    rows.append((target, completed, *seen, time.monotonic() - begin))
print("versions: caproto 1.3.0, pyepics 3.5.10")
print("expected: each put-callback completes after a second, with RBV at the new position")
for row in rows:
    print("to %.1f: complete after %.2f s with RBV %.1f and DMOV %d; the motion ended after %.1f s" % row)
assert all(row[1] < 0.5 and row[2] < row[0] - 0.5 and row[4] > 0.7 for row in rows), rows
assert any(row[3] == 1 for row in rows), rows  # the task of the server may be fast once
print("found: caput with completion to a motor of caproto ends before the motion has begun")
PYTHON
