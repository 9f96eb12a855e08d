"""The four forms of camonitor."""

from __future__ import annotations

import gc
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from aioca import Subscription, camonitor, caput, get_channel_infos, purge_channel_caches
from tests.support.monitors import Received, everything_arrived

pytestmark = pytest.mark.anyio
WITH_UVLOOP = True


async def test_plain_callback(a: str) -> None:
    received = Received()
    subscription = camonitor(a, received)
    assert isinstance(subscription, Subscription)
    await received.until(lambda values: values == [0])
    await caput(a, 1)
    await received.until(lambda values: values == [0, 1])
    assert received.values[-1].name == a
    assert received.values[-1].ok
    subscription.close()
    await caput(a, 2, wait=True)
    await everything_arrived(a)
    assert received.values == [0, 1]


async def test_plain_callback_lives_without_a_reference(a: str) -> None:
    received = Received()
    camonitor(a, received)
    gc.collect()
    await received.until(lambda values: values == [0])
    gc.collect()
    await caput(a, 1)
    await received.until(lambda values: values == [0, 1])
    purge_channel_caches()


async def test_block_iteration(a: str) -> None:
    seen = []
    with anyio.fail_after(5):
        async with camonitor(a) as updates:
            async for value in updates:
                seen.append(value)
                if value == 3:
                    break
                await caput(a, value + 1)
    assert seen == [0, 1, 2, 3]
    assert [info.subscriber_count for info in get_channel_infos() if info.name == a] == [0]


async def test_block_callback(a: str) -> None:
    received = Received()
    async with camonitor(a, received) as subscription:
        assert subscription.state != Subscription.CLOSED
        await caput(a, 1)
        await received.until(lambda values: values[-1:] == [1])
    assert subscription.state == Subscription.CLOSED
    count = len(received.values)
    await caput(a, 2, wait=True)
    await everything_arrived(a)
    assert len(received.values) == count


async def test_task_group(a: str) -> None:
    received = Received()
    async with anyio.create_task_group() as group:
        subscription = camonitor(a, received, task_group=group)
        await received.until(lambda values: values == [0])
        await caput(a, 1)
        await received.until(lambda values: values == [0, 1])
        subscription.close()  # so that the group can end
    await caput(a, 2, wait=True)
    await everything_arrived(a)
    assert received.values == [0, 1]


@pytest.mark.parametrize("form", ["plain", "block", "task_group"])
async def test_list_with_callback(a: str, b: str, form: str) -> None:
    received = Received()

    async def check(subscriptions: Any) -> None:
        assert [s.name for s in subscriptions] == [a, b, a]
        assert all(isinstance(s, Subscription) for s in subscriptions)
        await received.until(lambda values: len(values) == 3)
        assert sorted(received.values) == [(0, 0), (1, 0), (2, 0)]
        received.values.clear()
        await caput(b, 5)
        await received.until(lambda values: values == [(1, 5)])
        assert received.values[0][1].name == b
        await caput(a, 6)
        await received.until(lambda values: len(values) == 3)
        assert sorted(received.values[1:]) == [(0, 6), (2, 6)]

    if form == "plain":
        subscriptions = camonitor([a, b, a], received)
        assert isinstance(subscriptions, list)
        await check(subscriptions)
        subscriptions.close()
    elif form == "block":
        async with camonitor([a, b, a], received) as subscriptions:
            await check(subscriptions)
    else:
        async with anyio.create_task_group() as group:
            subscriptions = camonitor([a, b, a], received, task_group=group)
            await check(subscriptions)
            for subscription in subscriptions:
                subscription.close()
    assert all(s.state == Subscription.CLOSED for s in subscriptions)


async def test_list_merged_in_order_of_arrival(a: str, b: str) -> None:
    seen = []
    with anyio.fail_after(5):
        async with camonitor([a, b], all_updates=True) as updates:
            assert [s.name for s in updates.subscriptions] == [a, b]
            async for value in updates:
                seen.append((value.name, value))
                if len(seen) == 2:
                    break
            for value, pv in enumerate([b, b, a, b, a, a], start=1):
                await caput(pv, value, wait=True)
            async for value in updates:
                seen.append((value.name, value))
                if value == 6:
                    break
    assert sorted(seen[:2]) == [(a, 0), (b, 0)]
    assert seen[2:] == [(b, 1), (b, 2), (a, 3), (b, 4), (a, 5), (a, 6)]


@pytest.mark.unit
@pytest.mark.parametrize("form", ["plain", "block", "task_group", "stream"])
async def test_empty_list(form: str) -> None:
    """With no PVs there are no updates, and iteration ends at once."""
    received = Received()
    with anyio.fail_after(2):
        if form == "plain":
            assert list(camonitor([], received)) == []
        elif form == "block":
            async with camonitor([], received):
                pass
        elif form == "stream":
            async with camonitor([]) as updates:
                assert [value async for value in updates] == []
        else:
            async with anyio.create_task_group() as group:
                camonitor([], received, task_group=group)


async def test_iteration_ends_when_all_is_closed(a: str, b: str) -> None:
    seen = []
    with anyio.fail_after(5):
        async with camonitor([a, b], all_updates=True) as updates:
            async for value in updates:
                seen.append(value.name)
                updates.subscriptions[[a, b].index(value.name)].close()
    assert sorted(seen) == [a, b]


async def test_iteration_ends_when_purged(a: str) -> None:
    with anyio.fail_after(5):
        async with camonitor(a) as updates:
            async for _ in updates:
                purge_channel_caches()


async def test_only_one_task_can_iterate(a: str) -> None:
    async with camonitor(a) as updates, anyio.create_task_group() as group:
        await anext(updates)
        group.start_soon(anext, updates)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(RuntimeError, match="another task"):
            await anext(updates)
        group.cancel_scope.cancel()
