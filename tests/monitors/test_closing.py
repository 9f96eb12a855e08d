"""The end of monitors."""

from __future__ import annotations

import time
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from aioca import Subscription, camonitor, caput, connect, get_channel_infos
from aioca._channels.registry import current
from aioca._monitors.latest import TICKET_USED, Latest
from aioca._monitors.owners import LoopOwner
from aioca.testing import SoftIoc
from tests.support.monitors import Blocked, Received, callback, everything_arrived

pytestmark = pytest.mark.anyio
WITH_UVLOOP = True


def _is_queued(subscription: Subscription) -> bool:
    """Whether libca's thread has queued an update that the loop has not taken yet."""
    monitor = subscription._monitor
    policy = monitor._policy
    assert isinstance(policy, Latest)
    return policy.waiting.get(monitor._key, TICKET_USED) is not TICKET_USED


def _wait_until_queued(subscription: Subscription) -> None:
    """Wait for an update without letting the loop run."""
    give_up = time.monotonic() + 10
    while not _is_queued(subscription):
        assert time.monotonic() < give_up, "nothing is queued: this test tests nothing any more"
        time.sleep(0.01)  # poll: an event would need the loop


async def test_states_and_attributes(a: str, p: str) -> None:
    await connect(p + "m:b")
    received = Received()
    subscription = camonitor(a, received)
    assert (Subscription.OPENING, Subscription.OPEN, Subscription.CLOSED) == (0, 1, 2)
    assert subscription.name == a
    assert subscription.callback is received
    assert subscription.all_updates is False
    assert subscription.dropped_callbacks == 0
    await received.until(lambda values: values == [0])
    assert subscription.state == Subscription.OPEN
    subscription.close()
    assert subscription.state == Subscription.CLOSED
    subscription.close()
    assert subscription.state == Subscription.CLOSED
    assert subscription.name == a
    every = camonitor(p + "m:b", received, all_updates=True)
    assert every.all_updates is True
    every.close()


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_another_callback_is_assigned(a: str, kind: str) -> None:
    """As in aioca 2.x: the next update goes to the new callback."""
    first, second = Received(), Received()

    async def later(value: Any) -> None:
        await anyio.lowlevel.checkpoint()
        second(value)

    subscription = camonitor(a, first, all_updates=True)
    await first.until(lambda values: values == [0])
    subscription.callback = second if kind == "plain" else later
    assert subscription.callback is (second if kind == "plain" else later)
    await caput(a, 1)
    await second.until(lambda values: values == [1])
    subscription.callback = first
    await caput(a, 2)
    await first.until(lambda values: values == [0, 2])
    assert second.values == [1]
    subscription.close()


async def test_another_callback_of_one_of_many(a: str, b: str) -> None:
    """As in aioca 2.x, it gets only the value. The old callback can be assigned again."""
    first, second = Received(), Received()
    subscriptions = camonitor([a, b], first, all_updates=True)
    await first.until(lambda values: sorted(values) == [(0, 0), (1, 0)])
    before = subscriptions[1].callback
    subscriptions[1].callback = second
    assert subscriptions[1].callback is second
    await caput([a, b], [1, 2])
    await second.until(lambda values: values == [2])
    await first.until(lambda values: (0, 1) in values)
    subscriptions[1].callback = before
    assert subscriptions[1].callback == before != subscriptions[0].callback
    await caput(b, 3)
    await first.until(lambda values: (1, 3) in values)
    assert (first.values[2:], second.values) == ([(0, 1), (1, 3)], [2])
    subscriptions.close()


async def test_another_callback_before_the_first_has_begun(a: str) -> None:
    """A closed monitor's async callback does not begin, even if another one was assigned."""
    called: list[Any] = []
    closed = anyio.Event()

    async def first(value: Any) -> None:
        called.append(value)

    class Owner(LoopOwner):
        def spawn(self, *args: Any, **kwargs: Any) -> None:
            super().spawn(*args, **kwargs)  # the coroutine exists, and will begin later
            subscription.callback = callback
            subscription.close()
            closed.set()

    subscription = camonitor(a, first)
    feed: Any = subscription._monitor
    feed.owner = Owner(current().portal)
    with anyio.fail_after(5):
        await closed.wait()
    await everything_arrived(a)
    assert called == []


async def test_what_cannot_be_assigned_as_callback(a: str) -> None:
    async with camonitor(a, callback) as subscription:
        for wrong in (None, 1):
            with pytest.raises(TypeError, match=f"{a}: callback must be callable"):
                subscription.callback = wrong
        assert subscription.callback is callback
    without = camonitor(a)
    with pytest.raises(TypeError, match="has no callback"):
        without.callback = callback
    assert without.callback is None
    without.close()


async def test_opening_until_connected(unique: str) -> None:
    received = Received()
    subscription = camonitor(unique + "absent", received)
    assert subscription.state == Subscription.OPENING
    await anyio.lowlevel.checkpoint()
    assert subscription.state == Subscription.OPENING
    (info,) = (info for info in get_channel_infos() if info.name == unique + "absent")
    assert (info.connected, info.subscriber_count) == (False, 1)
    subscription.close()
    subscription.close()
    assert subscription.state == Subscription.CLOSED
    (info,) = (info for info in get_channel_infos() if info.name == unique + "absent")
    assert info.subscriber_count == 0


@pytest.mark.parametrize("connected", [True, False], ids=["connected", "connecting"])
@pytest.mark.parametrize("turns", [0, 1, 2, 5])
async def test_close_while_opening(p: str, connected: bool, turns: int) -> None:
    """No callback runs after close, at whatever stage of opening the monitor is closed."""
    pv = p + "m:a"
    if connected:
        await connect(pv)
    received = Received()
    subscription = camonitor(pv, received)
    for _ in range(turns):
        await anyio.lowlevel.checkpoint()
    subscription.close()
    count = len(received.values)
    await everything_arrived(pv)
    assert len(received.values) == count


async def test_no_callback_after_close_though_queued(ioc: SoftIoc, a: str) -> None:
    closed, witness = Received(), Received()
    async with camonitor(a, closed) as subscription, camonitor(a, witness):
        await witness.until(lambda values: values == [0])
        await closed.until(lambda values: values == [0])
        ioc.command(f"dbpf {a} 1")  # on trio, a caput would let the loop run
        _wait_until_queued(subscription)
        subscription.close()
        await witness.until(lambda values: values == [0, 1])
        assert closed.values == [0]


@pytest.mark.parametrize("how", ["iteration", "callback"])
async def test_close_within(a: str, how: str) -> None:
    """A monitor is closed while updates are queued: none of them is delivered."""
    seen = []
    witness = Received()

    def callback(value: Any) -> None:
        seen.append(value)
        if value == 1:
            subscription.close()

    with anyio.fail_after(5):
        async with camonitor(a, witness, all_updates=True):
            await witness.until(lambda values: values == [0])
            if how == "callback":
                subscription = camonitor(a, callback, all_updates=True)
                await everything_arrived(a)
                for value in range(1, 4):
                    await caput(a, value)
                time.sleep(0.3)  # block the loop, so that all updates are in one batch
                await witness.until(lambda values: values == [0, 1, 2, 3])
            else:
                async with camonitor(a, all_updates=True) as updates:
                    await everything_arrived(a)
                    for value in range(1, 4):
                        await caput(a, value)
                    await witness.until(lambda values: values == [0, 1, 2, 3])
                    async for value in updates:
                        seen.append(value)
                        if value == 1:
                            updates.subscriptions[0].close()
    await everything_arrived(a)
    assert seen == [0, 1]


async def test_close_from_the_callback_of_another(ioc: SoftIoc, a: str) -> None:
    """Two updates are in one batch; the callback of the first closes the second monitor."""
    victim, witness = Received(), Received()

    def closes(value: Any) -> None:
        if value == 1:
            victims.close()

    async with camonitor(a, closes), camonitor(a, victim) as victims, camonitor(a, witness):
        await witness.until(lambda values: values == [0])
        await victim.until(lambda values: values == [0])
        ioc.command(f"dbpf {a} 1")  # as above
        _wait_until_queued(victims)
        await witness.until(lambda values: values == [0, 1])
        assert victim.values == [0]
        assert victims.state == Subscription.CLOSED


async def test_callback_that_runs_at_close_may_end(a: str) -> None:
    blocked = Blocked()
    ended = anyio.Event()

    async def callback(value: Any) -> None:
        await blocked(value)
        ended.set()

    with anyio.fail_after(5):
        subscription = camonitor(a, callback, all_updates=True)
        await blocked.entered.wait()
        await caput(a, 1, wait=True)
        await everything_arrived(a)
        subscription.close()
        blocked.release.set()
        await ended.wait()
    await everything_arrived(a)
    assert blocked.values == [0]
