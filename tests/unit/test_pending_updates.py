"""Events on libca's threads: the trampolines, and the policies for pending updates."""

from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import aioca
from aioca import FORMAT_TIME, camonitor
from aioca._ca import callbacks, libca
from aioca._channels import updates as _pending_updates
from aioca._channels.updates import CLEARS_PENDING, PendingUpdates, new_key
from aioca._errors import CANothing
from aioca.testing import SoftIoc
from tests.support.fake_portal import FakePortal

UNIT = True

Send = Callable[..., None]
NOTHING = CANothing("PV", libca.ECA_DISCONN)


@pytest.fixture
def portal() -> FakePortal:
    return FakePortal()


@pytest.fixture
def pending_updates(portal: FakePortal) -> PendingUpdates:
    return PendingUpdates(portal)


def sender(pending_updates: PendingUpdates, limit: int) -> Send:
    """Call the trampoline of a policy as libca would."""
    on_event = ctypes.cast(pending_updates.trampoline(limit), callbacks._EVENT)

    def send(key: int, number: float, *, dbr: int = aioca.DBR_DOUBLE, count: int = 1) -> None:
        data = (ctypes.c_double * 1000)(*[number] * 1000)
        on_event(
            callbacks._EventArgs(key, 1 << 63, dbr, count, ctypes.addressof(data), libca.ECA_NORMAL)
        )

    return send


def double(number: float) -> bytes:
    return struct.pack("=d", number)


# -- Trampolines -----------------------------------------------------------------------------------


@pytest.mark.parametrize("spread", [True, False], ids=["spread", "struct"])
def test_event_trampoline(monkeypatch: pytest.MonkeyPatch, spread: bool) -> None:
    """Both declarations of the struct that libca passes give the same arguments."""
    if spread and not callbacks._SPREAD:
        pytest.skip("the calling convention of this machine has no such way")
    monkeypatch.setattr(callbacks, "_SPREAD", spread)
    heard: list[tuple[int, ...]] = []
    trampoline = callbacks.event_trampoline(lambda *args: heard.append(args[6:]))
    events = [(2**64 - 1, 2**63, -1, 0, 2**62, -5), (0, 0, 0, 2**40, 0, 1)]
    for event in events:
        ctypes.cast(trampoline, callbacks._EVENT)(callbacks._EventArgs(*event))
    assert heard == events


@pytest.mark.parametrize("limit", [0, 1], ids=["every", "latest"])
def test_other_type_or_size_than_asked_for(
    pending_updates: PendingUpdates, portal: FakePortal, limit: int
) -> None:
    """An array is copied completely. A DBR type that was not requested is an error."""
    send = sender(pending_updates, limit)
    key = new_key(aioca.DBR_DOUBLE)

    def got() -> Any:
        ((_, item),) = portal.taken()
        return pending_updates.take_latest(key) if limit else item

    send(key, 2.0, count=3)
    assert got() == double(2.0) * 3
    send(key, 2.0, count=1000)
    assert got() == bytearray(double(2.0) * 1000)
    send(key, 2.0, count=0)
    assert got() == b""
    for wrong in ({"dbr": aioca.DBR_LONG}, {"dbr": 200}, {"dbr": -1}, {"count": -1}):
        send(key, 2.0, **wrong)
        assert got() == libca.ECA_BADTYPE


# -- Policies --------------------------------------------------------------------------------------


def test_every(pending_updates: PendingUpdates, portal: FakePortal) -> None:
    send = sender(pending_updates, 0)
    first, second = new_key(aioca.DBR_DOUBLE), new_key(aioca.DBR_DOUBLE)
    send(first, 1)
    send(second, 2)
    send(first, 3)
    assert portal.taken() == [(first, double(1)), (second, double(2)), (first, double(3))]
    assert portal.wakes == 1


def test_every_looks_now_and_then_whether_the_loop_is_there(
    pending_updates: PendingUpdates, portal: FakePortal
) -> None:
    send = sender(pending_updates, 0)
    key = new_key(aioca.DBR_DOUBLE)
    for _ in range(10 * _pending_updates._CHECK_EVERY):
        send(key, 1)
    assert portal.wakes == 1
    assert portal.checks >= 10


def test_latest(pending_updates: PendingUpdates, portal: FakePortal) -> None:
    send = sender(pending_updates, 1)
    key = new_key(aioca.DBR_DOUBLE)
    for number in range(5):
        send(key, number)
    assert portal.taken() == [(key, None)]  # one ticket
    assert pending_updates.take_latest(key) == double(4)
    assert pending_updates.take_latest(key) is None
    send(key, 5)
    assert portal.taken() == [(key, None)]
    assert pending_updates.forget(key) == 4
    assert not (pending_updates.latest or pending_updates.tickets or pending_updates.dropped)


@pytest.mark.parametrize("before", [[], [1.0]])
@pytest.mark.parametrize("after", [[], [2.0]])
def test_a_disconnection_among_the_latest(
    pending_updates: PendingUpdates, portal: FakePortal, before: list[float], after: list[float]
) -> None:
    """It is delivered after the update before it. A later update replaces both."""
    send = sender(pending_updates, 1)
    key = new_key(aioca.DBR_DOUBLE)
    portal.receivers[key] = object()
    for number in before:
        send(key, number)
    pending_updates.put_latest(key, NOTHING)
    pending_updates.put_latest(key, NOTHING)
    for number in after:
        send(key, number)
    seen = []
    while portal.taken():
        seen.append(pending_updates.take_latest(key))
    assert seen == ([double(2.0)] if after else [*map(double, before), NOTHING])
    assert pending_updates.forget(key) == len(before and after)


def test_a_disconnection_while_the_monitor_is_being_closed(
    pending_updates: PendingUpdates, portal: FakePortal
) -> None:
    """libca's thread reports it just after the loop has removed the key: nothing is stored."""
    key = new_key(aioca.DBR_DOUBLE)
    portal.receivers[key] = object()
    portal.receivers.pop(key)
    pending_updates.forget(key)
    pending_updates.put_latest(key, NOTHING)
    assert not (pending_updates.latest or pending_updates.tickets)


def test_what_is_cut_off_brings_nothing_more(
    pending_updates: PendingUpdates, portal: FakePortal
) -> None:
    for limit in (0, 1):
        key = new_key(aioca.DBR_DOUBLE)
        send = sender(pending_updates, limit)
        portal.receivers[key] = object()
        send(key, 1)
        pending_updates.ignored_keys.add(key)
        send(key, 2)
        assert len(portal.taken()) == 1
        assert pending_updates.take_latest(key) == (double(1) if limit else None)


def test_what_is_cleared_by_its_own_update_brings_nothing_more(
    pending_updates: PendingUpdates, portal: FakePortal
) -> None:
    """libca's thread clears it before the check of the key; the loop forgets it at once."""
    for limit in (0, 1):
        key = new_key(aioca.DBR_DOUBLE)
        pending_updates.ignored_keys |= {key, CLEARS_PENDING}
        pending_updates.clear_some = functools.partial(pending_updates.forget, key)  # type: ignore[assignment]
        sender(pending_updates, limit)(key, 1)
        assert not portal.queue
        assert not pending_updates.latest
        assert not pending_updates.tickets


def test_trampolines_are_used_again(portal: FakePortal) -> None:
    """Trampolines are never freed, so later loops must use those of earlier loops."""
    first = PendingUpdates(portal)
    trampolines = [first.trampoline(limit).value for limit in (0, 1, 2)]
    first.close()
    second = PendingUpdates(FakePortal())
    assert [second.trampoline(limit).value for limit in (0, 1, 5)] == trampolines
    sender(second, 0)(new_key(aioca.DBR_DOUBLE), 1)
    assert not portal.queue


# -- A busy loop -----------------------------------------------------------------------------------

COUNTERS = "".join(
    f'record(calc, "$(P){i}") {{ field(SCAN, ".1 second") field(CALC, "VAL+1") }}\n'
    for i in range(3000)
)


@pytest.mark.anyio
async def test_a_busy_loop_still_receives_its_updates(
    own_ioc: Callable[..., SoftIoc], unique: str
) -> None:
    """A task computes for 10 ms at a time, and releases the GIL once in 5 ms.

    If a late drain did not wait for libca's threads, the server would merge a quarter of the
    updates. It may merge a few anyway, if the machine stops the test for too long.
    """
    ioc = own_ioc(COUNTERS, {"P": unique})
    await anyio.to_thread.run_sync(ioc.start)
    last: dict[int, float] = {}
    pvs = [f"{unique}{i}" for i in range(3000)]
    updates = lost = 0

    def received(value: Any, index: int) -> None:
        nonlocal updates, lost
        step = value - last.get(index, value - 1)
        assert step >= 1  # in order
        updates += 1
        lost += int(step) - 1
        last[index] = value

    async with camonitor(pvs, received, format=FORMAT_TIME, all_updates=True):
        with anyio.fail_after(30):
            while len(last) < len(pvs):
                await anyio.sleep(0.01)
            updates = lost = 0
            end = max(last.values()) + 15
            while min(last.values()) < end:
                sum(range(300_000))  # about 10 ms
                await anyio.lowlevel.checkpoint()
    assert lost < 0.1 * updates
