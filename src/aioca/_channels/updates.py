"""Updates on their way from the threads of libca into the queue of a loop.

Everything here but `Intake` runs on a thread of libca, once for each update of each monitor: it is
the one place where a step of Python is worth counting. So nothing of the subscription is
looked at. What must be known of it is in the key that libca hands back: its lowest byte is the DBR
type that was asked for. The key is never used again, so an update that comes late finds nobody.

There is one function for each policy, which libca calls for the subscriptions that have it:

- ``every``: each update goes into the queue, as the item of its key.
- ``latest``: the update replaces the one that is pending in ``latest``; the queue gets a None as a
  ticket for it, unless there is one under way.
- ``newest``: the subscription itself keeps the newest n.

A ticket is given back (removed from ``tickets``) by the loop before it takes what is pending, and
looked for by libca's thread after it has put something there. So either the loop finds it, or the
thread finds no ticket and makes one: the last value always arrives.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from .._ca.callbacks import OnEvent, copied, event_trampoline, keep_thread_state, memory
from .._ca.libca import ECA_NORMAL, SCALAR_SIZE, Trampoline
from .._errors import CANothing

# In the queue, after this many halves of pairs it is looked whether the loop is closed and whether
# the thread is a busy one. A power of two.
_LOOK_EVERY = 64

# In `Intake.cut`: there is something to `help` with.
ATTENTION = 0

_keys = itertools.count(1)


def new_key(dbr: int) -> int:
    """A key that no subscription has ever had, for one that asks for this DBR type."""
    return next(_keys) << 8 | dbr


class Line(Protocol):
    """The way into a loop: see `Portal`."""

    queue: deque[Any]
    receivers: dict[int | None, Any]
    awake: bool

    def put(self, key: int | None, item: object) -> None: ...
    def rouse(self) -> None: ...
    def look_if_closed(self) -> None: ...


class Intake:
    """What is pending for the subscriptions of one loop.

    Attributes:
        latest: by key, what is pending for those that keep the latest only.
        tickets: the keys of those for which a ticket is under way.
        dropped: by key, how many updates were replaced. Only where there were any.
        cut: keys of which no more is to be taken, as the type of the PV has changed, or as they are
            being closed.
        help: called on libca's thread by an update that comes while anything is in ``cut``.
    """

    def __init__(self, line: Line) -> None:
        self.line = line
        self.latest: dict[int, Any] = {}
        self.tickets: set[int] = set()
        self.dropped: dict[int, int] = {}
        self.cut: set[int] = set()
        self.help: Callable[[], None] = _nothing
        self._mouths: dict[int, _Mouth] = {}

    def trampoline(self, limit: int) -> Trampoline:
        """What libca is to call for a subscription that keeps ``limit`` updates, 0 for all."""
        policy = min(limit, 2)
        mouth = self._mouths.get(policy)
        if mouth is None:
            mouth = self._mouths[policy] = _mouth(policy)
            mouth.serve(self)
        return mouth.trampoline

    def close(self) -> None:
        """Nothing of libca's calls for it any more: others may have its trampolines."""
        for policy, mouth in self._mouths.items():
            _spare[policy].append(mouth)
        self._mouths.clear()

    def held_up(self, key: int) -> bool:
        """On libca's thread, while anything is in ``cut``: whether this is."""
        held = key in self.cut  # first: helping may clear this very subscription
        self.help()
        return held or key not in self.line.receivers

    def ticket(self, key: int) -> None:
        """Have the receiver of a key look at what is pending for it; any thread."""
        if key not in self.tickets:
            self.tickets.add(key)
            self.line.put(key, None)

    def put_latest(self, key: int, nothing: CANothing) -> None:
        """On a thread of libca: put it behind the latest update that is pending, if one is."""
        pending = self.latest.pop(key, None)
        if pending is None or type(pending) is CANothing:
            self.latest[key] = nothing
        else:
            update = pending[0] if type(pending) is Pair else pending
            self.latest[key] = Pair((update, nothing))
        self.ticket(key)
        if key not in self.line.receivers:  # closed meanwhile, and perhaps forgotten already
            self.latest.pop(key, None)
            self.tickets.discard(key)

    def take_latest(self, key: int) -> Any:
        """On the loop: what is pending; None if nothing is."""
        self.tickets.discard(key)
        item = self.latest.pop(key, None)
        if type(item) is Pair:
            item, nothing = item
            self.latest.setdefault(key, nothing)  # libca's thread may have a newer update there
            self.ticket(key)
        return item

    def forget(self, key: int) -> int:
        """On the loop: libca calls for this key no more. Returns how many it has dropped."""
        self.latest.pop(key, None)
        self.tickets.discard(key)
        self.cut.discard(key)
        return self.dropped.pop(key, 0)


def _nothing() -> None:
    pass


class _Mouth:
    """A trampoline and the function behind it, which can be bound to one intake after another.

    libca's may be called for ever, so they are: one is used again, not made for each loop.
    """

    def __init__(self, make: Callable[[], tuple[OnEvent, Callable[[Intake], None]]]) -> None:
        on_event, self.serve = make()
        self.trampoline = event_trampoline(on_event)


def _mouth(policy: int) -> _Mouth:
    try:
        return _spare[policy].pop()
    except IndexError:
        return _Mouth((_every, _latest, _newest)[policy])


_spare: tuple[list[_Mouth], ...] = ([], [], [])


# -- On a thread of libca --------------------------------------------------------------------------
# Closures, as their variables are the fastest to get at. What they have in common is written out
# in each of them: a call would cost a tenth of it all. The first lines are a copy of one element,
# which is what nearly every update is.


def _every() -> tuple[OnEvent, Callable[[Intake], None]]:
    line: Any = None
    queue: Any = ()
    extend: Any = None
    cut: Any = ()
    held_up: Any = None

    def on_event(
        _1: int, _2: int, _3: int, _4: int, _5: int, _6: int,
        key: int, _chid: int, dbr: int, count: int, start: int, status: int,
    ) -> None:  # fmt: skip
        if status == ECA_NORMAL and count == 1 and start and key & 255 == dbr:
            raw: Any = memory[start : start + SCALAR_SIZE[dbr]]
        else:
            raw = copied(key & 255, dbr, count, start, status)
        if cut and held_up(key):
            return
        extend((key, raw))
        if not line.awake:
            keep_thread_state()
            line.rouse()
        elif not len(queue) % _LOOK_EVERY:
            keep_thread_state(_LOOK_EVERY // 2)
            line.look_if_closed()

    def serve(intake: Intake) -> None:
        nonlocal line, queue, extend, cut, held_up
        line, queue, extend = intake.line, intake.line.queue, intake.line.queue.extend
        cut, held_up = intake.cut, intake.held_up

    return on_event, serve


def _latest() -> tuple[OnEvent, Callable[[Intake], None]]:
    line: Any = None
    latest: Any = {}
    tickets: Any = ()
    dropped: Any = {}
    cut: Any = ()
    held_up: Any = None
    seen = 0

    def on_event(
        _1: int, _2: int, _3: int, _4: int, _5: int, _6: int,
        key: int, _chid: int, dbr: int, count: int, start: int, status: int,
    ) -> None:  # fmt: skip
        nonlocal seen
        if status == ECA_NORMAL and count == 1 and start and key & 255 == dbr:
            raw: Any = memory[start : start + SCALAR_SIZE[dbr]]
        else:
            raw = copied(key & 255, dbr, count, start, status)
        if cut and held_up(key):
            return
        # Whoever takes it out has it: it is either dropped here or delivered by the loop.
        replaced = latest.pop(key, None)
        latest[key] = raw
        if replaced is not None and type(replaced) is not CANothing:
            dropped[key] = dropped.get(key, 0) + 1
        if key not in tickets:
            tickets.add(key)
            line.queue.extend((key, None))
            if not line.awake:
                keep_thread_state()
                line.rouse()
        seen += 1
        if not seen % _LOOK_EVERY:
            keep_thread_state(_LOOK_EVERY)
            line.look_if_closed()

    def serve(intake: Intake) -> None:
        nonlocal line, latest, tickets, dropped, cut, held_up
        line, latest, tickets = intake.line, intake.latest, intake.tickets
        dropped, cut, held_up = intake.dropped, intake.cut, intake.held_up

    return on_event, serve


def _newest() -> tuple[OnEvent, Callable[[Intake], None]]:
    line: Any = None
    cut: Any = ()
    held_up: Any = None
    seen = 0

    def on_event(
        _1: int, _2: int, _3: int, _4: int, _5: int, _6: int,
        key: int, _chid: int, dbr: int, count: int, start: int, status: int,
    ) -> None:  # fmt: skip
        nonlocal seen
        if cut and held_up(key):
            return
        feed = line.receivers.get(key)
        if feed is None:
            return
        if feed.keep(copied(key & 255, dbr, count, start, status)):
            line.put(key, None)
        seen += 1
        if not seen % _LOOK_EVERY:
            keep_thread_state(_LOOK_EVERY)
            line.look_if_closed()

    def serve(intake: Intake) -> None:
        nonlocal line, cut, held_up
        line, cut, held_up = intake.line, intake.cut, intake.held_up

    return on_event, serve


class Pair(tuple[Any, Any]):
    """The latest update, and a `CANothing` behind it."""

    __slots__ = ()
