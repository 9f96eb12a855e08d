"""A server that counts as lost, and very many PVs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import pytest

from aioca import camonitor
from aioca.testing import SoftIoc
from tests.support.client_program import Program
from tests.support.iocs import PORTS
from tests.support.network import Net, environment, heartbeat, write
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


# -- Past the time at which a server counts as lost ------------------------------------------------
FOLLOW = """
    import json, sys
    import anyio
    from aioca import caget, camonitor, run

    async def main():
        def update(value):
            print(json.dumps(["update", float(value)] if value.ok else ["lost", value.name]))
        async with camonitor(sys.argv[1], update, all_updates=True, notify_disconnect=True):
            await anyio.to_thread.run_sync(sys.stdin.readline)
            print(json.dumps(["got", float(await caget(sys.argv[1], timeout=10))]))

    run(main(), backend=sys.argv[2])
"""


@pytest.mark.soak
def test_stalled_until_it_counts_as_lost(net: Net) -> None:
    """What the monitor then has last is what somebody else has written meanwhile. Both backends."""
    pv = net.p + "x"
    write(pv + ":direct", 1)
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(Program(FOLLOW, pv, name, environment=environment(PORTS)))
            for name in ("asyncio", "trio")
        ]
        for client in clients:
            assert client.event() == ["update", 1]
        net.proxy.stall()
        write(pv + ":direct", 2)
        for client in clients:
            assert client.event(20) == ["lost", pv]
        write(pv + ":direct", 3)
        net.proxy.resume()
        for client in clients:
            events = client.until(["update", 3], 30)
            # What was under way when it stalled may come before, and the last one twice.
            assert events in ([["update", 3]], [["update", 2], ["update", 3]])
        write(pv + ":direct", 4)
        for client in clients:
            assert client.until(["update", 4])[:-1] in ([], [["update", 3]])
            client.tell("")
            assert client.event() == ["got", 4]
            assert client.finish() == []


# -- Very many PVs ---------------------------------------------------------------------------------
MANY = 5000


@pytest.mark.soak
async def test_many_monitors_through_a_kill(own_ioc: Callable[..., SoftIoc], unique: str) -> None:
    """Each of them is told once that its PV has gone, and has the new value when it is back."""
    database = "".join(
        f'record(ao, "$(P){i}") {{ field(VAL, "{i}$(V)") field(PINI, "YES") }}\n'
        for i in range(MANY)
    )
    ioc = own_ioc(database, {"P": unique, "V": ".25"})
    await anyio.to_thread.run_sync(ioc.start)
    seen: list[list[float | None]] = [[] for _ in range(MANY)]
    left = MANY

    def update(index: int, value: Any) -> None:
        nonlocal left
        seen[index].append(+value if value.ok else None)
        left -= 1

    async with heartbeat():
        subscriptions = []
        for i in range(MANY):
            subscriptions.append(
                camonitor(
                    f"{unique}{i}", partial(update, i), all_updates=True, notify_disconnect=True
                )
            )
            if not i % 100:
                await anyio.sleep(0)
        await until(lambda: left <= 0, 60)
        assert seen == [[i + 0.25] for i in range(MANY)]
        left = MANY
        ioc.kill()
        await until(lambda: left <= 0, 30)
        assert all(values[1:] == [None] for values in seen)
        left = MANY
        ioc.macros["V"] = ".75"
        await anyio.to_thread.run_sync(ioc.start)
        await until(lambda: left <= 0, 90)
        assert seen == [[i + 0.25, None, i + 0.75] for i in range(MANY)]
        for i, subscription in enumerate(subscriptions):
            subscription.close()
            if not i % 100:
                await anyio.sleep(0)
