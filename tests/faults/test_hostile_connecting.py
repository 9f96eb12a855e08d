"""A server that sends anything while a channel connects."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from aioca import (
    DBR_DOUBLE,
    DBR_STRING,
    CAAccessDenied,
    CADisconnected,
    CATimeout,
    caget,
    cainfo,
    camonitor,
    caput,
    connect,
)
from aioca._ca.libca import ECA_DISCONN, ECA_TIMEOUT
from tests.support import hostile
from tests.support.hostile import (
    ACCESS_RIGHTS,
    CREATE_CH_FAIL,
    CREATE_CHAN,
    NORMAL,
    SEARCH,
    SERVER_DISCONN,
    VERSION,
    HostileServer,
    Request,
    message,
)
from tests.support.hostile_calls import NOWHERE, SOON, outcome, refusal, told
from tests.support.iocs import PORTS

pytestmark = pytest.mark.anyio


async def test_native_counts(server: HostileServer, unique: str) -> None:
    """Whatever count a server gives its PV: it is told, and reading and writing work or do not."""
    for count in (0, 1, 2, 65535, 2**31 - 1, 2**31, 2**32 - 1):
        pv = server.add(f"{unique}{count}", DBR_DOUBLE, 0, [1.5])
        server.pvs[pv] = server.pvs[pv]._replace(count=count)
        info = await cainfo(pv)
        assert (info.count, info.datatype) == (count, DBR_DOUBLE)
        assert pv in str(info)
        value = await outcome(pv, caget(pv))
        expected = [] if count == 0 else [1.5]
        assert value == 1.5 if count == 1 else value.tolist() == expected
        assert value.element_count == count
        # More than libca's buffers may hold
        await outcome(pv, caget(pv, count=-1, timeout=1))
        await outcome(pv, caput(pv, 1, wait=True))
        await outcome(pv, caput(pv, [1, 2], wait=True))
        async with camonitor(pv, count=-1 if count < 100 else 0) as updates:
            with anyio.fail_after(5):
                value = await anext(updates)
        if count == 2:  # all that there is room for, with zeros for what the server has not sent
            expected = [1.5, 0.0]
        assert value == 1.5 if count == 1 else value.tolist() == expected


@pytest.mark.parametrize("native_type", [7, 65535])
async def test_native_types_that_are_none(
    server: HostileServer, unique: str, native_type: int
) -> None:
    """libca ends the circuit. Who waits does so until the deadline; others on that server find it
    again; and it is not flooded with attempts."""
    bad = server.add(unique + "BAD", native_type)
    good = server.add(unique + "GOOD", DBR_DOUBLE, 1, 1.5)
    found = await outcome(bad, caget(bad, timeout=2 * SOON), 4)
    assert type(found) is CATimeout
    assert "connecting" in str(found)
    # As often as libca itself looks for a PV at first, and no more
    assert 1 <= len(server.seen(CREATE_CHAN, bad)) <= 5
    server.pvs[bad] = server.pvs[bad]._replace(type=DBR_DOUBLE)
    assert await outcome(good, caget(good)) == 1.5


async def test_connecting(server: HostileServer, unique: str) -> None:
    """What is answered wrongly, or not at all, does not connect; the others on that circuit do."""
    answers: dict[str, Callable[[Request], bytes]] = {
        "nothing": lambda r: b"",
        "failed": lambda r: message(CREATE_CH_FAIL, cid=r.cid),
        "gone": lambda r: message(SERVER_DISCONN, cid=r.cid),
        "gone at once": lambda r: server.answer(r) + message(SERVER_DISCONN, cid=r.cid),
        "another": lambda r: message(CREATE_CHAN, type=6, count=1, cid=NOWHERE, available=1),
        "no rights": lambda r: server.answer(r)[16:],
        "strange rights": lambda r: (
            server.answer(r) + message(ACCESS_RIGHTS, cid=r.cid, available=0xFFFFFFFC)
        ),
        "all rights": lambda r: (
            server.answer(r) + message(ACCESS_RIGHTS, cid=r.cid, available=0xFFFFFFFF)
        ),
        "twice": lambda r: server.answer(r) * 2,
        "once more with another type": lambda r: (
            server.answer(r)
            + message(CREATE_CHAN, type=DBR_STRING, count=9, cid=r.cid, available=77)
        ),
        "as another server": lambda r: (
            server.answer(r) + message(SEARCH, type=1, cid=0x7F000001, available=r.cid)
        ),
    }
    denied = {"no rights", "strange rights"}
    answered = {*denied, *list(answers)[7:]}
    pvs = {server.add(unique + how, DBR_DOUBLE, 1, 1.5): how for how in answers}
    server.on[CREATE_CHAN] = lambda r: (
        answers[pvs[r.text]](r) if r.text in pvs else NORMAL
    )  # fmt: skip
    found: dict[str, Any] = {}

    async def look(pv: str, how: str) -> None:
        timeout = 5 if how in answered else 2 * SOON
        found[how] = await outcome(pv, caget(pv, timeout=timeout), 7)

    async with anyio.create_task_group() as group:
        for pv, how in pvs.items():
            group.start_soon(look, pv, how)
    for how in ("nothing", "failed", "gone", "another"):
        assert type(found[how]) is CATimeout, how
        assert "connecting" in str(found[how])
    assert isinstance(found["gone at once"], (CATimeout, CADisconnected))
    for how in denied:
        assert type(found[how]) is CAAccessDenied, how
    for how in answered - denied:
        assert found[how] == 1.5, how
    good = server.add(unique + "GOOD", DBR_DOUBLE, 1, 1.5)
    assert await outcome(good, caget(good)) == 1.5


async def test_a_channel_that_is_refused_at_first(server: HostileServer, unique: str) -> None:
    """It connects at the next search. Until then the time-out says that it was refused."""
    pv = server.add(unique + "X", DBR_DOUBLE, 1, 1.5)
    allowed = False
    server.on[CREATE_CHAN] = lambda r: (
        NORMAL if allowed else message(CREATE_CH_FAIL, cid=r.cid)
    )  # fmt: skip
    heard: list[Any] = []
    with anyio.fail_after(30):
        async with camonitor(pv, heard.append, notify_disconnect=True):
            await told(server, lambda: server.seen(CREATE_CHAN, pv))
            with pytest.raises(CATimeout, match="refuses the channel"):
                await caget(pv, timeout=SOON)
            allowed = True
            assert await caget(pv, timeout=10) == 1.5
            while not heard:
                await anyio.sleep(0.01)
            assert heard == [1.5]
            # Once it was connected, the loss of it is one, and is told
            (circuit,) = {request.circuit for request in server.monitors(pv)}
            circuit.close()
            while len(heard) < 2:
                await anyio.sleep(0.01)
            assert heard[1].errorcode == ECA_DISCONN


async def test_a_circuit_that_is_closed_before_the_channel_is_made(
    server: HostileServer, unique: str
) -> None:
    """That is no refusal, and nobody was silent either. Nor is it a disconnection of the PV."""
    pv = server.add(unique + "X", DBR_DOUBLE, 1, 1.5)

    def hang_up(request: Request) -> bytes:
        if request.text == pv:
            request.circuit.close()
            return b""
        return NORMAL  # type: ignore[no-any-return]

    server.on[CREATE_CHAN] = hang_up
    heard: list[Any] = []
    with anyio.fail_after(30):
        async with camonitor(pv, heard.append, notify_disconnect=True, connect_timeout=2):
            await told(server, lambda: len(server.seen(CREATE_CHAN, pv)) > 1)
            while not heard:
                await anyio.sleep(0.01)
            assert [nothing.errorcode for nothing in heard] == [ECA_TIMEOUT]
            assert "refuses" not in str(heard[0])
            assert "or one answered and then closed the connection" in str(heard[0])
            server.behave()
            assert await caget(pv, timeout=30) == 1.5


async def test_search_replies(server: HostileServer, unique: str) -> None:
    """Answers to a search: for nobody, cut, too old, and several of them; then the right one."""
    good = server.add(unique + "X", DBR_DOUBLE, 1, 1.5)

    def answer(request: Request) -> bytes:
        if request.text != good:
            return NORMAL  # type: ignore[no-any-return]
        # libca stops at the first message of a datagram that it does not understand
        return (
            message(SEARCH, b"\0\r", type=1, cid=0xFFFFFFFF, available=NOWHERE)
            + message(VERSION, type=1, count=0, cid=NOWHERE)
            + server._found(request) * 3
            + message(SEARCH, b"\0\r", type=1, cid=0x7F000001, available=request.cid)
            + message(99, type=1)
        )

    server.on[SEARCH] = answer
    assert await outcome(good, caget(good)) == 1.5
    cut = server.add(unique + "CUT", DBR_DOUBLE, 1, 1.5)
    server.on[SEARCH] = lambda r: server._found(r)[:-3]
    assert type(await outcome(cut, caget(cut, timeout=SOON))) is CATimeout
    server.behave()
    assert await outcome(cut, caget(cut)) == 1.5


async def test_flood_of_access_rights(server: HostileServer, unique: str) -> None:
    """Rights that change ten thousand times: the loop goes on, and what holds at the end holds."""
    pv = server.add(unique + "X", DBR_DOUBLE, 1, 1.5)
    await connect(pv)
    (request,) = server.seen(CREATE_CHAN, pv)
    for rights in (0, 3):
        flood = b"".join(
            message(ACCESS_RIGHTS, cid=request.cid, available=n & 3) for n in range(10_000)
        )
        last = message(ACCESS_RIGHTS, cid=request.cid, available=rights)
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, request.circuit.send, flood + last)
            for _ in range(5):
                began = time.monotonic()
                await anyio.sleep(0.001)
                assert time.monotonic() - began < 1
        with anyio.fail_after(5):
            while (await cainfo(pv)).write != bool(rights):
                await anyio.sleep(0.005)  # libca's thread may not have come to the end of it
        found = await outcome(pv, caget(pv))
        assert found == 1.5 if rights else type(found) is CAAccessDenied


@pytest.mark.parametrize("status", [ECA_DISCONN, 152], ids=["disconnected", "failed"])
async def test_forged_reports(server: HostileServer, unique: str, status: int) -> None:
    """A server reports errors without end, such as that it is lost, which it is not. That keeps no
    PV of another server from connecting."""
    stop = threading.Event()
    pv = server.add(unique + "X", DBR_DOUBLE, 1, 1.5)
    await connect(pv)
    (request,) = server.seen(CREATE_CHAN, pv)
    report = refusal(request, hostile.EVENTS_OFF, status, b"no reason\0") * 50

    def flood() -> None:
        while not stop.is_set() and request.circuit.send(report):
            pass

    with HostileServer(PORTS[4]) as other:
        elsewhere = other.add(unique + "Y", DBR_DOUBLE, 1, 2.5)
        thread = threading.Thread(target=flood)
        thread.start()
        try:
            assert await outcome(elsewhere, caget(elsewhere, timeout=10)) == 2.5
            assert len(other.seen(SEARCH, elsewhere)) < 20
        finally:
            stop.set()
            await anyio.to_thread.run_sync(thread.join)
    assert await outcome(pv, caget(pv)) == 1.5
