"""Task groups that own monitors: errors and cancellation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from aioca import Subscription, camonitor, caput
from tests.support.lifetime import (
    OF_A_GROUP,
    Hanging,
    OpenGroup,
    Seen,
    leaves,
    subscribers,
    updated,
)

pytestmark = pytest.mark.anyio
WITH_UVLOOP = True


async def test_group_owns_the_monitor(pv: str, open_group: OpenGroup) -> None:
    """The monitor ends with the group's scope. No callback runs after that."""
    seen = Seen()
    with anyio.fail_after(5), anyio.CancelScope() as scope:
        async with open_group() as group:
            subscription = camonitor(pv, seen, task_group=group)
            await seen.first.wait()
            scope.cancel()
    assert subscription.state == Subscription.CLOSED
    assert subscribers() == 0
    await updated(pv, 1)
    assert seen.values == [0]


async def test_group_waits_for_the_monitor(pv: str, open_group: OpenGroup) -> None:
    """The monitor is a child of the group: the group ends only when the monitor is closed."""
    seen = Seen()
    left = False

    async def close_later() -> None:
        await seen.first.wait()
        await updated(pv, 1)
        assert not left
        subscription.close()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as outer:
            async with open_group() as group:
                subscription = camonitor(pv, seen, task_group=group)
                outer.start_soon(close_later)
            left = True
    assert seen.values == [0, 1]


async def test_group_gets_the_error(
    pv: str, open_group: OpenGroup, failing: Callable[[Any], Any]
) -> None:
    """The error of a callback is raised in the group, and cancels its other tasks."""
    cancelled = []
    sibling_values = Seen()
    with (
        anyio.fail_after(5),
        pytest.raises(Exception, match=OF_A_GROUP) as info,
    ):
        async with open_group() as group:
            subscription = camonitor(pv, failing, task_group=group)
            sibling = camonitor(pv, sibling_values, task_group=group)
            await sibling_values.first.wait()
            await caput(pv, 1)
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                cancelled.append("body")
                raise
    (error,) = leaves(info.value)
    assert type(error) is ValueError
    assert cancelled == ["body"]
    assert subscription.state == sibling.state == Subscription.CLOSED
    assert subscribers() == 0


async def test_trio_demo(p: str, open_group: OpenGroup) -> None:
    """A nursery with a monitor and two workers: the callback fails, and all of them end."""
    pv, ended = p + "m:a", []
    await caput(pv, 0, wait=True)

    def interlock(value: Any) -> None:
        if value > 10:
            raise RuntimeError(f"{value.name} is too high: {value}")

    async def worker(name: str) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(name)

    def start(group: Any, name: str) -> None:
        if hasattr(group, "start_soon"):
            group.start_soon(worker, name)
        else:
            group.create_task(worker(name))

    with anyio.fail_after(5), pytest.raises(Exception, match=OF_A_GROUP) as info:
        async with open_group() as nursery:
            camonitor(pv, interlock, task_group=nursery)
            start(nursery, "one")
            start(nursery, "two")
            await anyio.lowlevel.checkpoint()
            await caput(pv, 5, wait=True)
            await caput(pv, 11)
    (error,) = leaves(info.value)
    assert isinstance(error, RuntimeError)
    assert str(error) == f"{pv} is too high: 11.0"
    assert sorted(ended) == ["one", "two"]
    assert subscribers() == 0


async def test_group_of_many_gets_the_error(
    pv: str, p: str, open_group: OpenGroup, failing: Callable[[Any], Any]
) -> None:
    """A list of PVs is one child: an error in the callback for one PV closes all monitors."""
    with anyio.fail_after(5), pytest.raises(Exception, match=OF_A_GROUP) as info:
        async with open_group() as group:
            subscriptions = camonitor(
                [p + "m:b", pv], lambda value, index: index and failing(value), task_group=group
            )
            await caput(pv, 1)
    (error,) = leaves(info.value)
    assert type(error) is ValueError
    assert {s.state for s in subscriptions} == {Subscription.CLOSED}


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
async def test_group_ended_at_once(pv: str, open_group: OpenGroup, turns: int) -> None:
    """The group fails early, even before its new child has run for the first time.

    The monitor is closed when the group has ended, and no callback runs after that.
    """
    seen = Seen()
    with anyio.fail_after(5), pytest.raises(Exception, match=OF_A_GROUP) as info:
        async with open_group() as group:
            subscription = camonitor(pv, seen, task_group=group)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            raise KeyError("of the body")
    assert [type(error) for error in leaves(info.value)] == [KeyError]
    count = len(seen.values)
    try:
        assert subscription.state == Subscription.CLOSED
        assert subscribers() == 0
        await updated(pv, 1)
        assert len(seen.values) == count
    finally:
        subscription.close()


async def test_group_cancels_async_callbacks(pv: str, open_group: OpenGroup) -> None:
    hanging = Hanging()
    with anyio.fail_after(5), anyio.CancelScope() as scope:
        async with open_group() as group:
            camonitor(pv, hanging, task_group=group)
            await hanging.entered.wait()
            scope.cancel()
    assert (hanging.calls, hanging.cancelled) == (1, 1)


async def test_group_lets_a_running_callback_end_after_close(
    pv: str, open_group: OpenGroup
) -> None:
    """close() ends the monitor. A running callback continues to its end, inside the group."""
    ended = []

    async def callback(value: Any) -> None:
        subscription.close()
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        ended.append(value)

    with anyio.fail_after(5):
        async with open_group() as group:
            subscription = camonitor(pv, callback, task_group=group)
        assert ended == [0]
