"""A server whose connection breaks, and processes that end meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from aioca import DBR_DOUBLE, CADisconnected, CATimeout, caget, camonitor, caput, connect, run
from aioca._ca.libca import ECA_DISCONN
from aioca.testing import free_port
from tests.support import hostile
from tests.support.hostile import ERROR, NORMAL, READ_NOTIFY, HostileServer, Request, message, reply
from tests.support.hostile_calls import GOOD, SOON, finish, outcome, refusal, start
from tests.support.iocs import PORTS
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio


# -- The connection --------------------------------------------------------------------------------


def _cut(request: Request, size: int) -> bytes:
    request.circuit.send(reply(request, GOOD)[:size])
    request.circuit.close()
    return b""


LOST: dict[str, Callable[[Request], bytes]] = {
    "closed": lambda r: _cut(r, 0),
    "closed in a header": lambda r: _cut(r, 9),
    "closed in a body": lambda r: _cut(r, 20),
    "no such command": lambda r: message(99),
    "command 65535": lambda r: message(65535),
    "a command for servers": lambda r: message(hostile.CLIENT_NAME, b"me"),
    "body of 12 bytes": lambda r: reply(r, bytes(12), size=12),
    "body of 65535 bytes": lambda r: reply(r, bytes(12), size=65533),
    "refusal of nothing": lambda r: message(ERROR, bytes(8)),
}


@pytest.mark.parametrize("answer", LOST.values(), ids=LOST)
async def test_connection_that_cannot_go_on(
    server: HostileServer, unique: str, answer: Callable[[Request], bytes]
) -> None:
    """Who waits hears of it at once; another PV is connected to at once."""
    pv = server.add(unique + "X", DBR_DOUBLE, 1, 1.5)
    await connect(pv)
    server.on[READ_NOTIFY] = answer
    assert type(await outcome(pv, caget(pv))) is CADisconnected
    server.behave()
    good = server.add(unique + "Y", DBR_DOUBLE, 1, 2.5)
    assert await outcome(good, caget(good)) == 2.5


async def test_body_that_never_ends(server: HostileServer, unique: str) -> None:
    """A header that promises 256 MB: memory for it is taken only as it comes, calls end by their
    deadlines, and when the server hangs up it is over."""
    pv = server.add(unique + "X", DBR_DOUBLE, 1, 1.5)
    await connect(pv)
    server.on[READ_NOTIFY] = lambda r: reply(r, bytes(80), size=1 << 28, count=1, extended=True)
    assert type(await outcome(pv, caget(pv, timeout=SOON))) is CATimeout
    server.behave()
    assert type(await outcome(pv, caput(pv, 1, wait=True, timeout=SOON))) is CATimeout
    (circuit,) = {request.circuit for request in server.seen(READ_NOTIFY, pv)}
    circuit.close()
    good = server.add(unique + "Y", DBR_DOUBLE, 1, 2.5)
    assert await outcome(good, caget(good)) == 2.5


def test_monitors_come_back(unique: str) -> None:
    """After what ends a connection, and when the server behaves again, the same monitors go on.

    libca searches for what was lost after ten seconds, so both backends and all the ways to lose a
    connection, each on a server of its own, are tried at once.
    """
    ends = [LOST[how] for how in ("closed in a body", "no such command", "body of 12 bytes")]
    servers = [HostileServer(port) for port in (PORTS[1], PORTS[2], PORTS[4])]
    pvs = [f"{unique}{number}" for number in range(len(servers))]
    seen: dict[str, list[list[Any]]] = {b: [[] for _ in pvs] for b in ("asyncio", "trio")}
    stop = threading.Event()
    errors: list[BaseException] = []

    def follow(backend: str) -> None:
        async def main() -> None:
            async with camonitor(
                pvs,
                lambda value, index: seen[backend][index].append(value),
                notify_disconnect=True,
                all_updates=True,
            ):
                await anyio.to_thread.run_sync(stop.wait)

        try:
            run(main(), backend=backend)
        except BaseException as error:
            errors.append(error)

    def everywhere(check: Callable[[list[Any]], bool]) -> Callable[[], bool]:
        return lambda: (
            bool(errors) or all(check(values) for of_pvs in seen.values() for values in of_pvs)
        )

    threads = [threading.Thread(target=follow, args=[backend]) for backend in seen]
    for server, pv in zip(servers, pvs, strict=True):
        server.add(pv, DBR_DOUBLE, 1, 1.5)
        server.__enter__()
    try:
        for thread in threads:
            thread.start()
        assert wait_until(everywhere(lambda values: 1.5 in values))
        for server, pv, end in zip(servers, pvs, ends, strict=True):
            monitor = server.monitors(pv)[0]
            monitor.circuit.send(end(monitor))
        assert wait_until(everywhere(lambda values: any(not v.ok for v in values)))
        for server, pv in zip(servers, pvs, strict=True):
            server.pvs[pv] = server.pvs[pv]._replace(value=(2.5,))
        assert wait_until(everywhere(lambda values: values[-1] == 2.5), 25)
        for server, pv in zip(servers, pvs, strict=True):
            assert server.update(pv, 3.5) == len(threads)
        assert wait_until(everywhere(lambda values: values[-1] == 3.5))
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
        for server in servers:
            server.__exit__(None, None, None)
    assert not errors
    for of_pvs in seen.values():
        for values in of_pvs:
            assert [v for v in values if v.ok] == [1.5, 2.5, 3.5]
            assert {v.errorcode for v in values if not v.ok} == {ECA_DISCONN}


# -- Processes -------------------------------------------------------------------------------------
FLOODED = """
    import anyio
    from aioca import caget, run

    async def main():
        print(await caget("PV"))
        await anyio.sleep(0.05)  # into the flood

    run(main())
"""


@pytest.mark.parametrize("status", [192, 142], ids=["a warning", "a fatal error"])
def test_exit_in_a_flood_of_errors(status: int) -> None:
    """A process that ends while a server reports errors without end, ends as it should."""
    stop = threading.Event()
    floods: list[threading.Thread] = []

    def flood(request: Request) -> bytes:
        report = refusal(request, hostile.EVENTS_OFF, status, b"no reason\0") * 50

        def send() -> None:
            while not stop.is_set() and request.circuit.send(report):
                pass

        floods.append(threading.Thread(target=send))
        floods[-1].start()
        return NORMAL  # type: ignore[no-any-return]

    with HostileServer(free_port()) as server:
        server.add("PV", DBR_DOUBLE, 1, 1.5)
        server.on[READ_NOTIFY] = flood
        try:
            returncode, out, err = finish(start([server.port], FLOODED), 20)
        finally:
            stop.set()
            for thread in floods:
                thread.join(20)
    assert out == "1.5\n"
    assert (returncode, "Fatal" in err) == (0, False), err[-2000:]
