"""Monitors of names with filters, whose state an IOC keeps with the channel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from aioca import caget, camonitor, caput, get_channel_infos, run, wait_for_value
from aioca._channels.registry import current
from aioca.testing import SoftIoc

pytestmark = pytest.mark.anyio
FILTERS = ['{"dbnd":{"d":5}}', '{"dec":{"n":3}}']


def channels_of(name: str) -> list[int]:
    """The numbers of subscriptions of the channels with this name."""
    return [info.subscriber_count for info in get_channel_infos() if info.name == name]


@pytest.mark.parametrize("filter", FILTERS)
async def test_two_monitors_get_the_same(p: str, filter: str) -> None:
    """Each has the first update, and each that passes the filter."""
    record, pv = p + "put:ao", f"{p}put:ao.{filter}"
    await caput(record, 0, wait=True)
    with anyio.fail_after(10):
        async with (
            camonitor(pv, all_updates=True) as one,
            camonitor(pv, all_updates=True) as other,
        ):
            seen: list[list[Any]] = [[await anext(one)], [await anext(other)]]
            for number in range(1, 13):
                await caput(record, number, wait=True)
            for values, updates in zip(seen, (one, other), strict=True):
                while len(values) < (3 if "dbnd" in filter else 5):
                    values.append(await anext(updates))
    assert seen[0] == seen[1] == ([0, 6, 12] if "dbnd" in filter else [0, 3, 6, 9, 12])


@pytest.mark.parametrize("filter", FILTERS)
async def test_each_monitor_has_a_first_update(p: str, filter: str) -> None:
    """Also one that begins when another has ended, and after a read."""
    record, pv = p + "put:ao", f"{p}put:ao.{filter}"
    for number in (1, 2, 3):
        await caput(record, number, wait=True)
        assert await caget(pv) == number
        with anyio.fail_after(5):
            async with camonitor(pv) as updates:
                assert await anext(updates) == number
            assert await wait_for_value(pv, number) == number


async def test_the_channel_ends_with_its_monitor(p: str) -> None:
    """The one that `caget` uses stays."""
    pv = f"{p}put:ao.{FILTERS[0]}"
    await caget(pv)
    assert channels_of(pv) == [0]
    with anyio.fail_after(5):
        async with camonitor(pv) as updates:
            await anext(updates)
            assert channels_of(pv) == [0, 1]
        while channels_of(pv) != [0]:
            await anyio.sleep(0.02)  # it ends with a timer: there is no event


async def test_a_monitor_that_never_connects(unique: str) -> None:
    """Its channel ends at once."""
    pv = f"{unique}none.{FILTERS[0]}"
    subscription = camonitor(pv, print)
    assert channels_of(pv) == [1]
    subscription.close()
    assert channels_of(pv) == []


async def test_after_a_restart(own_ioc: Callable[..., SoftIoc], unique: str) -> None:
    """The filter begins again, for both monitors."""
    record, pv = unique + "ao", f"{unique}ao.{FILTERS[0]}"
    ioc = own_ioc(f'record(ao, "{record}") {{ field(PINI, "YES") }}')
    ioc.start()
    with anyio.fail_after(60):
        async with (
            camonitor(pv, all_updates=True, notify_disconnect=True) as one,
            camonitor(pv, all_updates=True, notify_disconnect=True) as other,
        ):
            for updates in (one, other):
                assert await anext(updates) == 0
            await anyio.to_thread.run_sync(ioc.restart)
            for updates in (one, other):
                assert not (await anext(updates)).ok
                assert await anext(updates) == 0
            await caput(record, 3, wait=True)
            await caput(record, 7, wait=True)
            for updates in (one, other):
                assert await anext(updates) == 7


@pytest.mark.parametrize("filter", FILTERS)
async def test_another_loop_ends(p: str, filter: str) -> None:
    """The end of a run has the other loops send reads, and closes no channel of theirs."""
    record, pv = p + "put:ao", f"{p}put:ao.{filter}"
    await caput(record, 0, wait=True)
    with anyio.fail_after(20):
        async with camonitor(pv, all_updates=True) as updates:
            assert await anext(updates) == 0
            await anyio.to_thread.run_sync(lambda: run(caget(record)))
            held = current().held_updates
            (channel,) = (c for c in current().channels.values() if c.private)
            held.note_cancelled(channel)  # as `LoopContext.prompt` has done, but surely not earlier
            while held._cancelled:
                await anyio.sleep(0.01)  # a timer sends the read: there is no event
            for number in range(3, 13, 3):
                await caput(record, 2 * number, wait=True)
            assert await anext(updates) == (6 if "dbnd" in filter else 18)


async def test_another_type_after_a_restart(own_ioc: Callable[..., SoftIoc], unique: str) -> None:
    """The monitor goes on, and has the first value of the new type."""
    record, pv = unique + "x", f"{unique}x.{FILTERS[0]}"
    ioc = own_ioc(f'record(ao, "{record}") {{ field(VAL, "1") field(PINI, "YES") }}')
    ioc.start()
    with anyio.fail_after(60):
        async with camonitor(pv, all_updates=True) as updates:
            assert await anext(updates) == 1
            other = f'record(longout, "{record}") {{ field(VAL, "7") field(PINI, "YES") }}'
            await anyio.to_thread.run_sync(ioc.restart, other)
            value = await anext(updates)
            assert (value, type(+value)) == (7, int)
            await caput(record, 70, wait=True)
            assert await anext(updates) == 70
            assert channels_of(pv) == [1]
