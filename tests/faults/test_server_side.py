"""What a server sees of closed monitors, and of clients after a pause."""

from __future__ import annotations

import gc
import json
import re
import subprocess
import time
from typing import Any

import pytest

from aioca import caget, camonitor
from aioca.testing import SoftIoc
from tests.support.server_side import FLOOD, FLOOD_DATABASE, MakeIoc, program
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


def subscriptions(ioc: SoftIoc, pv: str) -> int:
    """How many the server has on a PV (its ``dbel``)."""
    found = re.search(r"(\d+|No) PV [Ee]vent [Ss]ubscriptions", ioc.command(f"dbel {pv} 0"))
    assert found is not None
    return 0 if found[1] == "No" else int(found[1])


# -- Closing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [{"all_updates": True}, {}, {"max_pending": 3}], ids=str)
async def test_closing_in_a_flood(own_ioc: MakeIoc, unique: str, policy: dict[str, Any]) -> None:
    """The loop is not kept by it, no callback comes after it, and the server is rid of them all."""
    pvs = [f"{unique}F{i}" for i in range(FLOOD)]
    closed = False
    updates = late = 0

    def callback(value: Any, index: int) -> None:
        nonlocal updates, late
        updates += 1
        late += closed

    with own_ioc(FLOOD_DATABASE, {"P": unique}) as ioc:
        subscriptions_ = camonitor(pvs, callback, **policy)
        await until(lambda: updates > 3 * FLOOD, 30)
        gc.disable()  # in a process of thousands of tests a full collection can take as long
        try:
            began = time.monotonic()
            closed = True
            for subscription in subscriptions_:
                subscription.close()
            took = time.monotonic() - began
        finally:
            gc.enable()
        # Waiting for libca's lock would be some 5 ms for each
        assert took < 1.0
        await until(lambda: not any(subscriptions(ioc, pv) for pv in (pvs[0], pvs[-1])))
        assert await caget(pvs[-1]) > 0
    assert late == 0


async def test_closed_and_opened_again_in_a_flood(own_ioc: MakeIoc, unique: str) -> None:
    """Each time there is one subscription on the server, and updates of the latest one only."""
    pvs = [f"{unique}F{i}" for i in range(FLOOD)]
    last: dict[int, float] = {}
    with own_ioc(FLOOD_DATABASE, {"P": unique}) as ioc:
        flood = camonitor(
            pvs, lambda value, index: last.__setitem__(index, value), all_updates=True
        )
        await until(lambda: len(last) == FLOOD, 30)
        watched = pvs[7]
        for turn in range(20):
            seen: list[tuple[int, float]] = []
            subscription = camonitor(watched, lambda v, t=turn, seen=seen: seen.append((t, v)))
            await until(lambda seen=seen: len(seen) >= 2)
            subscription.close()
            assert {t for t, _ in seen} == {turn}
            assert [v for _, v in seen] == sorted(v for _, v in seen)
        await until(lambda: subscriptions(ioc, watched) == 1)
        flood.close()
        await until(lambda: subscriptions(ioc, watched) == 0)


# -- A server that did not respond for a while -----------------------------------------------------
SPELL = """
    import json, sys
    import anyio, aioca
    from aioca import caget, camonitor, caput, connect
    from aioca._channels.registry import current

    async def main():
        updates = []
        subscription = camonitor(sys.argv[2], updates.append, notify_disconnect=True)
        while not updates:
            await anyio.sleep(0.01)
        await connect(sys.argv[3])
        print("ready", flush=True)
        while all(update.ok for update in updates):
            await anyio.sleep(0.01)
        print("down", flush=True)
        while not updates[-1].ok or updates[-1] != 5:
            await anyio.sleep(0.01)
        print("up", flush=True)
        assert await caget(sys.argv[2]) == 5
        await caput(sys.argv[2], 6, wait=True)
        # Else every update of every monitor would take a way that is slower.
        while current().clear_queue.ignored_keys:
            await anyio.sleep(0.01)
        while updates[-1] != 6:
            await anyio.sleep(0.01)
        subscription.close()
        print("closed", json.dumps([float(u) if u.ok else None for u in updates]), flush=True)
        await anyio.to_thread.run_sync(sys.stdin.readline)

    aioca.run(main(), backend=sys.argv[1])
"""


def test_no_subscription_is_left_after_an_unresponsive_spell(
    backend: str, ended: list[subprocess.Popen[str]]
) -> None:
    """libca itself would never cancel it on the server: only its channel's end does."""
    with SoftIoc('record(ao, "X") { field(VAL, "5") } record(ao, "Y") {}') as ioc:
        client = program(SPELL, ioc, backend, "X", "Y", EPICS_CA_CONN_TMO="1")
        ended.append(client)
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        assert subscriptions(ioc, "X") == 1
        ioc.pause()
        assert client.stdout.readline() == "down\n"
        ioc.resume()
        assert client.stdout.readline() == "up\n"
        line = client.stdout.readline()
        assert line.startswith("closed "), (line, client.communicate(timeout=10))
        updates = json.loads(line.removeprefix("closed "))
        assert updates[0] == 5
        assert updates.count(None) == 1
        assert updates[-1] == 6
        deadline = time.monotonic() + 10
        while subscriptions(ioc, "X") and time.monotonic() < deadline:
            time.sleep(0.01)  # to look again
        assert subscriptions(ioc, "X") == 0
        out, err = client.communicate("\n", timeout=10)
        # Python's logging shows warnings where nobody has set it up.
        (warning,) = err.splitlines()
        assert warning.startswith("Channel Access: Virtual circuit unresponsive")
        assert (out, client.returncode) == ("", 0)
