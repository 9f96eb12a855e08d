"""Events on libca's threads: the trampolines, and the policies for pending updates."""

from __future__ import annotations

import ctypes
import struct
import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import aioca
from aioca import FORMAT_TIME, camonitor
from aioca._ca import callbacks, libca
from aioca._errors import CANothing
from aioca._monitors.every import Every
from aioca._monitors.latest import Latest
from aioca._monitors.newest import Newest
from aioca._monitors.policy import UPDATES_PER_CHECK, Policy, new_key
from aioca.testing import SoftIoc
from tests.support.fake_loop import FakeLoop

UNIT = True

Send = Callable[..., None]
NOTHING = CANothing("PV", libca.ECA_DISCONN)


@pytest.fixture
def loop() -> FakeLoop:
    return FakeLoop()


@pytest.fixture
def every(loop: FakeLoop) -> Every:
    return Every(loop)  # type: ignore[arg-type]


@pytest.fixture
def latest(loop: FakeLoop) -> Latest:
    return Latest(loop)  # type: ignore[arg-type]


@pytest.fixture
def newest(loop: FakeLoop) -> Newest:
    return Newest(loop)  # type: ignore[arg-type]


@pytest.fixture(params=["every", "latest", "newest"])
def policy(request: pytest.FixtureRequest) -> Policy:
    made: Policy = request.getfixturevalue(request.param)
    return made


def sender(policy: Policy) -> Send:
    """Call the trampoline of a policy as libca would."""
    on_event = ctypes.cast(policy.trampoline, callbacks._EVENT)

    def send(key: int, number: float, *, dbr: int = aioca.DBR_DOUBLE, count: int = 1) -> None:
        data = (ctypes.c_double * 1000)(*[number] * 1000)
        on_event(
            callbacks._EventArgs(key, 1 << 63, dbr, count, ctypes.addressof(data), libca.ECA_NORMAL)
        )

    return send


def double(number: float) -> bytes:
    return struct.pack("=d", number)


# -- Trampolines -----------------------------------------------------------------------------------


def delivered(policy: Policy, loop: FakeLoop) -> list[Any]:
    """What a monitor would get for the items that are queued, until nothing is queued."""
    items = []
    while taken := loop.taken():
        for key, item in taken:
            waiting = policy.take(key) if item is None else item
            if waiting is not None:
                items.append(waiting)
    return items


def test_other_type_or_size_than_asked_for(policy: Policy, loop: FakeLoop) -> None:
    """An array is copied completely. A DBR type that was not requested is an error."""
    send = sender(policy)
    key = new_key(aioca.DBR_DOUBLE)
    policy.open(key, 2)
    send(key, 2.0, count=3)
    assert delivered(policy, loop) == [double(2.0) * 3]
    send(key, 2.0, count=1000)
    assert delivered(policy, loop) == [bytearray(double(2.0) * 1000)]
    send(key, 2.0, count=0)
    assert delivered(policy, loop) == [b""]
    for wrong in ({"dbr": aioca.DBR_LONG}, {"dbr": 200}, {"dbr": -1}, {"count": -1}):
        send(key, 2.0, **wrong)
        assert delivered(policy, loop) == [libca.ECA_BADTYPE]


# -- Policies --------------------------------------------------------------------------------------


def test_every(every: Every, loop: FakeLoop) -> None:
    send = sender(every)
    first, second = new_key(aioca.DBR_DOUBLE), new_key(aioca.DBR_DOUBLE)
    send(first, 1)
    send(second, 2)
    send(first, 3)
    assert loop.taken() == [(first, double(1)), (second, double(2)), (first, double(3))]
    assert loop.wakes == 1


def test_every_looks_now_and_then_whether_the_loop_is_there(every: Every, loop: FakeLoop) -> None:
    send = sender(every)
    key = new_key(aioca.DBR_DOUBLE)
    for _ in range(10 * UPDATES_PER_CHECK):
        send(key, 1)
    assert loop.wakes == 1
    assert loop.checks >= 10


def test_latest(latest: Latest, loop: FakeLoop) -> None:
    send = sender(latest)
    key = new_key(aioca.DBR_DOUBLE)
    for number in range(5):
        send(key, number)
    assert loop.taken() == [(key, None)]  # one ticket
    assert latest.take(key) == double(4)
    assert latest.take(key) is None
    send(key, 5)
    assert loop.taken() == [(key, None)]
    assert latest.dropped(key) == 4
    latest.forget(key)
    assert len(latest) == 0


def test_newest(newest: Newest, loop: FakeLoop) -> None:
    send = sender(newest)
    key = new_key(aioca.DBR_DOUBLE)
    newest.open(key, 3)
    for number in range(5):
        send(key, number)
    assert len(loop.queue) // 2 == 3  # a ticket for each update that waits
    assert newest.dropped(key) == 2
    assert delivered(newest, loop) == [double(2), double(3), double(4)]
    send(key, 5)
    assert delivered(newest, loop) == [double(5)]
    assert newest.dropped(key) == 2
    newest.forget(key)
    send(key, 6)
    assert delivered(newest, loop) == []
    assert len(newest) == 0


@pytest.mark.parametrize("before", [[], [1.0]])
@pytest.mark.parametrize("after", [[], [2.0]])
def test_a_disconnection_among_the_latest(
    latest: Latest, loop: FakeLoop, before: list[float], after: list[float]
) -> None:
    """It is delivered after the update before it. A later update replaces both."""
    send = sender(latest)
    key = new_key(aioca.DBR_DOUBLE)
    loop.receivers[key] = object()
    for number in before:
        send(key, number)
    latest.add_disconnection(key, NOTHING)
    latest.add_disconnection(key, NOTHING)
    for number in after:
        send(key, number)
    expected = [double(2.0)] if after else [*map(double, before), NOTHING]
    assert delivered(latest, loop) == expected
    assert latest.dropped(key) == len(before and after)


def test_a_disconnection_among_others(policy: Policy, loop: FakeLoop) -> None:
    """Policies that keep more than one update deliver it in its place; it is not counted."""
    if isinstance(policy, Latest):
        pytest.skip("keeps one: see test_a_disconnection_among_the_latest")
    send = sender(policy)
    key = new_key(aioca.DBR_DOUBLE)
    policy.open(key, 3)
    send(key, 1)
    policy.add_disconnection(key, NOTHING)
    send(key, 2)
    assert delivered(policy, loop) == [double(1), NOTHING, double(2)]
    assert policy.dropped(key) == 0


def test_a_disconnection_while_the_monitor_is_being_closed(policy: Policy, loop: FakeLoop) -> None:
    """libca's thread reports it just after the loop has removed the key: nothing is stored."""
    key = new_key(aioca.DBR_DOUBLE)
    policy.open(key, 2)
    policy.forget(key)
    policy.add_disconnection(key, NOTHING)
    assert len(policy) == 0


def test_updates_of_an_ignored_key(policy: Policy, loop: FakeLoop) -> None:
    key = new_key(aioca.DBR_DOUBLE)
    policy.open(key, 2)
    send = sender(policy)
    send(key, 1)
    loop.ignored_keys.add(key)
    send(key, 2)
    assert delivered(policy, loop) == [double(1)]


def test_a_subscription_that_its_own_update_clears(policy: Policy, loop: FakeLoop) -> None:
    """libca's thread clears it as the helper, and the loop forgets it at once."""
    key = new_key(aioca.DBR_DOUBLE)
    policy.open(key, 2)

    def clear(key: int) -> bool:
        policy.forget(key)
        return True

    loop.ignored_keys.add(key)
    loop.should_drop = clear  # type: ignore[method-assign]
    policy._callback.serve(policy)
    sender(policy)(key, 1)
    assert not loop.queue
    assert len(policy) == 0


@pytest.mark.parametrize("kind", [Every, Latest, Newest])
def test_trampolines_are_used_again(kind: Any, loop: FakeLoop) -> None:
    """Trampolines are never freed, so later loops must use those of earlier loops."""
    first = kind(loop)
    trampoline = first.trampoline.value
    first.close()
    other = FakeLoop()
    second = kind(other)
    assert second.trampoline.value == trampoline
    key = new_key(aioca.DBR_DOUBLE)
    second.open(key, 2)
    sender(second)(key, 1)
    assert not loop.queue
    assert other.queue


# -- A busy loop -----------------------------------------------------------------------------------

COUNTER = 'record(calc, "$(P){}") {{ field(SCAN, ".1 second") field(CALC, "VAL+1") }}\n'


def _compute(seconds: float) -> int:
    """Keep the processor for some time; return how much was computed."""
    end, rounds = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        rounds += 1
    return rounds


@pytest.mark.anyio
async def test_a_busy_loop_still_receives_its_updates(
    own_ioc: Callable[..., SoftIoc], unique: str
) -> None:
    """A task computes for 10 ms at a time, and releases the GIL once in 5 ms.

    The server merges updates that are not received in time. It may merge a few anyway, if the
    machine stops the test for too long.
    """
    fast = _compute(0.1) > 200_000  # an emulated processor makes some 50,000 rounds
    counters = 3000 if fast else 300
    ioc = own_ioc("".join(map(COUNTER.format, range(counters))), {"P": unique})
    await anyio.to_thread.run_sync(ioc.start)
    last: dict[int, float] = {}
    pvs = [f"{unique}{i}" for i in range(counters)]
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
            end = max(last.values()) + 25
            while min(last.values()) < end:
                _compute(0.01)
                await anyio.lowlevel.checkpoint()
    assert lost < 0.1 * updates
