"""Monitors when their server disconnects or restarts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import pytest

from aioca import CANothing, Subscription, camonitor, caput
from aioca._monitors import first_update
from aioca.testing import SoftIoc
from aioca.types import ca_float
from tests.support.monitors import ECA_TIMEOUT, Received, everything_arrived

pytestmark = pytest.mark.anyio
WITH_UVLOOP = True

ECA_DISCONN = 192
BEFORE = """
record(ao, "$(P)same") { field(VAL, "1") }
record(ao, "$(P)to-string") { field(VAL, "42") }
record(ao, "$(P)to-number") { field(VAL, "42") }
record(ao, "$(P)to-array") { field(VAL, "42") }
record(waveform, "$(P)longer") { field(FTVL, "DOUBLE") field(NELM, "3") field(INP, [1, 2, 3]) }
"""
AFTER = """
record(ao, "$(P)same") { field(VAL, "1") }
record(stringout, "$(P)to-string") { field(VAL, "hello") }
record(longout, "$(P)to-number") { field(VAL, "7") }
record(waveform, "$(P)to-array") { field(FTVL, "DOUBLE") field(NELM, "3") field(INP, [4, 5, 6]) }
record(waveform, "$(P)longer") { field(FTVL, "DOUBLE") field(NELM, "6") field(INP, [1,2,3,4,5,6]) }
"""
NAMES = ["same", "to-string", "to-number", "to-array", "longer"]


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


# Not on uvloop, which makes no difference: libca takes 8 s to detect the restarted IOC.
@pytest.mark.parametrize("anyio_backend", [("asyncio", {}), ("trio", {})], ids=lambda b: b[0])
async def test_restart_with_other_types(own_ioc: Callable[..., SoftIoc], unique: str) -> None:
    """All effects of a restart of the IOC in one test, as libca is slow to reconnect."""
    ioc = own_ioc(BEFORE, {"P": unique})
    ioc.start()
    pvs = [unique + name for name in NAMES]
    noticed, quiet, fixed, texts = Received(), Received(), Received(), Received()
    async with (
        camonitor(pvs, noticed, notify_disconnect=True, all_updates=True) as subscriptions,
        camonitor(pvs, quiet),
        camonitor(unique + "longer", fixed, count=-1),
        camonitor(unique + "to-array", texts, datatype=str),
    ):
        for received, count in ((noticed, 5), (quiet, 5), (fixed, 1), (texts, 1)):
            await received.until(lambda values, count=count: len(values) == count)
        assert {i: _plain(v) for i, v in noticed.values} == {
            0: 1, 1: 42, 2: 42, 3: 42, 4: [1, 2, 3],
        }  # fmt: skip
        for received in (noticed, quiet, fixed, texts):
            received.values.clear()

        ioc.kill()
        await noticed.until(lambda values: len(values) == len(NAMES))
        assert sorted(index for index, _ in noticed.values) == [0, 1, 2, 3, 4]
        for index, value in noticed.values:
            assert type(value) is CANothing
            assert not value
            assert not value.ok
            assert (value.name, value.errorcode) == (pvs[index], ECA_DISCONN)
        assert quiet.values == []
        assert all(s.state == Subscription.OPEN for s in subscriptions)
        noticed.values.clear()

        ioc.restart(AFTER)
        for received, count in ((noticed, 5), (quiet, 5), (fixed, 1), (texts, 1)):
            await received.until(lambda values, count=count: len(values) >= count, seconds=25)
        # A wrong update would arrive now.
        await everything_arrived(unique + "same")
        for received in (noticed, quiet):
            assert len(received.values) == 5, received.values
            values = dict(received.values)
            # The first update arrives, though the value has not changed.
            assert {i: _plain(v) for i, v in values.items()} == {
                0: 1, 1: "hello", 2: 7, 3: [4, 5, 6], 4: [1, 2, 3, 4, 5, 6],
            }  # fmt: skip
            assert isinstance(values[1], str)
            assert isinstance(values[2], int)
            assert isinstance(values[3], np.ndarray)
            assert values[4].element_count == 6
        assert fixed.values[-1].tolist() == [1, 2, 3, 4, 5, 6]
        assert _plain(texts.values[-1]) == ["4", "5", "6"]
        await caput(unique + "to-string", "world")
        await noticed.until(lambda values: values[-1:] == [(1, "world")])


@pytest.mark.parametrize("form", ["callback", "iteration"])
async def test_connect_timeout(own_ioc: Callable[..., SoftIoc], unique: str, form: str) -> None:
    """One falsy CANothing is delivered; the monitor delivers updates when the PV appears."""
    received = Received()
    pv = unique + "late"

    async def check(subscription: Subscription) -> None:
        await received.until(lambda values: len(values) == 1)
        (nothing,) = received.values
        assert type(nothing) is CANothing
        assert not nothing
        assert (nothing.name, nothing.errorcode) == (pv, ECA_TIMEOUT)
        assert subscription.state == Subscription.OPENING
        ioc = own_ioc('record(ao, "$(P)late") { field(VAL, "3") }', {"P": unique})
        await anyio.to_thread.run_sync(ioc.start)
        await received.until(lambda values: values[1:] == [3], seconds=15)
        assert subscription.state == Subscription.OPEN

    async def iterate(updates: Any) -> None:
        async for value in updates:
            received(value)

    if form == "callback":
        async with camonitor(pv, received, connect_timeout=0.1) as subscription:
            await check(subscription)
    else:
        async with (
            camonitor(pv, connect_timeout=0.1) as updates,
            anyio.create_task_group() as group,
        ):
            group.start_soon(iterate, updates)
            await check(updates.subscriptions[0])
            group.cancel_scope.cancel()


async def test_connect_timeout_behind_the_connection(
    a: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timer of a connection that came in time is not that of a large first update."""

    def expect(monitor: Any, reader: Any) -> None:
        first_update.FirstUpdate(monitor, "it is large").wait()
        monitor.connect_timed_out()  # its job was queued behind that of the connection

    monkeypatch.setattr(first_update, "expect", expect)
    received = Received()
    async with camonitor(a, received, notify_disconnect=True):
        await received.until(lambda values: len(values) >= 1)
        await everything_arrived(a)
    assert [type(value) for value in received.values] == [ca_float]


async def test_connect_timeout_in_time(a: str) -> None:
    received = Received()
    async with camonitor(a, received, connect_timeout=0.2):
        await received.until(lambda values: values == [0])
        await anyio.sleep(0.3)  # longer than the timeout: nothing must happen: no event to await
        assert received.values == [0]


async def test_connect_timeout_closed_before(unique: str) -> None:
    received = Received()
    subscription = camonitor(unique + "absent", received, connect_timeout=0.05)
    subscription.close()
    await anyio.sleep(0.15)  # longer than the timeout: nothing must happen: no event to await
    assert received.values == []
