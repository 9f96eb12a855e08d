"""What has to work with every server: monitors, cancellation, and the death of the server.

The rest of `core_checks`, with the same server and the same records.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import anyio
import pytest

from aioca import (
    DBR_ENUM_STR,
    FORMAT_CTRL,
    FORMAT_RAW,
    FORMAT_TIME,
    CAError,
    CANothing,
    Subscription,
    caget,
    camonitor,
    caput,
    connect,
)
from tests.long.servers import core_support
from tests.long.servers.core_support import (
    TYPES,
    VALUES,
    check,
    every_type,
    until,
)
from tests.long.servers.kinds import (
    Server,
)

pytestmark = pytest.mark.anyio

p = core_support.p
own_server = core_support.own_server

# -- Monitors --------------------------------------------------------------------------------------


@every_type
async def test_monitor_first_update(p: str, name: str) -> None:
    for format in (FORMAT_RAW, FORMAT_TIME, FORMAT_CTRL):
        with anyio.fail_after(5):
            async with camonitor(p + name, format=format) as updates:
                value = await anext(updates)
        check(name, value, VALUES[name])
        assert hasattr(value, "severity") == (format != FORMAT_RAW)
    with anyio.fail_after(5):
        async with camonitor(p + "enum", datatype=DBR_ENUM_STR) as updates:
            assert await anext(updates) == "Manual"


async def test_monitor_order_and_last_value(p: str) -> None:
    """Every write that is waited for is seen, in order; the first update is the present value."""
    pv, seen, last = p + "put:double", list[float](), anyio.Event()
    await caput(pv, 0, wait=True)

    def callback(value: float) -> None:
        seen.append(value)
        if value == 20:
            last.set()

    with anyio.fail_after(10):
        async with camonitor(pv, callback, all_updates=True):
            while not seen:
                await anyio.sleep(0.01)  # the callback has no event for the first one
            for number in range(1, 21):
                await caput(pv, number, wait=True)
            await last.wait()
    assert seen == list(range(21))


async def test_monitor_of_an_array(p: str) -> None:
    """Updates have the length that the array has then."""
    pv = p + "put:doubles"
    await caput(pv, [1.0], wait=True)
    with anyio.fail_after(10):
        async with camonitor(pv, all_updates=True) as updates:
            assert list(await anext(updates)) == [1.0]
            for length in (10, 1, 5):
                await caput(pv, [float(length)] * length, wait=True)
                assert list(await anext(updates)) == [float(length)] * length


async def test_monitor_by_iteration_of_many(p: str) -> None:
    names = [p + name for name in TYPES]
    seen: set[str] = set()
    with anyio.fail_after(10):
        async with camonitor(names) as updates:
            async for value in updates:
                check(value.name.removeprefix(p), value, VALUES[value.name.removeprefix(p)])
                seen.add(value.name)
                if seen == set(names):
                    break


async def test_monitor_of_what_moves_by_itself(p: str) -> None:
    """At 10 Hz: each update one more than the one before, and none missing."""
    values: list[float] = []
    start = time.monotonic()
    with anyio.fail_after(10):
        async with camonitor(p + "ticks", all_updates=True) as updates:
            async for value in updates:
                values.append(value)
                if len(values) == 15:
                    break
    assert [b - a for a, b in itertools.pairwise(values)] == [1] * 14
    assert 1.0 < time.monotonic() - start < 5


async def test_monitor_merges_under_load(p: str) -> None:
    """By default only the latest is kept for a slow consumer; and it is the last."""
    pv = p + "put:long"
    await caput(pv, 0, wait=True)
    with anyio.fail_after(20):
        async with camonitor(pv) as updates:
            assert await anext(updates) == 0
            for number in range(1, 301):
                await caput(pv, number)
            await until(pv, "long", 300)  # through a monitor of its own
            value, taken = await anext(updates), 1
            while value != 300:
                assert value < 300
                value, taken = await anext(updates), taken + 1
    assert taken < 20


async def test_monitor_keeps_all_if_asked(p: str) -> None:
    """In order, up to the last; what the server itself has merged, nobody can have."""
    pv, seen = p + "put:long", list[int]()
    await caput(pv, 0, wait=True)
    with anyio.fail_after(20):
        async with camonitor(pv, all_updates=True) as updates:
            assert await anext(updates) == 0
            for number in range(1, 301):
                await caput(pv, number)
            async for value in updates:
                seen.append(value)
                if value == 300:
                    break
    assert seen == sorted(set(seen))


async def test_monitor_of_alarms(p: str) -> None:
    """A change of the alarm comes with the value, in FORMAT_TIME."""
    pv = p + "alarms"
    await caput(pv, 0, wait=True)
    with anyio.fail_after(10):
        async with camonitor(pv, format=FORMAT_TIME, all_updates=True) as updates:
            assert (await anext(updates)).severity == 0
            await caput(pv, 7, wait=True)
            async for value in updates:  # a server may tell of the value and of the alarm apart
                if (value, value.severity) == (7, 1):
                    break
            await caput(pv, 0, wait=True)
            async for value in updates:
                if (value, value.severity) == (0, 0):
                    break


async def test_close(p: str) -> None:
    """After it no callback is called, though the PV goes on."""
    seen: list[Any] = []
    subscription = camonitor(p + "ticks", seen.append)
    with anyio.fail_after(5):
        while len(seen) < 2:
            await anyio.sleep(0.01)  # a plain callback has no event
    subscription.close()
    assert subscription.state == Subscription.CLOSED
    count = len(seen)
    await anyio.sleep(0.35)  # nothing must happen: three more would come
    assert len(seen) == count


async def test_cancellation(p: str) -> None:
    """A get, a put and a monitor that are cancelled leave the PVs usable at once."""
    await connect([p + "slow", p + "double"])
    with anyio.fail_after(10):
        for seconds in (0.0, 0.0001, 0.001, 0.01, 0.1):
            with anyio.move_on_after(seconds):
                await caput(p + "slow", 5, wait=True)
            with anyio.move_on_after(seconds):
                await caget(p + "double")
            with anyio.move_on_after(seconds):
                async with camonitor(p + "ticks") as updates:
                    async for _ in updates:
                        pass
            assert await caget(p + "double") == 1.5
        await caput(p + "slow", 6, wait=True)
        assert await caget(p + "slow") == 6


# -- The server dies -------------------------------------------------------------------------------


async def test_killed_and_restarted(own_server: tuple[Server, str]) -> None:
    """The monitor is told, gets fail with what happened; then all goes on by itself."""
    server, p = own_server
    pv = p + "put:double"
    await caput(pv, 5, wait=True)
    with anyio.fail_after(90):
        async with camonitor(pv, notify_disconnect=True, all_updates=True) as updates:
            assert await anext(updates) == 5
            await anyio.to_thread.run_sync(server.kill)
            value: Any = await anext(updates)
            assert isinstance(value, CANothing) and not value
            with pytest.raises(CAError):
                await caget(pv, timeout=0.2)
            await anyio.to_thread.run_sync(server.start)
            assert await anext(updates) == 0  # as it is in the beginning
            await caput(pv, 6, wait=True)
            assert await anext(updates) == 6
            assert await caget(pv) == 6


async def test_killed_while_requests_wait(own_server: tuple[Server, str]) -> None:
    """They end at once, with an error that says that the server was lost."""
    server, p = own_server
    await connect(p + "slow")
    errors: list[BaseException] = []

    async def put() -> None:
        try:
            await caput(p + "slow", 1, wait=True, timeout=30)
        except CAError as error:
            errors.append(error)

    with anyio.fail_after(90):
        async with anyio.create_task_group() as group:
            group.start_soon(put)
            await caget(p + "double")  # behind the put, on the same circuit
            start = time.monotonic()
            await anyio.to_thread.run_sync(server.kill)
        assert time.monotonic() - start < 5
        assert [type(error).__name__ for error in errors] == ["CADisconnected"]
        await anyio.to_thread.run_sync(server.start)
        await connect([p + name for name in TYPES], timeout=60)
        assert await caget(p + "double") == 1.5
