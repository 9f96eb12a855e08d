"""A server that sends anything to a monitor: the monitor goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from aioca import (
    DBR_CHAR,
    DBR_DOUBLE,
    DBR_ENUM,
    DBR_LONG,
    DBR_STRING,
    FORMAT_CTRL,
    FORMAT_RAW,
    FORMAT_TIME,
    CANothing,
    caget,
    camonitor,
    caput,
    connect,
    run,
)
from aioca._ca.libca import ECA_DISCONN, VALUE_OFFSET
from tests.support import hostile
from tests.support.hostile import (
    ACCESS_RIGHTS,
    EVENT_ADD,
    NORMAL,
    READ_NOTIFY,
    WRITE_NOTIFY,
    HostileServer,
    Request,
    message,
    payload,
    reply,
)
from tests.support.hostile_calls import NOWHERE, SOON, outcome, refusal, told

pytestmark = pytest.mark.anyio

TIMED = 14 + DBR_DOUBLE
UPDATES: dict[str, Callable[[Request], bytes]] = {
    "other type": lambda r: reply(r, payload(DBR_LONG, 7), type=DBR_LONG),
    "type 39": lambda r: reply(r, bytes(80), type=39),
    "type 65535": lambda r: reply(r, bytes(80), type=65535),
    "no elements": lambda r: reply(r, bytes(16), count=0),
    "nothing at all": reply,
    "half of it": lambda r: reply(r, bytes(8), count=1),
    "forty": lambda r: reply(r, payload(r.type, [7.0] * 40), count=40),
    "status 0": lambda r: reply(r, bytes(24), status=0),
    "status -1": lambda r: reply(r, bytes(24), status=0xFFFFFFFF),
    "status 152": lambda r: reply(r, bytes(24), status=152),
    "disconnected, it says": lambda r: reply(r, bytes(24), status=ECA_DISCONN),
    "to nobody": lambda r: reply(r, bytes(24), available=NOWHERE),
    "twice": lambda r: reply(r, payload(r.type, 7.0), count=1) * 2,
    "as the answer to a read": lambda r: reply(
        r, payload(r.type, 7.0), count=1, command=READ_NOTIFY
    ),
    "refused": lambda r: refusal(r, EVENT_ADD, 152, b"no reason\0"),
    "no rights for a while": lambda r: (
        message(ACCESS_RIGHTS, cid=r.cid, available=0)
        + message(ACCESS_RIGHTS, cid=r.cid, available=3)
    ),
}


@pytest.mark.parametrize(
    "policy", [{"all_updates": True}, {}, {"max_pending": 5}], ids=["all", "latest", "newest"]
)
@pytest.mark.parametrize("count", [1, 5], ids=["scalar", "array"])
async def test_monitors_go_on(
    server: HostileServer,
    unique: str,
    caplog: pytest.LogCaptureFixture,
    policy: dict[str, Any],
    count: int,
) -> None:
    """After each update that is none the next good one arrives; and who wants to know of trouble
    is told which PV it was."""
    pv = server.add(unique + "X", DBR_DOUBLE, count)
    wanted = {"format": FORMAT_TIME, **policy}
    async with (
        camonitor(pv, notify_disconnect=True, **wanted) as told_of_trouble,
        camonitor(pv, **wanted) as updates,
    ):
        await told(server, lambda: len(server.monitors(pv)) == 2)
        for number, (how, bad) in enumerate(UPDATES.items(), 100):
            for monitor in server.monitors(pv):
                monitor.circuit.send(bad(monitor))
            assert server.update(pv, [float(number)] * count) == 2
            with anyio.fail_after(5):
                async for value in updates:
                    assert value.ok, how
                    if not (value != number).any() if count > 1 else value == number:
                        break
                async for value in told_of_trouble:
                    assert value.name == pv, how
                    if type(value) is CANothing:
                        assert pv in str(value)
                    elif not (value != number).any() if count > 1 else value == number:
                        break
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert all(pv in text or "were left out" in text for text in warnings)


@pytest.mark.parametrize("format", [FORMAT_RAW, FORMAT_TIME, FORMAT_CTRL])
@pytest.mark.parametrize("count", [0, -1, 1, 4, 99])
async def test_updates_of_fewer_elements_than_their_header_says(
    server: HostileServer, unique: str, count: int, format: int
) -> None:
    """A caproto server repeats the count that was asked for. libca does not compare it with the
    size of the update, so nothing but the current length may be asked for."""
    pv = server.add(unique + "X", DBR_DOUBLE, 10)
    there = [1.5, -2.5]
    server.on[EVENT_ADD] = lambda r: reply(r, payload(r.type, there), count=r.count or len(there))
    async with camonitor(pv, count=count, format=format) as updates:
        with anyio.fail_after(5):
            value: Any = await anext(updates)
    assert [request.count for request in server.seen(EVENT_ADD, pv)] == [0]
    length = {0: 2, -1: 10, 1: 1, 4: 4, 99: 10}[count]
    assert value.tolist() == (there + [0.0] * 8)[:length]


@pytest.mark.parametrize("format", [FORMAT_RAW, FORMAT_TIME, FORMAT_CTRL])
@pytest.mark.parametrize("native_type", [DBR_CHAR, DBR_ENUM, DBR_DOUBLE, DBR_STRING])
async def test_a_scalar_of_which_no_element_comes(
    server: HostileServer, unique: str, native_type: int, format: int
) -> None:
    """caproto's ``pvproperty(value="")`` is such: it is 0, or an empty text."""
    pv = server.add(unique + "X", native_type, 1)
    for command in (READ_NOTIFY, EVENT_ADD):  # as caproto counts them
        server.on[command] = lambda r: reply(
            r, bytes(VALUE_OFFSET[r.type]), count=r.count if r.command == EVENT_ADD else 0
        )
    for datatype in (None, int, str, bytes):
        read: Any = await outcome(pv, caget(pv, datatype, format))
        async with camonitor(pv, datatype=datatype, format=format, count=-1) as updates:
            with anyio.fail_after(5):
                update: Any = await anext(updates)
        nothing = {str: "", bytes: b"", int: 0}.get(datatype, "" if native_type == 0 else 0)  # type: ignore[arg-type]
        for value in (read, update):
            assert type(+value) in (type(nothing), float)
            assert +value == nothing
            assert hasattr(value, "severity") == (format != FORMAT_RAW)
            assert getattr(value, "label", "0") == "0"
            assert value.element_count == 1


@pytest.mark.parametrize("by", ["this loop", "another loop"])
async def test_updates_that_the_server_holds_back(
    server: HostileServer, unique: str, by: str
) -> None:
    """As an IOC does with what it is about to send when another subscription is cancelled: it waits
    for anything that it has to answer. (Of a soft IOC, one time in a hundred.)"""
    pv = server.add(unique + "X", DBR_DOUBLE, 1, 1.5)
    other = server.add(unique + "Y", DBR_DOUBLE, 1, 1.5)

    def answer(request: Request) -> None:
        server.update(pv, 2.5)
        return NORMAL  # type: ignore[no-any-return]

    async def monitor_other() -> None:
        async with camonitor(other) as updates:
            await anext(updates)

    async with camonitor(pv) as updates:
        assert await anext(updates) == 1.5
        if by == "this loop":
            await monitor_other()
        else:
            await anyio.to_thread.run_sync(lambda: run(monitor_other()))
        server.on[READ_NOTIFY] = answer
        with anyio.fail_after(5):
            assert await anext(updates) == 2.5


async def test_late_replies(server: HostileServer, unique: str) -> None:
    """Replies to what has been given up, and updates of what has been closed, go nowhere; also
    those of a channel that has been cleared, while the circuit stays."""
    held: list[Request] = []
    heard: list[Any] = []

    def hold(request: Request) -> bytes:
        held.append(request)
        return b""

    pv = server.add(unique + "X", DBR_DOUBLE, 1, 1.5)
    cleared = server.add(unique + "Y", DBR_DOUBLE, 1, 1.5)
    await connect(pv)
    server.on[READ_NOTIFY] = server.on[WRITE_NOTIFY] = hold

    async def give_up(name: str) -> None:
        assert not (await caget(name, timeout=SOON, throw=False)).ok
        assert not (await caput(name, 1, wait=True, timeout=SOON, throw=False)).ok
        async with camonitor(name, heard.append):
            await told(server, lambda: server.monitors(name))
            while not heard:
                await anyio.sleep(0.005)  # nobody tells of a plain callback

    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, lambda: run(give_up(cleared)))
        group.start_soon(give_up, pv)
    await told(server, lambda: server.seen(hostile.CLEAR_CHANNEL))
    monitors = server.seen(EVENT_ADD)[-2:]
    assert len(held) >= 4
    heard.clear()
    for request in (*held, *monitors) * 3:
        size = payload(request.type, 9.0) if request.command != WRITE_NOTIFY else b""
        request.circuit.send(reply(request, size, count=1))
    server.behave()
    assert await outcome(pv, caget(pv)) == 1.5  # behind all of these
    assert heard == []
