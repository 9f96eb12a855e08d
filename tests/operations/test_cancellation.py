"""Cancellation at every point of an operation, in every state of the PV.

Each operation is cancelled after 0, 1, 2... turns of the loop, until it ends before that, and by
deadlines. The docstring of each test states the invariant.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from aioca import caget, cainfo, camonitor, caput, connect, get_channel_infos, wait_for_value
from aioca._ca import tokens
from aioca._channels import registry
from aioca.testing import SoftIoc
from tests.support.iocs import PORTS

pytestmark = pytest.mark.anyio
WITH_UVLOOP = True

Operation = Callable[[str], Awaitable[object]]

# -- The operations --------------------------------------------------------------------------------


async def _caget_list(pv: str) -> object:
    return await caget([pv] * 3)


async def _caput(pv: str) -> object:
    return await caput(pv, 1)


async def _caput_wait(pv: str) -> object:
    return await caput(pv, 1, wait=True)


async def _caput_wait_list(pv: str) -> object:
    return await caput([pv] * 3, 1, wait=True)


async def _iterate(pv: str) -> object:
    async with camonitor(pv) as updates:
        return await anext(updates)


async def _iterate_many(pv: str) -> object:
    async with camonitor([pv, pv], all_updates=True) as updates:
        await anext(updates)
        return await anext(updates)


async def _block(pv: str) -> object:
    came = anyio.Event()
    async with camonitor(pv, lambda _: came.set()):
        await came.wait()
    return None


async def _block_async(pv: str) -> object:
    """Leave a block while its callback is awaited; the callback then takes time to clean up."""
    came = anyio.Event()

    async def callback(value: Any) -> None:
        came.set()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                for _ in range(3):
                    await anyio.lowlevel.checkpoint()

    async with camonitor(pv, callback):
        await came.wait()
    return None


async def _task_group(pv: str) -> object:
    came = anyio.Event()
    async with anyio.create_task_group() as group:
        subscription = camonitor(pv, lambda _: came.set(), task_group=group)
        await came.wait()
        subscription.close()
    return None


async def _wait_for_value(pv: str) -> object:
    return await wait_for_value(pv, lambda _: True)


OPERATIONS: dict[str, Operation] = {
    "caget": caget,
    "caget list": _caget_list,
    "caput": _caput,
    "caput wait": _caput_wait,
    "caput wait list": _caput_wait_list,
    "connect": connect,
    "cainfo": cainfo,
    "iterate": _iterate,
    "iterate many": _iterate_many,
    "block": _block,
    "block async": _block_async,
    "task group": _task_group,
    "wait_for_value": _wait_for_value,
}
every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)

# -- Ways to cancel them ---------------------------------------------------------------------------


async def _cancelled_after(turns: int, operation: Operation, pv: str) -> bool:
    """Cancel the operation after some turns of the loop; False if it has ended before that."""
    ended = False

    async def cancel() -> None:
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        scope.cancel()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                group.start_soon(cancel)
                await operation(pv)
                ended = True
            group.cancel_scope.cancel()
    return not ended


async def _cancelled_by_deadline(seconds: float, operation: Operation, pv: str) -> bool:
    try:
        with anyio.fail_after(seconds):
            await operation(pv)
    except TimeoutError:
        return True
    return False


def _spares() -> int:
    return sum(len(channel.put_channels) for channel in registry.current().channels.values())


async def _nothing_is_left() -> None:
    """Check that no operation or subscription is left, and no token except those of channels.

    A cancelled put has a token until the server has completed it.
    """
    context = registry.current()
    assert not context.operations
    assert not context.portal.receivers
    assert {info.subscriber_count for info in get_channel_infos()} <= {0}
    assert all(not channel.listeners for channel in context.channels.values())
    try:
        with anyio.fail_after(5):
            while tokens.token_count() != len(get_channel_infos()) + _spares():
                await anyio.sleep(0.001)  # poll: there is no event for the end of a cancelled put
    except TimeoutError:
        raise AssertionError(list(tokens.owners.values())) from None


async def _usable(pv: str, value: float) -> None:
    """Check that the PV can be used at once: the limit is far below any operation's time-out."""
    with anyio.fail_after(2):
        await caput(pv, value, wait=True)
        assert await caget(pv) == value
        async with camonitor(pv) as updates:
            assert await anext(updates) == value
        await caput(pv, 0, wait=True)


# -- Connected -------------------------------------------------------------------------------------


@every_operation
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "connecting"])
async def test_at_each_point(p: str, operation: Operation, connected: bool) -> None:
    """A cancelled operation leaves nothing behind, and its PV can be used at once."""
    pv = p + "m:a"
    cancelled = turns = 0
    if connected:
        await connect(pv)
    while await _cancelled_after(turns, operation, pv):
        cancelled += 1
        await _nothing_is_left()
        # Try each of the first few turns, then fewer: in most turns it waits for the server.
        turns += 1 + turns // 4
        if not connected and cancelled == 12:
            break  # the channel has connected during the attempts
    await _nothing_is_left()
    # Under asyncio, an operation on a connected PV that need not wait is not cancelled.
    assert cancelled or connected
    await _usable(pv, 3)
    await _nothing_is_left()


@every_operation
async def test_before_it_begins(p: str, operation: Operation) -> None:
    """In a scope that is already cancelled, nothing hangs and nothing is left behind."""
    pv = p + "m:a"
    with anyio.fail_after(5):
        for _ in range(2):  # not connected, and connected
            with anyio.move_on_after(0):
                await operation(pv)
            with anyio.CancelScope() as scope:
                scope.cancel()
                await operation(pv)
            await _nothing_is_left()
            await connect(pv)
    await _usable(pv, 4)


@every_operation
async def test_tiny_deadlines(p: str, operation: Operation) -> None:
    """A deadline at any moment, even during a reply, is either met or missed.

    The PV can be used afterwards, and nothing is left behind.
    """
    pv = p + "m:a"
    await connect(pv)
    outcomes = [
        await _cancelled_by_deadline(microseconds / 1e6, operation, pv)
        for microseconds in (0, 1, 10, 30, 60, 100, 150, 200, 300, 500, 1000, 2000, 5000, 1e6)
        for _ in range(2)
    ]
    assert not outcomes[-1], "it did not end within a second"
    await _nothing_is_left()
    await _usable(pv, 5)


# -- Absent ----------------------------------------------------------------------------------------


async def test_absent(own_ioc: Callable[..., SoftIoc], unique: str) -> None:
    """Each operation is cancelled many times while it waits for a PV that does not exist.

    Only a channel that libca searches for is left. When the PV appears, it can be used, and no
    cancelled operation is carried out.
    """
    pv = unique + "absent"
    for name, operation in OPERATIONS.items():
        for turns in (0, 1, 2, 3, 5, 8):
            assert await _cancelled_after(turns, operation, pv), name
            await _nothing_is_left()
        assert await _cancelled_by_deadline(0.001, operation, pv), name
        await _nothing_is_left()
    assert [(info.name, info.connected) for info in get_channel_infos()] == [(pv, False)]
    ioc = own_ioc('record(ao, "$(P)absent") { field(VAL, "7") }', {"P": unique})
    await anyio.to_thread.run_sync(ioc.start)
    with anyio.fail_after(15):
        await connect(pv, timeout=None)
    assert await caget(pv) == 7
    await _usable(pv, 6)
    await _nothing_is_left()


# -- Paused ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def paused_ioc() -> Iterator[tuple[SoftIoc, str]]:
    """An IOC to pause, and its PV. It has the last port: `own_ioc` counts from the first."""
    pv = f"U{time.time_ns():x}:paused"
    with SoftIoc(f'record(ao, "{pv}") {{}}', port=PORTS[-1]) as ioc:
        yield ioc, pv


@every_operation
async def test_paused(paused_ioc: tuple[SoftIoc, str], operation: Operation) -> None:
    """An operation that is cancelled while the server does not respond ends at once.

    When the server continues, the PV can be used at once, and nothing is left behind.
    """
    ioc, pv = paused_ioc
    await connect(pv)
    ioc.pause()
    try:
        for turns in (0, 1, 2, 3, 5):
            start = time.monotonic()
            await _cancelled_after(turns, operation, pv)
            assert time.monotonic() - start < 1
        start = time.monotonic()
        await _cancelled_by_deadline(0.01, operation, pv)
        assert time.monotonic() - start < 1
        assert not registry.current().operations
        assert not registry.current().portal.receivers
    finally:
        ioc.resume()
    await _usable(pv, 2)
    await _nothing_is_left()


# -- Slow puts -------------------------------------------------------------------------------------


async def test_put_that_is_being_processed(p: str) -> None:
    """A put is cancelled while the record is busy.

    It neither blocks the next put nor other requests to the IOC. Its token is removed when the
    server has completed it.
    """
    pv = p + "slow.A"
    await connect(pv)
    channel = registry.current().channel(pv)
    for _ in range(5):  # on a busy machine these steps may take longer than the record
        owners: list[object] = []
        for _ in range(3):
            with anyio.move_on_after(0.02) as scope:
                await caput(pv, 0, wait=True, timeout=None)
            assert scope.cancelled_caught
            owners.append(channel.put_owner)
            with anyio.fail_after(1):
                await caget(pv)
                await caput(p + "m:a", 1, wait=True)
        if channel.put_owner is owners[0] is not None:
            break  # the first put is still being processed: the steps were fast enough
    else:
        raise AssertionError("others are served only when the first has ended")
    with anyio.fail_after(5):
        await caput(pv, 0, wait=True)
        await caput(p + "m:a", 0, wait=True)
    await _nothing_is_left()


async def test_one_of_several_waiting(p: str) -> None:
    """When one caller is cancelled, the others still get their results."""
    pv, results = p + "m:a", list[float]()

    async def get() -> None:
        results.append(await caget(pv))

    await caput(pv, 2, wait=True)
    with anyio.fail_after(5):
        for turns in range(6):
            results.clear()
            async with anyio.create_task_group() as group:
                group.start_soon(get)
                group.start_soon(_cancelled_after, turns, caget, pv)
                group.start_soon(get)
            assert results == [2, 2]
    await caput(pv, 0, wait=True)
    await _nothing_is_left()


async def test_iteration_that_is_cancelled_loses_nothing(p: str) -> None:
    """A loop that waits for each update with a time limit still gets all updates."""
    pv, seen = p + "m:a", list[float]()
    await caput(pv, 0, wait=True)

    async def put() -> None:
        for value in range(1, 31):
            await caput(pv, value, wait=True)

    with anyio.fail_after(10):
        async with (
            camonitor(pv, all_updates=True) as updates,
            anyio.create_task_group() as group,
        ):
            group.start_soon(put)
            turns = 0
            while seen[-1:] != [30]:
                turns += 1

                async def one(_: str) -> None:
                    seen.append(await anext(updates))

                await _cancelled_after(turns % 7, one, pv)
    assert seen == list(range(31))
    await caput(pv, 0, wait=True)
