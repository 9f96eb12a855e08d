"""camonitor: its four forms, the updates that it delivers, their order, and its end."""

from __future__ import annotations

import ctypes
import gc
import logging
import math
import struct
import time
import warnings
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import pytest

import aioca
from aioca import (
    DBE_ALARM,
    DBE_LOG,
    DBE_PROPERTY,
    DBE_VALUE,
    DBR_ENUM_STR,
    FORMAT_CTRL,
    FORMAT_RAW,
    FORMAT_TIME,
    CANothing,
    CATimeout,
    CAValueError,
    Subscription,
    caget,
    camonitor,
    caput,
    connect,
    get_channel_infos,
    purge_channel_caches,
    wait_for_value,
)
from aioca._ca import libca
from aioca._channels import updates as _pending_updates
from aioca._channels.registry import current
from aioca._monitors.owners import LoopOwner
from aioca.testing import SoftIoc
from conftest import shown

pytestmark = pytest.mark.anyio
WITH_UVLOOP = True

ECA_TIMEOUT = 80
ECA_DISCONN = 192


class Received:
    """A callback that stores its values; a test can wait for them."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._event = anyio.Event()

    def __call__(self, value: Any, *index: int) -> None:
        self.values.append((*index, value) if index else value)
        event, self._event = self._event, anyio.Event()
        event.set()

    async def until(self, condition: Callable[[list[Any]], object], seconds: float = 5.0) -> None:
        try:
            with anyio.fail_after(seconds):
                while not condition(self.values):
                    await self._event.wait()
        except TimeoutError:
            raise AssertionError(f"still waiting; so far: {self.values!r}") from None


class Blocked:
    """An async callback that ends when the test releases it."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.entered = anyio.Event()
        self.release = anyio.Event()

    async def __call__(self, value: Any) -> None:
        self.values.append(value)
        self.entered.set()
        await self.release.wait()


async def _everything_arrived(pv: str) -> None:
    """Wait until the updates of all puts so far have been delivered.

    A server sends the events of one client in the order in which it has queued them. The first
    event of a new subscription is queued last.
    """
    with anyio.fail_after(5):
        async with camonitor(pv) as updates:
            async for _ in updates:
                break


async def _reset(*pvs: str) -> None:
    for pv in pvs:
        await caput(pv, 0, wait=True)


@pytest.fixture
async def a(p: str) -> str:
    """An ao record for these tests, with the value 0."""
    await _reset(p + "m:a")
    return p + "m:a"


@pytest.fixture
async def b(p: str) -> str:
    """Another ao record, with the value 0."""
    await _reset(p + "m:b")
    return p + "m:b"


# -- The forms -------------------------------------------------------------------------------------


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
    await _everything_arrived(a)
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
    await _everything_arrived(a)
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
    await _everything_arrived(a)
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


# -- Callbacks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["function", "async function", "returns awaitable", "mixed"])
@pytest.mark.parametrize("form", ["plain", "block", "task_group"])
async def test_callbacks_in_order_and_never_overlapping(a: str, kind: str, form: str) -> None:
    """Each update is delivered after the callback for the previous update has ended."""
    log: list[tuple[str, float]] = []
    send, receive = anyio.create_memory_object_stream[Any]()

    async def slow(value: Any) -> None:
        log.append(("begin", value))
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        await send.send(value)
        log.append(("end", value))

    def fast(value: Any) -> None:
        log.append(("begin", value))
        log.append(("end", value))

    def callback(value: Any) -> Awaitable[None] | None:
        if kind == "function" or (kind == "mixed" and value % 2):
            return fast(value)
        return slow(value)

    async def drive() -> None:
        for value in range(1, 10):
            await caput(a, value, wait=True)
        while ("end", 9) not in log:
            with anyio.move_on_after(0.01):
                await receive.receive()

    chosen = slow if kind == "async function" else callback
    with anyio.fail_after(5), send, receive:
        if form == "plain":
            subscription = camonitor(a, chosen, all_updates=True)
            await drive()
            subscription.close()
        elif form == "block":
            async with camonitor(a, chosen, all_updates=True):
                await drive()
        else:
            async with anyio.create_task_group() as group:
                camonitor(a, chosen, all_updates=True, task_group=group)
                await drive()
                group.cancel_scope.cancel()
    assert log == [(step, value) for value in range(10) for step in ("begin", "end")]


async def test_async_callback_does_not_begin_after_close(a: str) -> None:
    """Another callback closes the monitor after the coroutine and its task were made."""
    began: list[float] = []
    seen: list[float] = []

    async def callback(value: float) -> None:
        began.append(value)

    def close(value: float) -> None:
        seen.append(value)
        if value == 1:
            subscription.close()

    with anyio.fail_after(5):
        subscription = camonitor(a, callback, all_updates=True)
        closing = camonitor(a, close, all_updates=True)
        while not (began and seen):
            await anyio.sleep(0.001)
        await caput(a, 1)
        give_up = time.monotonic() + 5
        while len(current().portal.queue) < 4 and time.monotonic() < give_up:
            time.sleep(0.001)  # both come in one pass of the loop
        while seen != [0, 1]:
            await anyio.sleep(0.001)
        await anyio.wait_all_tasks_blocked()
    closing.close()
    assert began == [0]


async def test_plain_callback_ends_after_close(a: str) -> None:
    """A callback that has returned an awaitable has begun: close() does not cancel it."""
    called = anyio.Event()
    saved = anyio.Event()

    async def save() -> None:
        saved.set()

    def callback(value: float) -> object:
        called.set()
        return save()

    with anyio.fail_after(5):
        subscription = camonitor(a, callback)
        await called.wait()
        subscription.close()
        await saved.wait()


async def test_async_callback_may_close_its_own(a: str) -> None:
    """The callback continues to its end after it has called `close`."""
    went_on = anyio.Event()

    def callback(value: float) -> object:
        subscription.close()
        return go_on()

    async def go_on() -> None:
        went_on.set()

    with anyio.fail_after(5):
        subscription = camonitor(a, callback)
        await went_on.wait()


async def test_queue_put_as_callback(a: str) -> None:
    """The queue is full: updates wait for the reader, and none is lost."""
    send, receive = anyio.create_memory_object_stream[Any](0)
    seen: list[float] = []
    with anyio.fail_after(5), send, receive:
        async with camonitor(a, send.send, all_updates=True):
            for value in range(1, 6):
                await caput(a, value, wait=True)
            while seen[-1:] != [5]:
                seen.append(await receive.receive())
    assert seen == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("same_pv", [True, False], ids=["same PV", "another PV"])
async def test_slow_consumer_delays_no_other(a: str, b: str, same_pv: bool) -> None:
    blocked, received = Blocked(), Received()
    other = a if same_pv else b
    async with (
        camonitor(a, blocked, all_updates=True),
        camonitor(other, received, all_updates=True),
    ):
        with anyio.fail_after(5):
            await blocked.entered.wait()
        for value in range(1, 6):
            await caput(other, value, wait=True)
        await received.until(lambda values: values == [0, 1, 2, 3, 4, 5])
        assert blocked.values == [0]


async def test_slow_iteration_delays_no_other(a: str) -> None:
    received = Received()
    async with camonitor(a), camonitor(a, received, all_updates=True):  # the first is never read
        await caput(a, 1)
        await received.until(lambda values: values[-1:] == [1])


# -- Options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "has", "has_not"),
    [
        (FORMAT_RAW, ["name", "ok", "datatype"], ["severity", "timestamp", "units"]),
        (FORMAT_TIME, ["severity", "status", "timestamp"], ["units", "upper_disp_limit"]),
        (FORMAT_CTRL, ["severity", "units", "precision", "upper_disp_limit"], ["timestamp"]),
    ],
    ids=["RAW", "TIME", "CTRL"],
)
async def test_format(a: str, format: Any, has: list[str], has_not: list[str]) -> None:
    async with camonitor(a, format=format) as updates:
        value = await _next(updates)
    assert value == 0
    assert [name for name in has if not hasattr(value, name)] == []
    assert [name for name in has_not if hasattr(value, name)] == []


async def _next(updates: AsyncIterator[Any]) -> Any:
    with anyio.fail_after(5):
        return await anext(updates)


@pytest.mark.parametrize(
    ("record", "datatype", "kind", "expected"),
    [
        ("m:a", None, float, 0.0),
        ("m:a", int, int, 0),
        ("m:a", str, str, "0.000"),
        ("m:enum", None, int, 0),
        ("m:enum", DBR_ENUM_STR, str, "Off"),
        ("m:enum", str, str, "Off"),
    ],
)
async def test_datatype(p: str, record: str, datatype: Any, kind: type, expected: object) -> None:
    await _reset(p + record)
    async with camonitor(p + record, datatype=datatype) as updates:
        value = await _next(updates)
    assert isinstance(value, kind)
    assert value == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, [1, 2, 3]), (2, [1, 2]), (4, [1, 2, 3, 0]), (-1, [1, 2, 3, 0, 0])],
)
async def test_count(p: str, count: int, expected: list[float]) -> None:
    pv = p + "m:array"
    await caput(pv, [1, 2, 3, 0, 0][:3], wait=True)
    async with camonitor(pv, count=count) as updates:
        value = await _next(updates)
        assert isinstance(value, np.ndarray)
        assert value.tolist() == expected
        assert value.element_count == 5


async def test_count_0_follows_the_length(p: str) -> None:
    pv = p + "m:array"
    await caput(pv, [1.0], wait=True)
    async with camonitor(pv) as updates:
        assert (await _next(updates)).tolist() == [1]
        await caput(pv, [4.0, 5, 6, 7, 8])
        assert (await _next(updates)).tolist() == [4, 5, 6, 7, 8]


@pytest.mark.parametrize("format", [FORMAT_RAW, FORMAT_TIME, FORMAT_CTRL])
@pytest.mark.parametrize("present", [True, False], ids=["there already", "comes later"])
async def test_empty_array(p: str, format: Any, present: bool) -> None:
    """An empty array is delivered like any update, as the first one and as the last one."""
    pv = p + "m:array"
    await caput(pv, [1.0], wait=True)
    if present:
        await caput(pv, np.array([], dtype=float), wait=True)
    with anyio.move_on_after(1):
        async with camonitor(pv, format=format) as updates:
            if not present:
                assert (await _next(updates)).tolist() == [1]
                await caput(pv, np.array([], dtype=float))
            value = await anext(updates)
            assert value.tolist() == []
            assert value.element_count == 5
            return
    raise AssertionError("it has not come")


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (None, [0, 20, 150, 20]),
        (DBE_VALUE, [0, 20, 150, 20]),  # beyond MDEL
        (DBE_LOG, [0, 5, 20, 150, 20]),  # beyond ADEL
        (DBE_ALARM, [0, 150, 20]),  # into the alarm and out of it
        (DBE_VALUE | DBE_LOG, [0, 5, 20, 150, 20]),
        (DBE_LOG | DBE_ALARM | DBE_VALUE, [0, 5, 20, 150, 20]),
    ],
)
async def test_events(p: str, events: int | None, expected: list[float]) -> None:
    pv = p + "m:masks"
    received = Received()
    await _reset(pv)
    async with camonitor(pv, received, events, all_updates=True):
        await received.until(lambda values: values == [0])
        for value in (5, 20, 150, 151, 20):
            await caput(pv, value, wait=True)
        await _everything_arrived(pv)
        await received.until(lambda values: len(values) >= len(expected))
    assert received.values == expected
    await _reset(pv)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"events": DBE_PROPERTY, "format": FORMAT_CTRL}, True),
        ({"events": DBE_PROPERTY}, True),
        ({"format": FORMAT_CTRL}, True),
        ({"events": DBE_VALUE, "format": FORMAT_CTRL}, False),
        ({"format": FORMAT_TIME}, False),
    ],
    ids=shown,
)
async def test_changed_limit(p: str, options: dict[str, Any], told: bool) -> None:
    """With DBE_PROPERTY (the default for FORMAT_CTRL), a changed limit sends an update."""
    pv = p + "m:masks"
    received = Received()
    await _reset(pv)
    await caput(pv + ".HIGH", 200, wait=True)
    async with camonitor(pv, received, all_updates=True, **options):
        await received.until(lambda values: len(values) == 1)
        await caput(pv + ".HIGH", 300, wait=True)
        await _everything_arrived(pv)
        await received.until(lambda values: len(values) == 1 + told)
        if told and options.get("format") == FORMAT_CTRL:
            assert [v.upper_warning_limit for v in received.values] == [200, 300]
    assert len(received.values) == 1 + told
    await caput(pv + ".HIGH", 100, wait=True)


async def test_alarm_is_told_by_default_where_the_format_shows_it(p: str) -> None:
    pv = p + "m:masks"
    received = Received()
    await _reset(pv)
    async with camonitor(pv, received, format=FORMAT_TIME, all_updates=True):
        await caput(pv, 9, wait=True)  # within MDEL: no value event
        await caput(pv + ".HIGH", 8, wait=True)
        await caput(pv + ".PROC", 1, wait=True)
        await received.until(lambda values: len(values) >= 2)
    assert [(value, value.severity) for value in received.values] == [(0, 0), (9, 1)]
    await caput(pv + ".HIGH", 100, wait=True)
    await _reset(pv)


# -- Back-pressure ---------------------------------------------------------------------------------

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
                await _everything_arrived(a)
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
                await _everything_arrived(a)
                seen = []
                while seen[-1:] != [LAST]:
                    seen.append(await anext(updates))
            assert seen == kept
    assert subscription.dropped_callbacks == LAST - len(kept)
    assert subscription.all_updates == policy.get("all_updates", False)


@pytest.mark.parametrize("policy", [{}, {"max_pending": 7}, {"all_updates": True}], ids=shown)
@pytest.mark.parametrize("form", ["callback", "async callback", "iteration"])
async def test_last_value_of_a_flood_arrives(a: str, form: str, policy: dict[str, Any]) -> None:
    """The server or aioca may drop updates, but the order is kept and the last one arrives."""
    received = Received()
    last = 2000

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
            with anyio.fail_after(10):
                async with camonitor(a, **policy) as updates:
                    async for value in updates:
                        received(value)
                        if value == last:
                            break
        else:
            callback = received if form == "callback" else async_callback
            async with camonitor(a, callback, **policy):
                await received.until(lambda values: values[-1:] == [last], seconds=10)
    assert received.values == sorted(received.values)
    assert len(set(received.values)) == len(received.values)


@pytest.mark.parametrize("kept", [1, 2])
async def test_last_value_when_the_loop_takes_while_one_is_dropped(a: str, kept: int) -> None:
    """libca's thread may be interrupted between dropping the old value and storing the new one.

    The loop iterates in between, and must still receive the new value.
    """
    async with camonitor(a, max_pending=kept) as updates:
        assert await _next(updates) == 0
        (subscription,) = updates.subscriptions
        feed = subscription._monitor
        pending_updates, key = feed._pending_updates, feed._key
        interrupted: list[object] = []

        def take() -> None:
            """Do what the loop may do at the moment when an update was dropped."""
            if not interrupted:
                interrupted.append(True)
                for _ in range(20):  # each update that has a ticket
                    if key in pending_updates.tickets or kept > 1:
                        taken.append(feed.take())

        class Latest(dict[int, Any]):
            def pop(self, key: int, default: Any = None) -> Any:
                item = super().pop(key, default)
                if item is not None:
                    take()
                return item

        class Newest(deque[Any]):
            def popleft(self) -> Any:
                item = super().popleft()
                take()
                return item

        taken: list[Any] = []
        update = _update(7.0)
        if kept == 1:
            pending_updates.latest = Latest()
            on_event, serve = _pending_updates._latest()
        else:
            feed._pending = Newest()
            on_event, serve = _pending_updates._newest()
        serve(pending_updates)
        for _ in range(kept + 1):  # the last one drops the first; then the loop runs
            on_event(0, 0, 0, 0, 0, 0, key, 0, DBR_TIME_DOUBLE, 1, update, libca.ECA_NORMAL)
        assert interrupted, "nothing was interrupted: this test tests nothing any more"
        taken = [value for value in taken if isinstance(value, float)]
        with anyio.move_on_after(1):
            while len(taken) < kept:
                taken.append(await anext(updates))
        assert taken[-1] == 7.0, "the last value has not arrived"
        assert len(taken) + subscription.dropped_callbacks == kept + 1


def _is_queued(subscription: Subscription) -> bool:
    """Whether libca's thread has queued an update that the loop has not taken yet."""
    feed = subscription._monitor
    return feed._key in feed._pending_updates.tickets


def _wait_until_queued(subscription: Subscription) -> None:
    """Wait for an update without letting the loop run."""
    give_up = time.monotonic() + 10
    while not _is_queued(subscription):
        assert time.monotonic() < give_up, "nothing is queued: this test tests nothing any more"
        time.sleep(0.01)  # poll: an event would need the loop


def _update(value: float) -> int:
    """The address of a DBR_TIME_DOUBLE, as libca would pass it."""
    data = ctypes.create_string_buffer(_time_double(value))
    _updates.append(data)
    return ctypes.addressof(data)


def _time_double(value: float) -> bytes:
    return struct.pack("=hhII4xd", 0, 0, 0, 0, value)


DBR_TIME_DOUBLE = 20  # the DBR type that a monitor requests
_updates: list[object] = []  # keeps the memory at those addresses


# -- Disconnection and restart ---------------------------------------------------------------------

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
        await _everything_arrived(unique + "same")
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


# -- Closing ---------------------------------------------------------------------------------------


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
            subscription.callback = _callback
            subscription.close()
            closed.set()

    subscription = camonitor(a, first)
    feed: Any = subscription._monitor
    feed.owner = Owner(current().portal)
    with anyio.fail_after(5):
        await closed.wait()
    await _everything_arrived(a)
    assert called == []


async def test_what_cannot_be_assigned_as_callback(a: str) -> None:
    async with camonitor(a, _callback) as subscription:
        for wrong in (None, 1):
            with pytest.raises(TypeError, match=f"{a}: callback must be callable"):
                subscription.callback = wrong
        assert subscription.callback is _callback
    without = camonitor(a)
    with pytest.raises(TypeError, match="has no callback"):
        without.callback = _callback
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
    await _everything_arrived(pv)
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
                await _everything_arrived(a)
                for value in range(1, 4):
                    await caput(a, value)
                time.sleep(0.3)  # block the loop, so that all updates are in one batch
                await witness.until(lambda values: values == [0, 1, 2, 3])
            else:
                async with camonitor(a, all_updates=True) as updates:
                    await _everything_arrived(a)
                    for value in range(1, 4):
                        await caput(a, value)
                    await witness.until(lambda values: values == [0, 1, 2, 3])
                    async for value in updates:
                        seen.append(value)
                        if value == 1:
                            updates.subscriptions[0].close()
    await _everything_arrived(a)
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
        await _everything_arrived(a)
        subscription.close()
        blocked.release.set()
        await ended.wait()
    await _everything_arrived(a)
    assert blocked.values == [0]


# -- Errors in callbacks ---------------------------------------------------------------------------


def _failing(when: float, asynchronous: bool) -> Callable[[Any], Any]:
    def callback(value: Any) -> None:
        if value == when:
            raise ValueError(f"at {value}")

    async def async_callback(value: Any) -> None:
        await anyio.lowlevel.checkpoint()
        callback(value)

    return async_callback if asynchronous else callback


async_or_not = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])


@async_or_not
async def test_error_in_a_block(a: str, asynchronous: bool) -> None:
    """The error cancels the body and leaves the block unchanged, not in a group."""
    cancelled = False
    with anyio.fail_after(5), pytest.raises(ValueError, match="at 1") as info:
        async with camonitor(a, _failing(1, asynchronous)) as subscription:
            try:
                await caput(a, 1)  # trio cancels the body here too
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                cancelled = True
                raise
    assert cancelled
    assert type(info.value) is ValueError
    assert subscription.state == Subscription.CLOSED
    assert any(entry.name == "callback" for entry in info.traceback)


@async_or_not
async def test_error_in_a_block_of_many(a: str, b: str, asynchronous: bool) -> None:
    """An error in the callback for one PV closes all monitors of the block."""
    callback = _failing(1, asynchronous)
    with anyio.fail_after(5), pytest.raises(ValueError, match="at 1"):
        async with camonitor([a, b], lambda value, _: callback(value)) as subscriptions:
            await caput(b, 1)
            await anyio.sleep_forever()
    assert [s.state for s in subscriptions] == [Subscription.CLOSED] * 2


@async_or_not
async def test_error_without_an_owner(
    a: str, asynchronous: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged with its traceback, closes the monitor, and affects nothing else."""
    witness = Received()
    subscription = camonitor(a, _failing(1, asynchronous))
    async with camonitor(a, witness):
        await witness.until(lambda values: values == [0])
        with caplog.at_level(logging.ERROR, logger="aioca"):
            await caput(a, 1)
            with anyio.fail_after(5):
                while subscription.state != Subscription.CLOSED:
                    await anyio.lowlevel.checkpoint()
        await caput(a, 2)
        await witness.until(lambda values: values[-1:] == [2])
    (record,) = (r for r in caplog.records if r.levelno >= logging.ERROR)
    assert a in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)
    assert "in callback" in (record.exc_text or caplog.text)


# -- Errors that are detected before a monitor is made ---------------------------------------------


def _callback(*args: Any) -> None:
    raise AssertionError("nothing should have been made")


@pytest.mark.unit
@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"events": 0}, ValueError, "events"),
        ({"events": 16}, ValueError, "events"),
        ({"events": "value"}, ValueError, "events"),
        ({"all_updates": True, "max_pending": 3}, ValueError, "max_pending"),
        ({"max_pending": 0}, ValueError, "max_pending"),
        ({"max_pending": 1.5}, ValueError, "max_pending"),
        ({"callback": 5}, TypeError, "callback"),
        ({"callback": None, "task_group": object()}, ValueError, "callback"),
        ({"datatype": "nonsense"}, (TypeError, ValueError), "nonsense"),
        ({"datatype": 1234}, (TypeError, ValueError), "1234"),
        ({"format": 7}, ValueError, "format"),
        ({"count": -2}, ValueError, "count"),
        ({"count": 1.5}, ValueError, "count"),
        ({"connect_timeout": "soon"}, TypeError, "timeout"),
        ({"pv": 5}, TypeError, "5"),
        ({"pv": ["X", 5]}, TypeError, "5"),
        ({"pv": ""}, CAValueError, "empty"),
        ({"pv": ["X", "Y" * 992]}, CAValueError, "992"),
    ],
    ids=shown,
)
async def test_validation(arguments: dict[str, Any], error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        camonitor(**{"pv": "X", "callback": _callback, **arguments})
    assert get_channel_infos() == []


async def test_finished_task_group(a: str) -> None:
    """A group that accepts no more children raises an error, and no monitor is made."""
    async with anyio.create_task_group() as group:
        pass
    with pytest.raises(RuntimeError):
        camonitor(a, _callback, task_group=group)
    await _everything_arrived(a)
    assert [info.subscriber_count for info in get_channel_infos()] == [0]


@pytest.mark.parametrize("wrong", [1, "group", object()])
async def test_what_is_no_task_group(a: str, wrong: Any) -> None:
    with pytest.raises(TypeError, match="task_group must be an anyio TaskGroup"):
        camonitor(a, _callback, task_group=wrong)
    assert get_channel_infos() == [] or get_channel_infos()[0].subscriber_count == 0


@pytest.mark.parametrize("many", [False, True], ids=["one", "list"])
async def test_a_block_that_is_never_entered(a: str, b: str, many: bool) -> None:
    with pytest.warns(ResourceWarning, match=f"camonitor of {a!r}.* was never entered") as record:
        camonitor([a, b, b] if many else a)
        gc.collect()
    (warning,) = record
    assert ("and 2 others" in str(warning.message)) is many
    assert all(info.subscriber_count == 0 for info in get_channel_infos())


@pytest.mark.parametrize("end", ["entered", "closed", "one closed", "callback", "none", "error"])
async def test_no_warning_of_a_block(a: str, b: str, end: str) -> None:
    """Warnings are errors in the tests; one in __del__ would be reported as unraisable."""
    subscriptions: Any = []
    if end == "entered":
        async with camonitor([a, b]):
            pass
    elif end == "closed":
        subscriptions = camonitor([a, b])
        subscriptions.close()
    elif end == "one closed":
        subscriptions = camonitor([a, b])
        subscriptions[0].close()
    elif end == "callback":
        camonitor(a, _callback).close()
    elif end == "none":
        subscriptions = camonitor([])
    else:
        with pytest.raises(CAValueError):
            camonitor([a, ""])
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        del subscriptions
        gc.collect()
    assert record == []


async def test_iterate_without_a_block(a: str) -> None:
    subscription: Any = camonitor(a)
    with pytest.raises(TypeError, match="async with"):
        async for _ in subscription:
            pass
    subscription.close()


@pytest.mark.parametrize("callback", [None, lambda _: None], ids=["stream", "callback"])
async def test_enter_twice_nested(a: str, callback: Any) -> None:
    """The second entry fails, and the first block ends normally."""
    subscription = camonitor(a, callback)
    with anyio.fail_after(5):
        async with subscription:
            with pytest.raises(RuntimeError):
                async with subscription:
                    raise AssertionError("entered twice")
            assert subscription.state != Subscription.CLOSED
            await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
    assert subscription.state == Subscription.CLOSED


@pytest.mark.parametrize("callback", [None, lambda *_: None], ids=["stream", "callback"])
@pytest.mark.parametrize("many", [False, True], ids=["one", "list"])
async def test_enter_closed(a: str, callback: Any, many: bool) -> None:
    subscription: Any = camonitor([a] if many else a, callback)
    async with subscription:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        async with subscription:
            raise AssertionError("entered when closed")


async def test_enter_what_a_task_group_owns(a: str) -> None:
    async with anyio.create_task_group() as group:
        subscription = camonitor(a, lambda _: None, task_group=group)
        with pytest.raises(RuntimeError, match="owner"):
            async with subscription:
                raise AssertionError("entered with another owner")
        assert subscription.state != Subscription.CLOSED
        group.cancel_scope.cancel()


# -- wait_for_value --------------------------------------------------------------------------------


@pytest.mark.parametrize("present", [True, False], ids=["there already", "comes later"])
@pytest.mark.parametrize(
    ("record", "start", "end", "match"),
    [
        ("m:a", 0, 3, 3),
        ("m:a", 0, 3, lambda value: value > 2),
        ("m:array", [0.0, 1], [1.0, 2, 3], [1, 2, 3]),
        ("m:array", [0.0, 1], [1.0, 2, 3], np.array([1.0, 2, 3])),
        ("m:array", [0.0, 1], [1.0, 2, 3], lambda value: value.sum() == 6),
        ("m:enum", 0, 2, 2),
        ("m:enum", 0, 2, "Automatic"),
        ("m:enum", 0, "Manual", lambda value: value == 1),
    ],
    ids=shown,
)
async def test_wait_for_value(
    p: str, record: str, start: Any, end: Any, match: Any, present: bool
) -> None:
    pv = p + record
    await caput(pv, end if present else start, wait=True)

    async def put() -> None:
        await caput(pv, end)

    async with anyio.create_task_group() as group:
        if not present:
            group.start_soon(put)
        value = await wait_for_value(pv, match, timeout=5)
    assert value.name == pv
    if callable(match):
        assert match(value)
    else:
        assert np.array_equal(value, match)
    assert [info.subscriber_count for info in get_channel_infos() if info.name == pv] == [0]


@pytest.mark.parametrize(
    ("record", "match", "kind"),
    [
        # Text: a label, a long string, a text that the server converts
        ("put:wf:CHAR", "/data/x", str), ("put:wf:CHAR", b"/data/y", bytes),
        ("put:wf:CHAR", "grün", str), ("put:wf:CHAR", b"\xff\x01", bytes),
        ("put:wf:CHAR", "", str), ("put:wf:CHAR", b"", bytes),
        ("put:wf:CHAR", b"\0\1\2", np.ndarray), ("put:wf:CHAR", "a\0b", np.ndarray),
        ("put:lso.VAL$", "x" * 60, str), ("put:lso.VAL$", b"y" * 60, bytes),
        ("put:lso.VAL$", "", str), ("put:stringout.DESC$", "a text", str),
        ("put:lso.VAL$", [65, 66], str), ("put:stringout", "text", str),
        ("put:stringout", b"bytes", bytes), ("put:stringout", "", str),
        ("put:stringout", ["alone"], str), ("put:mbbo", "Manual", str),
        ("put:mbbo", b"Automatic", bytes), ("put:mbbo", ["Off"], str),
        ("put:mbbo", np.array(["Manual"]), str), ("put:mbbo", "2", str), ("put:mbbo", b"1", bytes),
        ("put:bo", "On", str), ("put:ao", "2.5", float),
        ("put:ao", b"0x1F", float), ("put:longout", "010", int), ("put:longout", "1e3", int),
        ("put:int64out", "12", float), ("put:wf:STRING", ["a", "µ"], np.ndarray),
        ("put:wf:STRING", [b"a", b"b"], np.ndarray), ("put:wf:STRING", "one", np.ndarray),
        ("put:wf:STRING", [], np.ndarray), ("put:wf:DOUBLE", ["1", "2"], np.ndarray),
        # Numbers
        ("put:stringout", 5, str), ("put:stringout", 1.5, str), ("put:stringout", True, str),
        ("put:wf:STRING", [1, 2], np.ndarray), ("put:longout", 2.9, int), ("put:longout", [7], int),
        ("put:ao", np.float32(0.1), float), ("put:ao", np.array(3), float),
        ("put:ao", math.nan, float), ("put:mbbo", 1.0, int), ("put:bo", False, int),
        ("put:int64out", 2**53 + 1, float), ("put:wf:CHAR", [1, -1], np.ndarray),
        ("put:wf:CHAR", 65, np.ndarray), ("put:wf:CHAR", [], np.ndarray),
        ("put:wf:FLOAT", [0.1, 0.2], np.ndarray), ("put:wf:FLOAT", 0.1, np.ndarray),
        ("put:wf:DOUBLE", [], np.ndarray), ("put:wf:DOUBLE", (), np.ndarray),
        ("put:wf:DOUBLE", [1, math.nan], np.ndarray), ("put:wf:ULONG", [2**32 - 1], np.ndarray),
        ("put:wf:INT64", [2**40], np.ndarray),
    ],
    ids=shown,
)  # fmt: skip
async def test_wait_for_value_matches_what_caput_writes(
    p: str, record: str, match: Any, kind: type
) -> None:
    pv = p + record
    other: Any = {
        "put:bo": 0 if match == "On" else 1, "put:mbbo": 3, "put:ao": 99, "put:longout": 99,
        "put:int64out": 99, "put:wf:STRING": ["other"], "put:stringout": "other",
        "put:lso.VAL$": "other", "put:stringout.DESC$": "other",
    }.get(record, [99, 98])  # fmt: skip
    await caput(pv, other, wait=True)
    with pytest.raises(CATimeout):
        await wait_for_value(pv, match, timeout=0.05)
    await caput(pv, match, wait=True)
    for format in (aioca.FORMAT_RAW, FORMAT_TIME):
        value: Any = await wait_for_value(pv, match, timeout=5, format=format)
        assert isinstance(value, kind)
        assert value.name == pv
    if "wf" in record:
        await caput(pv, [], wait=True)


@pytest.mark.parametrize(
    ("record", "match"),
    [
        ("m:a", None), ("m:a", [1, 2]), ("m:a", []), ("m:a", [None]), ("m:enum", -1),
        ("m:array", [0] * 6), ("put:stringout", "x" * 40), ("put:longout", 2**31),
        ("put:longout", math.nan), ("m:a", np.ma.masked), ("m:array", np.ma.masked_all(2)),
    ],
    ids=shown,
)  # fmt: skip
async def test_wait_for_what_the_pv_cannot_have(p: str, record: str, match: Any) -> None:
    """A value that the PV can never have is an error, not an endless wait."""
    with pytest.raises(CAValueError, match="cannot be written") as caught:
        await wait_for_value(p + record, match, timeout=5)
    assert caught.value.name == p + record
    assert [info.subscriber_count for info in get_channel_infos()] == [0]


async def test_wait_for_value_as_another_type(p: str) -> None:
    """With a datatype, values are read as that type and compared: as for a put, or by ``==``."""
    await caput(p + "put:int64out", 2**40 + 5, wait=True)
    await caput(p + "put:ao", 0.1, wait=True)
    await caput(p + "put:mbbo", 1, wait=True)
    for pv, match, datatype in [
        ("put:int64out", 2**40 + 5, int), ("put:int64out", "1099511627781", str),
        ("put:ao", 0.1, "f4"), ("put:ao", 0, int), ("put:mbbo", 1, float), ("put:mbbo", 1, None),
        ("put:mbbo", "Manual", str), ("put:mbbo", b"Manual", bytes), ("put:mbbo", 1, bool),
        ("put:mbbo", "Manual", aioca.DBR_ENUM_STR), ("ai", "ai", aioca.DBR_CLASS_NAME),
        ("ai.SCAN", "Passive", None), ("ai.SCAN", 0, None),
    ]:  # fmt: skip
        assert await wait_for_value(p + pv, match, timeout=5, datatype=datatype) is not None


async def test_wait_for_value_with_an_eq_of_its_own(a: str) -> None:
    await caput(a, 5.0004, wait=True)
    value = await wait_for_value(a, pytest.approx(5, abs=0.01), timeout=5)
    assert value == 5.0004
    with pytest.raises(CATimeout):
        await wait_for_value(a, pytest.approx(6, abs=0.01), timeout=0.1)


async def test_wait_for_value_sees_every_update(a: str) -> None:
    """A value that the PV had only for a moment is not missed."""

    async def blip() -> None:
        for value in range(1, 6):
            await caput(a, value, wait=True)

    async with anyio.create_task_group() as group:
        looking = anyio.Event()

        def match(value: Any) -> bool:
            looking.set()
            return bool(value == 3)

        async def wait() -> None:
            assert await wait_for_value(a, match, timeout=5) == 3

        group.start_soon(wait)
        with anyio.fail_after(5):
            await looking.wait()
        await blip()


async def test_wait_for_value_has_the_options_of_camonitor(a: str) -> None:
    value = await wait_for_value(a, 0, timeout=5, format=FORMAT_TIME, datatype=int)
    assert isinstance(value, int)
    assert value.timestamp > 0


async def test_wait_for_value_timeout(a: str) -> None:
    """The message has the last value."""
    await caput(a, 12.25, wait=True)
    with pytest.raises(CATimeout, match=r"12\.25") as info:
        await wait_for_value(a, 3, timeout=1)  # long enough for the first update
    assert isinstance(info.value, TimeoutError)
    assert info.value.name == a
    assert info.value.errorcode == ECA_TIMEOUT


@pytest.mark.parametrize("timeout", [0.2, lambda: (time.time() + 0.2,), 0], ids=["s", "at", "0"])
async def test_wait_for_value_timeout_connecting(unique: str, timeout: Any) -> None:
    start = time.monotonic()
    with pytest.raises(CATimeout, match="connecting"):
        await wait_for_value(unique + "absent", 3, timeout() if callable(timeout) else timeout)
    assert time.monotonic() - start < 2


async def test_wait_for_value_ends_in_time_under_a_flood(p: str) -> None:
    """The operation ends at its deadline even if there is always another update to check.

    Updates (10 a second) arrive faster than ``match`` rejects them.
    """
    looks = 0

    def match(value: Any) -> bool:
        nonlocal looks
        looks += 1
        time.sleep(0.15)  # slower than the PV
        return looks > 15  # so that the test ends

    with pytest.raises(CATimeout):
        await wait_for_value(p + "ticks", match, timeout=0.6)


async def test_wait_for_value_closed_meanwhile(a: str) -> None:
    async def purge() -> None:
        await anyio.wait_all_tasks_blocked()
        purge_channel_caches()

    async with anyio.create_task_group() as group:
        group.start_soon(purge)
        with pytest.raises(aioca.CADisconnected, match="closed"):
            await wait_for_value(a, 3, timeout=5)


async def test_wait_for_value_error_in_match(a: str) -> None:
    with pytest.raises(ZeroDivisionError):
        await wait_for_value(a, lambda value: 1 / value, timeout=5)
    assert [info.subscriber_count for info in get_channel_infos()] == [0]


@pytest.mark.unit
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"pv": 5}, TypeError),
        ({"pv": ["X"]}, TypeError),
        ({"timeout": "soon"}, TypeError),
        ({"events": 99}, ValueError),
    ],
    ids=shown,
)
async def test_wait_for_value_validation(arguments: dict[str, Any], error: type) -> None:
    with pytest.raises(error):
        await wait_for_value(**{"pv": "X", "match": 1, **arguments})
    assert get_channel_infos() == []


async def test_value_does_not_change_under_the_reader(p: str) -> None:
    """A delivered update belongs to the user: later updates have their own memory."""
    pv = p + "m:array"
    await caput(pv, [1.0] * 5, wait=True)
    async with camonitor(pv, all_updates=True) as updates:
        first = await _next(updates)
        for value in range(2, 20):
            await caput(pv, [float(value)] * 5, wait=True)
        assert first.tolist() == [1.0] * 5
    assert (await caget(pv)).tolist() == [19.0] * 5


async def test_bad_updates_are_no_storm_in_the_log(
    a: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has a limited number of records a second, and one that counts the rest."""
    async with camonitor(a) as updates:
        await anext(updates)
        (feed,) = current().channel(a).monitors
        for _ in range(1000):  # bytes that cannot be decoded
            current().portal.put(feed._key, b"")  # type: ignore[attr-defined]
        current().portal.put(feed._key, _time_double(0))  # type: ignore[attr-defined]
        assert await anext(updates) == 0
        bad = [r.getMessage() for r in caplog.records if "cannot decode" in r.getMessage()]
        assert 0 < len(bad) <= 20
        with anyio.fail_after(10):
            while "more log records about Channel Access were left out" not in caplog.text:
                await anyio.sleep(0.01)


async def test_a_disconnection_stays_behind_the_newest_updates(a: str) -> None:
    """libca's thread reports it while the loop decodes the pending updates of the old type."""
    async with camonitor(a, max_pending=5, notify_disconnect=True) as updates:
        await anext(updates)
        channel = current().channel(a)
        (feed,) = channel.monitors
        kept: Any = feed
        reader = kept._reader

        class Decoding:
            shape, element_count, name = reader.shape, reader.element_count, reader.name

            def decode(self, raw: bytes) -> object:
                if not kept._ignoring:
                    channel.connection_changed(False, -1, 0)
                    kept._ignoring = True
                return reader.decode(raw)

        kept._reader = Decoding()
        for number in (1.0, 2.0, 3.0):
            kept.keep(_time_double(number))
        kept._decode_pending()
        kinds = [value if value.ok else "gone" for value in kept._pending]
        assert kinds == [1.0, 2.0, 3.0, "gone"]


@pytest.mark.parametrize("limit", [16408, None], ids=["limited", "unlimited"])
async def test_a_first_update_that_libca_drops_after_a_reconnection(
    p: str, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The monitor is told of the setting, as after the first connection."""
    pv = p + "wf:big"
    async with camonitor(pv, notify_disconnect=True) as updates:
        assert (await anext(updates)).ok
        context = current()
        settings = {"EPICS_CA_AUTO_ARRAY_BYTES": "YES" if limit is None else "NO"}
        monkeypatch.setattr(context.ca_context, "settings", settings)
        monkeypatch.setattr(context.ca_context, "array_limit", limit)
        channel = context.channel(pv)
        # As libca would, but no update follows, as if libca had dropped it
        with monkeypatch.context() as lost:
            lost.setattr(libca, "host_name", lambda _: libca.NO_HOST)
            channel.connection_changed(False, -1, 0)
        channel.connection_changed(True, channel.native_type, channel.native_count)
        assert (await anext(updates)).errorcode == aioca.ECA.DISCONN
        if limit is None:
            with anyio.move_on_after(2.5) as scope:  # nothing must come: there is no event
                await anext(updates)
            assert scope.cancelled_caught
        else:
            with anyio.fail_after(10):
                told = await anext(updates)
            assert told.errorcode == aioca.ECA.TOLARGE
            assert "EPICS_CA_AUTO_ARRAY_BYTES=NO" in str(told)


async def test_wait_for_the_number_of_a_state_whose_labels_cannot_be_read_at_first(
    p: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read for the next update."""
    pv = p + "mbbi"
    reads = 0
    get = wait_for_value_module().caget

    async def failing(*args: Any, **options: Any) -> Any:
        nonlocal reads
        reads += 1
        if reads == 1:
            return aioca.CANothing(pv, aioca.ECA.DISCONN)
        return await get(*args, **options)

    monkeypatch.setattr(wait_for_value_module(), "caget", failing)
    now = int(+await aioca.caget(pv))
    other = (now + 1) % 2

    async def change() -> None:
        while reads == 0:
            await anyio.sleep(0.001)
        await aioca.caput(pv, other)
        await aioca.caput(pv, now)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(change)
            await wait_for_value(pv, str(now))
    assert reads >= 2


def wait_for_value_module() -> Any:
    import sys

    return sys.modules["aioca._api.wait_for_value"]
