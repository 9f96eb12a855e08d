"""What libca's threads and the loop share without a lock, in every order of their steps.

Each scenario is run with all orders of its steps. A step is one operation that is atomic with a
GIL and without one: an operation on a dict or deque, or an access to the flag of the portal.
"""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

import aioca
from aioca._ca import libca
from aioca._channels import clear_queue as _clear_queue
from aioca._channels.clear_queue import ClearQueue
from aioca._errors import CANothing
from aioca._monitors.every import Every
from aioca._monitors.latest import TICKET_USED, Latest
from aioca._monitors.newest import Newest
from aioca._monitors.policy import new_key
from aioca._portal import queue as _queue
from aioca._portal.queue import LoopQueue
from aioca._requests.request import Request
from tests.support.fake_loop import FakeLoop
from tests.support.interleave import SteppingLock, Steps, explore

UNIT = True
GONE = CANothing("PV", libca.ECA_DISCONN)


def _update(number: int) -> Any:
    return ctypes.create_string_buffer(ctypes.string_at(ctypes.byref(ctypes.c_double(number)), 8))


UPDATES = [_update(number) for number in range(8)]  # kept: C would read them at their address


def _send(policy: Any, on_event: Any, key: int, number: int) -> None:
    address = ctypes.addressof(UPDATES[number])
    on_event(0, 0, 0, 0, 0, 0, key, 0, aioca.DBR_DOUBLE, 1, address, libca.ECA_NORMAL)


def _double(raw: Any) -> Any:
    return GONE if raw is GONE else int(ctypes.c_double.from_buffer_copy(raw).value)


def _policy(kind: Any, loop: FakeLoop) -> tuple[Any, Any]:
    """Make a policy, and the Python function that libca would call."""
    policy = kind(loop)
    on_event, serve = kind._make_callback()
    return policy, (on_event, serve)


@pytest.mark.parametrize("sent", [[1, 2], [1, GONE], [GONE, 2], [1, GONE, 2]], ids=str)
@pytest.mark.parametrize("before", [False, True], ids=["idle", "one waits"])
def test_latest(sent: list[Any], before: bool) -> None:
    """Updates arrive while the loop uses tickets: the last one is delivered, none twice."""

    def scenario(steps: Steps) -> None:
        loop = FakeLoop()
        loop.awake = True
        policy, (on_event, serve) = _policy(Latest, loop)
        key = new_key(aioca.DBR_DOUBLE)
        loop.receivers[key] = object()
        policy.waiting = steps.wrap(dict, "pop", "setdefault", "__setitem__")()
        loop.queue = steps.wrap(deque, "extend")()
        serve(policy)
        taken: list[Any] = []

        def arrive() -> None:
            for item in sent:
                if item is GONE:
                    policy.add_disconnection(key, GONE)
                else:
                    _send(policy, on_event, key, item)

        def use_tickets() -> None:
            for _ in loop.taken():
                item = policy.take(key)
                if item is not None:
                    taken.append(_double(item))

        def deliver() -> None:
            use_tickets()
            use_tickets()

        if before:
            _send(policy, on_event, key, 0)
        steps.run(arrive, deliver)
        while loop.queue:
            use_tickets()
        assert taken[-1] == sent[-1]
        expected = [0, *sent] if before else sent
        places = [expected.index(item) for item in taken]
        assert places == sorted(set(places)), "out of order, or twice"
        assert policy.waiting.get(key, TICKET_USED) is TICKET_USED
        updates = sum(item is not GONE for item in expected)
        delivered = sum(item is not GONE for item in taken)
        assert policy.dropped(key) + delivered == updates

    assert explore(scenario) > 5


@pytest.mark.parametrize("kept", [2, 3])
@pytest.mark.parametrize("waiting", [0, 2, 3])
def test_newest(kept: int, waiting: int) -> None:
    """Updates arrive while the loop uses tickets: the last one is delivered, none twice."""
    sent = [4, 5]

    def scenario(steps: Steps) -> None:
        loop = FakeLoop()
        loop.awake = True
        policy, (on_event, serve) = _policy(Newest, loop)
        serve(policy)
        key = new_key(aioca.DBR_DOUBLE)
        policy.open(key, kept)
        for number in range(waiting):
            _send(policy, on_event, key, number)
        kind = steps.wrap(deque, "append", "popleft", "__len__")
        policy.waiting[key] = kind(policy.waiting[key], kept)
        taken: list[int] = []

        def arrive() -> None:
            for number in sent:
                _send(policy, on_event, key, number)

        def use_tickets() -> None:
            for _ in loop.taken():
                item = policy.take(key)
                if item is not None:
                    taken.append(_double(item))

        steps.run(arrive, use_tickets)
        while loop.queue:
            use_tickets()
        assert taken[-1] == sent[-1]
        assert taken == sorted(set(taken)), "out of order, or twice"
        assert policy.dropped(key) + len(taken) == waiting + len(sent)

    assert explore(scenario) > 5


class Portal(LoopQueue):
    """A queue whose wakes are counted, and whose drain is called by the test."""

    def __init__(self) -> None:
        super().__init__()
        self.woken = 0

    def is_closed(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def _wake(self) -> None:
        self.woken += 1

    def _drain_after(self, seconds: float) -> None:
        self.woken += 1


def test_wake_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job is posted while a drain ends: either this drain finds it, or another one is to come."""
    monkeypatch.setattr(_queue, "time", SimpleNamespace(monotonic=lambda: 0.0))

    def scenario(steps: Steps) -> None:
        class Stepping(Portal):
            @property
            def awake(self) -> bool:
                steps.step()
                return self._awake

            @awake.setter
            def awake(self, value: bool) -> None:
                steps.step()
                self._awake = value

        portal = Stepping()
        portal.queue = steps.wrap(deque, "extend", "__len__", "popleft")()
        ran: list[int] = []
        portal.post(lambda: ran.append(0))
        assert portal.woken == 1
        portal.woken = 0
        steps.run(lambda: portal.post(lambda: ran.append(1)), portal._drain)
        assert ran in ([0], [0, 1])
        while portal.woken:
            portal.woken = 0
            portal._drain()
        assert ran == [0, 1], "the job is in the queue, and no drain is to come"

    assert explore(scenario) > 20


def test_replies() -> None:
    """Two replies and an outcome that the loop finds: exactly one of them wakes the task."""

    def scenario(steps: Steps) -> None:
        woken: list[str] = []
        request: Any = Request.__new__(Request)
        count = iter(range(1, 9)).__next__

        def count_outcome() -> int:
            steps.step()
            return count()

        class Waiter:
            def wake(self) -> None:
                woken.append("by the loop")

            def wake_now(self) -> None: ...

        class Context:
            portal = None

        request.results = steps.wrap(list, "__setitem__")([None] * 3)
        request._count, request._settled_here = 3, 0
        request._count_outcome = count_outcome
        request._waiter = Waiter()
        request.context = Context
        Context.portal = type("P", (), {"post": staticmethod(lambda job: woken.append("posted"))})  # type: ignore[assignment]
        steps.run(
            lambda: request._settle(0, libca.ECA_NORMAL),
            lambda: request.arrive(1, b"1"),
            lambda: request.arrive(2, b"2"),
        )
        assert len(woken) == 1
        assert None not in request.results

    assert explore(scenario) > 20


@pytest.mark.parametrize("last", ["channel", "subscription"])
def test_clear_queue(monkeypatch: pytest.MonkeyPatch, last: str) -> None:
    """The helper thread and the loop clear: each item once, and a channel after its own."""

    def scenario(steps: Steps) -> None:
        jobs: deque[Any] = deque()
        cleared: list[Any] = []
        afters: list[Any] = []

        class Fake:
            receivers: dict[int, object] = {}

            def post(self, job: Any) -> None:
                steps.step()
                jobs.append(job)

        class Held:
            def note_cancelled(self, channel: Any) -> None: ...

        callback_lock = SteppingLock(steps)  # libca's, which its threads hold in a callback
        in_callback: list[int] = []

        def clear(what: Any) -> int:
            if threading.get_ident() in in_callback:
                cleared.append(getattr(what, "value", what))
            else:
                with callback_lock:
                    cleared.append(getattr(what, "value", what))
            return 1

        def update() -> None:
            with callback_lock:
                in_callback.append(threading.get_ident())
                queue.should_drop(5)

        monkeypatch.setattr(libca, "clear_subscription", clear)
        monkeypatch.setattr(libca, "clear_channel", clear)
        monkeypatch.setattr(_clear_queue, "TURN_SECONDS", 60.0)
        queue = ClearQueue(Fake(), lambda: None, Held())  # type: ignore[arg-type]
        queue._due = steps.wrap(deque, "popleft", "__len__")()
        queue._lock = SteppingLock(steps)  # type: ignore[assignment]
        channel: Any = type("C", (), {"chid": 1000})
        queue.subscription(1, channel, lambda: afters.append(1))
        expected = [1]
        if last == "channel":
            queue.channel(channel.chid, lambda: afters.append(1000))
            expected.append(1000)

        def turn() -> None:
            while jobs:
                jobs.popleft()()

        steps.run(turn, update)
        turn()
        assert cleared == expected
        assert afters == expected
        assert not queue._due
        assert 0 not in queue.ignored_keys

    assert explore(scenario) > 5


def test_every_keeps_all() -> None:
    """Two threads of libca queue updates: no pair is parted."""

    def scenario(steps: Steps) -> None:
        loop = FakeLoop()
        loop.awake = True
        policy, (on_event, serve) = _policy(Every, loop)
        loop.queue = steps.wrap(deque, "extend", "__len__")()
        serve(policy)
        keys = new_key(aioca.DBR_DOUBLE), new_key(aioca.DBR_DOUBLE)
        steps.run(
            *(lambda key=key, n=n: _send(policy, on_event, key, n) for n, key in enumerate(keys))
        )
        items = list(loop.queue)
        assert sorted(zip(items[::2], map(_double, items[1::2]), strict=True)) == [
            (keys[0], 0),
            (keys[1], 1),
        ]

    assert explore(scenario) > 1
