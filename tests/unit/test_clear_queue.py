"""The clear queue: the loop and libca's threads clear each item once, in the right order."""

from __future__ import annotations

import random
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aioca._ca import libca
from aioca._channels import clear_queue, held_updates
from aioca._channels.clear_queue import CLEARS_PENDING, ClearQueue
from aioca._channels.held_updates import HeldUpdates
from tests.support.fake_ca import CAChannel, FakeCA
from tests.support.fake_loop import FakeLoop

UNIT = True


class FakeChannel:
    connected = True
    private = False
    priority = 0
    native_type = 6

    def __init__(self, chid: int) -> None:
        self.chid = chid

    def circuit(self) -> tuple[str, int]:
        return "127.0.0.1:5064", self.priority


class FakeHeldUpdates:
    """Records the channels on which a subscription was cancelled."""

    def __init__(self) -> None:
        self.chids: list[int] = []

    def note_cancelled(self, channel: FakeChannel) -> None:
        self.chids.append(channel.chid)


@pytest.fixture
def many_switches() -> Iterator[None]:
    """Make threads interrupt each other far more often than usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def make() -> tuple[ClearQueue, deque[Callable[[], object]]]:
    loop = FakeLoop()
    queue = ClearQueue(loop, lambda: None, FakeHeldUpdates())  # type: ignore[arg-type]
    return queue, loop.jobs


def help_in_callback(queue: ClearQueue) -> None:
    """What each update does on libca's thread while keys are ignored."""
    if queue.ignored_keys:
        queue.should_drop(1)


def noted(queue: ClearQueue) -> list[int]:
    """The channels that the queue has reported for a cancelled subscription."""
    return queue._held_updates.chids  # type: ignore[attr-defined, no-any-return]


def channels(*chids: int) -> dict[int, CAChannel]:
    return {chid: CAChannel(chid) for chid in chids}


def test_by_the_loop_alone(fake_ca: FakeCA, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clear_queue, "TURN_SECONDS", 60.0)  # one turn, even on a busy machine
    queue, jobs = make()
    fake_ca.subscriptions = {1: 10, 2: 10, 3: 20}
    fake_ca.channels = channels(10, 20)
    afters: list[str] = []
    queue.subscription(1, FakeChannel(10), lambda: afters.append("1"))
    queue.subscription(2, FakeChannel(10))
    assert CLEARS_PENDING in queue.ignored_keys
    assert len(jobs) == 1
    queue.channel(10, lambda: afters.append("10"))
    assert afters == []
    jobs.popleft()()
    assert fake_ca.errors == []
    assert fake_ca.subscriptions == {3: 20}
    assert fake_ca.channels == channels(20)
    assert afters == ["1", "10"]
    assert noted(queue) == [10, 10]
    assert CLEARS_PENDING not in queue.ignored_keys
    assert not jobs


def test_in_turns(fake_ca: FakeCA, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop clears a part of the queue in each turn."""
    monkeypatch.setattr(clear_queue, "TURN_SECONDS", -1.0)
    queue, jobs = make()
    fake_ca.subscriptions = dict.fromkeys(range(1, 4), 10)
    for evid in range(1, 4):
        queue.subscription(evid, FakeChannel(10))
    turns = 0
    while jobs:
        jobs.popleft()()
        turns += 1
    assert turns == 3
    assert CLEARS_PENDING not in queue.ignored_keys
    assert fake_ca.subscriptions == {}


def test_help_from_a_callback(fake_ca: FakeCA) -> None:
    queue, jobs = make()
    fake_ca.subscriptions = dict.fromkeys(range(1, 6), 10)
    fake_ca.channels = channels(10)
    afters: list[int] = []
    for evid in range(1, 6):
        queue.subscription(evid, FakeChannel(10), lambda evid=evid: afters.append(evid))
    queue.channel(10, lambda: afters.append(10))
    jobs.popleft()  # the loop's turn begins while libca's thread clears the last item
    help_in_callback(queue)
    assert fake_ca.subscriptions == {}
    assert fake_ca.channels == {}
    assert afters == []  # the loop calls these
    assert noted(queue) == []
    jobs.popleft()()
    assert afters == [1, 2, 3, 4, 5, 10]
    assert noted(queue) == [10] * 5
    assert fake_ca.errors == []


def test_all_of_it_at_the_end(fake_ca: FakeCA) -> None:
    queue, _ = make()
    fake_ca.subscriptions = dict.fromkeys(range(1, 2001), 10)
    fake_ca.channels = channels(10)
    afters: list[int] = []
    for evid in range(1, 2001):
        queue.subscription(evid, FakeChannel(10), lambda evid=evid: afters.append(evid))
    queue.channel(10)
    queue.close()
    assert fake_ca.channels == {}
    assert afters == list(range(1, 2001))
    assert CLEARS_PENDING not in queue.ignored_keys


def test_one_channel_of_a_circuit_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """One read is sent on each circuit, to the first channel that can be read."""
    timers: list[Callable[[], object]] = []
    flushed: list[None] = []
    asked: list[int] = []

    def after(seconds: float, job: Callable[[], object]) -> Callable[[], None]:
        timers.append(job)
        return timers.clear

    def get_callback(dbr: Any, count: Any, chid: Any, trampoline: Any, usr: Any) -> int:
        asked.append(chid.value)
        assert usr.value == 0  # no owner: the reply is not copied
        return libca.ECA_NORDACCESS if chid.value == 1 else libca.ECA_NORMAL

    monkeypatch.setattr(libca, "get_callback", get_callback)
    monkeypatch.setattr(held_updates, "_READ_DELAY_SECONDS", 0.0)
    held = HeldUpdates(after, lambda: flushed.append(None))
    for chid in (1, 2, 3):
        held.note_cancelled(FakeChannel(chid))  # type: ignore[arg-type]
    assert len(timers) == 1
    while timers:
        timers.pop()()
    assert asked == [1, 2]
    assert len(flushed) == 1


def test_the_helper_leaves_the_channel_at_which_the_loop_is(
    fake_ca: FakeCA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop has taken the subscription, and waits for the lock that the helper has."""
    queue, jobs = make()
    fake_ca.subscriptions = {1: 10}
    fake_ca.channels = channels(10, 20)
    clear = fake_ca.clear_subscription

    def helped(evid: int) -> None:
        help_in_callback(queue)
        assert fake_ca.channels == channels(10, 20)
        clear(evid)

    monkeypatch.setattr(libca, "clear_subscription", helped)
    queue.subscription(1, FakeChannel(10))
    queue.channel(10)
    queue.channel(20)
    while jobs:
        jobs.popleft()()
    assert fake_ca.channels == {}
    assert fake_ca.errors == []


def test_ctrl_c_during_a_turn(fake_ca: FakeCA, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop may go on, as in a notebook: the rest is cleared in the next turn."""
    queue, jobs = make()
    fake_ca.subscriptions = dict.fromkeys(range(1, 4), 10)
    for evid in range(1, 4):
        queue.subscription(evid, FakeChannel(10))
    clear = fake_ca.clear_subscription

    def interrupted(evid: int) -> None:
        clear(evid)
        if evid == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(libca, "clear_subscription", interrupted)
    with pytest.raises(KeyboardInterrupt):
        jobs.popleft()()
    assert queue._at is None
    while jobs:
        jobs.popleft()()
    assert fake_ca.subscriptions == {}


@pytest.mark.parametrize("seed", range(5))
def test_both_at_once(fake_ca: FakeCA, many_switches: None, seed: int) -> None:
    """Each item is cleared once, none is left, and no channel before its subscriptions."""
    source = random.Random(seed)
    queue, jobs = make()
    over = False

    def callbacks() -> None:  # a busy libca thread: it nearly always holds the lock
        while not over:
            with fake_ca.lock:
                for _ in range(3):
                    help_in_callback(queue)

    thread = threading.Thread(target=callbacks, name="libca's")
    thread.start()
    evid = 1
    afters = expected = 0

    def after() -> None:
        nonlocal afters
        afters += 1

    try:
        for chid in range(1, 300):
            fake_ca.channels[chid] = CAChannel(chid)
            evids = range(evid, evid + source.randrange(6))
            evid = evids.stop
            fake_ca.subscriptions.update(dict.fromkeys(evids, chid))
            for each in evids:
                queue.subscription(each, FakeChannel(chid), after)
            queue.channel(chid, after)
            expected += len(evids) + 1
            if source.random() < 0.3 and jobs:
                jobs.popleft()()
        queue.close()
    finally:
        over = True
        thread.join()
    queue.close()
    assert fake_ca.errors == []
    assert fake_ca.subscriptions == {}
    assert fake_ca.channels == {}
    assert afters == expected
    assert "libca's" in fake_ca.clearing_threads
