"""Updates that arrive faster than a monitor takes them."""

from __future__ import annotations

import ctypes
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from aioca import camonitor, caput
from tests.support.ids import shown
from tests.support.monitors import Blocked, Received, everything_arrived, time_double

pytestmark = pytest.mark.anyio
WITH_UVLOOP = True

LAST = 10


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ({}, [LAST]),
        ({"max_pending": 1}, [LAST]),
        ({"max_pending": 3}, [LAST - 2, LAST - 1, LAST]),
        ({"max_pending": 1000}, list(range(1, LAST + 1))),
        ({"all_updates": True}, list(range(1, LAST + 1))),
    ],
    ids=["latest", "newest 1", "newest 3", "newest 1000", "all"],
)
@pytest.mark.parametrize("form", ["callback", "iteration"])
async def test_policies(a: str, form: str, policy: dict[str, Any], kept: list[int]) -> None:
    """The updates that are kept and counted while the consumer handles the first one."""
    with anyio.fail_after(5):
        if form == "callback":
            blocked = Blocked()
            async with camonitor(a, blocked, **policy) as subscription:
                await blocked.entered.wait()
                for value in range(1, LAST + 1):
                    await caput(a, value, wait=True)
                await everything_arrived(a)
                blocked.release.set()
                while blocked.values[-1] != LAST:
                    await anyio.lowlevel.checkpoint()
            assert blocked.values == [0, *kept]
        else:
            async with camonitor(a, **policy) as updates:
                (subscription,) = updates.subscriptions
                assert await anext(updates) == 0
                for value in range(1, LAST + 1):
                    await caput(a, value, wait=True)
                await everything_arrived(a)
                seen = []
                while seen[-1:] != [LAST]:
                    seen.append(await anext(updates))
            assert seen == kept
    assert subscription.dropped_callbacks == LAST - len(kept)
    assert subscription.all_updates == policy.get("all_updates", False)


@pytest.mark.parametrize("policy", [{}, {"max_pending": 7}, {"all_updates": True}], ids=shown)
@pytest.mark.parametrize("form", ["callback", "async callback", "iteration"])
@pytest.mark.parametrize("last", [500, pytest.param(5000, marks=pytest.mark.soak)])
async def test_last_value_of_a_flood_arrives(
    a: str, form: str, policy: dict[str, Any], last: int
) -> None:
    """The server or aioca may drop updates, but the order is kept and the last one arrives."""
    received = Received()

    async def async_callback(value: Any) -> None:
        await anyio.lowlevel.checkpoint()
        received(value)

    async def flood() -> None:
        await received.until(lambda values: values == [0])
        for value in range(1, last + 1):
            await caput(a, value)
            if value % 50 == 0:
                await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(flood)
        if form == "iteration":
            with anyio.fail_after(30):
                async with camonitor(a, **policy) as updates:
                    async for value in updates:
                        received(value)
                        if value == last:
                            break
        else:
            callback = received if form == "callback" else async_callback
            async with camonitor(a, callback, **policy):
                await received.until(lambda values: values[-1:] == [last], seconds=30)
    assert received.values == sorted(received.values)
    assert len(set(received.values)) == len(received.values)


def _update(value: float) -> int:
    """The address of a DBR_TIME_DOUBLE, as libca would pass it."""
    data = ctypes.create_string_buffer(time_double(value))
    _updates.append(data)
    return ctypes.addressof(data)


DBR_TIME_DOUBLE = 20  # the DBR type that a monitor requests
_updates: list[object] = []  # keeps the memory at those addresses
