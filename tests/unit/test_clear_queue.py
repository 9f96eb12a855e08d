"""The clear queue: the loop and libca's threads clear each item once, in the right order."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aioca._ca import libca as _libca
from aioca._channels import clear_queue
from aioca._channels.clear_queue import ClearQueue
from aioca._channels.held_updates import HeldUpdates
from aioca._channels.updates import CLEARS_PENDING

UNIT = True


class FakeIntake:
    def __init__(self) -> None:
        self.ignored_keys: set[int] = set()
        self.clear_some: Callable[[], None] = lambda: None


class FakeLibca:
    """Clears under a lock, as libca does, and checks that the chid or evid still exists."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.subscriptions: dict[int, int] = {}  # the chid by evid
        self.channels: set[int] = set()
        self.errors: list[str] = []
        self.by: list[str] = []

    def clear_subscription(self, evid: int) -> None:
        with self.lock:
            self.by.append(threading.current_thread().name)
            if self.subscriptions.pop(evid, None) is None:
                self.errors.append(f"subscription {evid} is not there")
            time.sleep(0)

    def clear_channel(self, chid: Any) -> None:
        with self.lock:
            self.by.append(threading.current_thread().name)
            if chid.value not in self.channels:
                self.errors.append(f"channel {chid.value} is not there")
            self.channels.discard(chid.value)
            there = self.subscriptions.copy()  # the test adds subscriptions at the same time
            for evid in [e for e, c in there.items() if c == chid.value]:
                del self.subscriptions[evid]


class FakeChannel:
    connected = True
    priority = 0

    def __init__(self, chid: int) -> None:
        self.chid = _libca.Chid(chid)

    def circuit(self) -> tuple[str, int]:
        return "127.0.0.1:5064", self.priority

    def request_confirmation(self) -> object:
        return None


class FakePrompting:
    """Records the channels on which a subscription was cancelled."""

    def __init__(self) -> None:
        self.chids: list[int] = []

    def note_cancelled(self, channel: FakeChannel) -> None:
        self.chids.append(channel.chid.value)


@pytest.fixture
def libca(monkeypatch: pytest.MonkeyPatch) -> FakeLibca:
    fake = FakeLibca()
    monkeypatch.setattr(_libca, "clear_subscription", fake.clear_subscription)
    monkeypatch.setattr(_libca, "clear_channel", fake.clear_channel)
    return fake


@pytest.fixture
def many_switches() -> Iterator[None]:
    """Make threads interrupt each other far more often than usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def make() -> tuple[ClearQueue, FakeIntake, deque[Callable[[], object]]]:
    pending_updates = FakeIntake()
    jobs: deque[Callable[[], object]] = deque()
    clearing = ClearQueue(pending_updates, jobs.append, lambda: None, FakePrompting())  # type: ignore[arg-type]
    return clearing, pending_updates, jobs


def prompted(clearing: ClearQueue) -> list[int]:
    """The channels that the queue has reported for a cancelled subscription."""
    return clearing._held_updates.chids  # type: ignore[attr-defined, no-any-return]


def test_by_the_loop_alone(libca: FakeLibca, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clear_queue, "TURN", 60.0)  # one turn, even on a busy machine
    clearing, pending_updates, jobs = make()
    libca.subscriptions = {1: 10, 2: 10, 3: 20}
    libca.channels = {10, 20}
    afters: list[str] = []
    clearing.subscription(1, FakeChannel(10), lambda: afters.append("1"))
    clearing.subscription(2, FakeChannel(10))
    assert CLEARS_PENDING in pending_updates.ignored_keys
    assert len(jobs) == 1
    clearing.channel(_libca.Chid(10), lambda: afters.append("10"))
    assert afters == []
    jobs.popleft()()
    assert libca.errors == []
    assert libca.subscriptions == {3: 20}
    assert libca.channels == {20}
    assert afters == ["1", "10"]
    assert prompted(clearing) == [10, 10]
    assert CLEARS_PENDING not in pending_updates.ignored_keys
    assert not jobs


def test_in_turns(libca: FakeLibca, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop clears a part of the queue in each turn."""
    monkeypatch.setattr(clear_queue, "TURN", -1.0)
    clearing, _, jobs = make()
    libca.subscriptions = dict.fromkeys(range(3), 10)
    for evid in range(3):
        clearing.subscription(evid, FakeChannel(10))
    turns = 0
    while jobs:
        jobs.popleft()()
        turns += 1
    assert turns == 4  # the last one finds nothing
    assert libca.subscriptions == {}


def test_help_from_a_callback(libca: FakeLibca) -> None:
    clearing, pending_updates, jobs = make()
    libca.subscriptions = dict.fromkeys(range(5), 10)
    libca.channels = {10}
    afters: list[int] = []
    for evid in range(5):
        clearing.subscription(evid, FakeChannel(10), lambda evid=evid: afters.append(evid))
    clearing.channel(_libca.Chid(10), lambda: afters.append(10))
    jobs.popleft()  # the loop's turn begins while libca's thread clears the last item
    pending_updates.clear_some()
    assert libca.subscriptions == {}
    assert libca.channels == set()
    assert afters == []  # the loop calls these
    assert prompted(clearing) == []
    jobs.popleft()()
    assert afters == [0, 1, 2, 3, 4, 10]
    assert prompted(clearing) == [10] * 5
    assert libca.errors == []


def test_all_of_it_at_the_end(libca: FakeLibca) -> None:
    clearing, pending_updates, _ = make()
    libca.subscriptions = dict.fromkeys(range(2000), 10)
    libca.channels = {10}
    afters: list[int] = []
    for evid in range(2000):
        clearing.subscription(evid, FakeChannel(10), lambda evid=evid: afters.append(evid))
    clearing.channel(_libca.Chid(10))
    clearing.finish()
    assert libca.channels == set()
    assert afters == list(range(2000))
    assert CLEARS_PENDING not in pending_updates.ignored_keys


def test_one_channel_of_a_circuit_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """One request is sent, to the first channel that can be read."""
    monkeypatch.setattr(_libca, "host_name", lambda chid: "here")
    timers: list[Callable[[], object]] = []
    flushed: list[None] = []

    def after(seconds: float, job: Callable[[], object]) -> Callable[[], None]:
        timers.append(job)
        return timers.clear

    asked: list[int] = []

    class Asked(FakeChannel):
        def request_confirmation(self) -> object:
            asked.append(self.chid.value)
            return None if self.chid.value == 1 else self

    prompting = HeldUpdates(after, lambda: flushed.append(None))
    for chid in (1, 2, 3):
        prompting.note_cancelled(Asked(chid))
    while timers:
        timers.pop()()
    assert asked == [1, 2]
    assert len(flushed) == 1


def test_a_channel_that_is_put_back_is_not_forgotten(libca: FakeLibca) -> None:
    """libca's thread takes the last item, a channel, when the loop begins its turn.

    It puts the channel back after the loop has found nothing and has ended its turn.
    """
    clearing, pending_updates, jobs = make()
    libca.channels = {10}

    class Switching(deque[Any]):
        """Runs the loop's turn when libca's thread has taken the channel."""

        switched = False

        def popleft(self) -> Any:
            if self.switched:
                return super().popleft()
            self.switched = True
            due = super().popleft()
            clearing._at = clear_queue._ANY_CHID  # the loop is about to call popleft
            self.appendleft = self.loop_ends_then_put_back  # type: ignore[method-assign]
            return due

        def loop_ends_then_put_back(self, due: Any) -> None:
            jobs.popleft()()  # the loop's popleft finds nothing, so its turn ends
            super().appendleft(due)

    clearing._due = Switching()
    clearing.channel(_libca.Chid(10))
    pending_updates.clear_some()
    while jobs:
        jobs.popleft()()
    assert libca.channels == set()
    assert libca.errors == []


def test_ctrl_c_during_a_turn(libca: FakeLibca) -> None:
    """The loop may go on, as in a notebook: the rest is cleared in the next turn."""
    clearing, _, jobs = make()
    libca.subscriptions = dict.fromkeys(range(3), 10)
    for evid in range(3):
        clearing.subscription(evid, FakeChannel(10))
    clear = libca.clear_subscription

    def interrupted(evid: int) -> None:
        clear(evid)
        if evid == 0:
            raise KeyboardInterrupt

    clearing._due[0] = clearing._due[0]._replace(clear=lambda: interrupted(0))
    with pytest.raises(KeyboardInterrupt):
        jobs.popleft()()
    assert clearing._at is None
    while jobs:
        jobs.popleft()()
    assert libca.subscriptions == {}


@pytest.mark.parametrize("seed", range(5))
def test_both_at_once(libca: FakeLibca, many_switches: None, seed: int) -> None:
    """Each item is cleared once, none is left, and no channel before its subscriptions."""
    source = random.Random(seed)
    clearing, pending_updates, jobs = make()
    over = False

    def callbacks() -> None:  # a busy libca thread: it nearly always holds the lock
        while not over:
            with libca.lock:
                for _ in range(3):
                    if pending_updates.ignored_keys:
                        pending_updates.clear_some()

    thread = threading.Thread(target=callbacks, name="libca's")
    thread.start()
    evid = afters = expected = 0

    def after() -> None:
        nonlocal afters
        afters += 1

    try:
        for chid in range(1, 300):
            libca.channels.add(chid)
            evids = range(evid, evid + source.randrange(6))
            evid = evids.stop
            libca.subscriptions.update(dict.fromkeys(evids, chid))
            for each in evids:
                clearing.subscription(each, FakeChannel(chid), after)
            clearing.channel(_libca.Chid(chid), after)
            expected += len(evids) + 1
            if source.random() < 0.3 and jobs:
                jobs.popleft()()
        clearing.finish()
    finally:
        over = True
        thread.join()
    clearing.finish()
    assert libca.errors == []
    assert libca.subscriptions == {}
    assert libca.channels == set()
    assert afters == expected
    assert "libca's" in libca.by
