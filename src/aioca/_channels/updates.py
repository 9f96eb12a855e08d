"""Updates on their way from the threads of libca into the queue of a loop.

Everything here but `PendingUpdates` runs on a thread of libca, once for each update of each
monitor. It is the one place where a step of Python is worth counting, so it does not look at the
monitor itself. The key that libca passes back says enough: its lowest byte is the DBR type that was
requested. A key is never used again, so a late update finds no receiver.

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
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._ca.callbacks import OnEvent, copied, event_trampoline, keep_thread_state, memory
from .._ca.libca import ECA_NORMAL, SCALAR_SIZE, Trampoline
from .._errors import CANothing

if TYPE_CHECKING:
    from .._portal.interface import Portal

# In the queue, after this many halves of pairs it is looked whether the loop is closed and whether
# the thread is a busy one. A power of two.
_LOOK_EVERY = 64

# In `PendingUpdates.ignored_keys`: there is something to `clear_some` with.
CLEARS_PENDING = 0

_keys = itertools.count(1)


def new_key(dbr: int) -> int:
    """A key that no subscription has ever had, for one that asks for this DBR type."""
    return next(_keys) << 8 | dbr


class PendingUpdates:
    """What is pending for the subscriptions of one loop.

    Attributes:
        latest: by key, what is pending for those that keep the latest only.
        tickets: the keys of those for which a ticket is under way.
        dropped: by key, how many updates were replaced. Only where there were any.
        ignored_keys: updates of these keys are dropped: the type of the PV has changed, or the
            subscription is being cleared. `CLEARS_PENDING` among them asks for `clear_some`.
        clear_some: called on libca's thread by an update that comes while ``ignored_keys`` has any.
    """

    def __init__(self, portal: Portal) -> None:
        self.portal = portal
        self.latest: dict[int, Any] = {}
        self.tickets: set[int] = set()
        self.dropped: dict[int, int] = {}
        self.ignored_keys: set[int] = set()
        self.clear_some: Callable[[], None] = _nothing
        self._callbacks: dict[int, _PooledCallback] = {}

    def trampoline(self, limit: int) -> Trampoline:
        """What libca is to call for a subscription that keeps ``limit`` updates, 0 for all."""
        policy = min(limit, 2)
        callback = self._callbacks.get(policy)
        if callback is None:
            callback = self._callbacks[policy] = _pooled_callback(policy)
            callback.serve(self)
        return callback.trampoline

    def close(self) -> None:
        """Nothing of libca's calls for it any more: others may have its trampolines."""
        for policy, callback in self._callbacks.items():
            _spare[policy].append(callback)
        self._callbacks.clear()

    def should_drop(self, key: int) -> bool:
        """On libca's thread, while anything is in ``ignored_keys``: whether this is."""
        held = key in self.ignored_keys  # first: helping may clear this very subscription
        self.clear_some()
        return held or key not in self.portal.receivers

    def ticket(self, key: int) -> None:
        """Have the receiver of a key look at what is pending for it; any thread."""
        if key not in self.tickets:
            self.tickets.add(key)
            self.portal.put(key, None)

    def put_latest(self, key: int, nothing: CANothing) -> None:
        """On a thread of libca: put it behind the latest update that is pending, if one is."""
        pending = self.latest.pop(key, None)
        if pending is None or type(pending) is CANothing:
            self.latest[key] = nothing
        else:
            update = pending[0] if type(pending) is Pair else pending
            self.latest[key] = Pair((update, nothing))
        self.ticket(key)
        if key not in self.portal.receivers:  # closed meanwhile, and perhaps forgotten already
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
        self.ignored_keys.discard(key)
        return self.dropped.pop(key, 0)


def _nothing() -> None:
    pass


class _PooledCallback:
    """A trampoline and the function behind it, which can be bound to one intake after another.

    libca's may be called for ever, so they are: one is used again, not made for each loop.
    """

    def __init__(
        self, make: Callable[[], tuple[OnEvent, Callable[[PendingUpdates], None]]]
    ) -> None:
        on_event, self.serve = make()
        self.trampoline = event_trampoline(on_event)


def _pooled_callback(policy: int) -> _PooledCallback:
    try:
        return _spare[policy].pop()
    except IndexError:
        return _PooledCallback((_every, _latest, _newest)[policy])


_spare: tuple[list[_PooledCallback], ...] = ([], [], [])


# -- On a thread of libca --------------------------------------------------------------------------
# Closures, as their variables are the fastest to get at. What they have in common is written out
# in each of them: a call would cost a tenth of it all. The first lines are a copy of one element,
# which is what nearly every update is.


def _every() -> tuple[OnEvent, Callable[[PendingUpdates], None]]:
    portal: Any = None
    queue: Any = ()
    extend: Any = None
    ignored_keys: Any = ()
    should_drop: Any = None

    def on_event(
        _1: int, _2: int, _3: int, _4: int, _5: int, _6: int,
        key: int, _chid: int, dbr: int, count: int, start: int, status: int,
    ) -> None:  # fmt: skip
        if status == ECA_NORMAL and count == 1 and start and key & 255 == dbr:
            raw: Any = memory[start : start + SCALAR_SIZE[dbr]]
        else:
            raw = copied(key & 255, dbr, count, start, status)
        if ignored_keys and should_drop(key):
            return
        extend((key, raw))
        if not portal.awake:
            keep_thread_state()
            portal.ensure_drain()
        elif not len(queue) % _LOOK_EVERY:
            keep_thread_state(_LOOK_EVERY // 2)
            portal.check_closed()

    def serve(updates: PendingUpdates) -> None:
        nonlocal portal, queue, extend, ignored_keys, should_drop
        portal, queue, extend = updates.portal, updates.portal.queue, updates.portal.queue.extend
        ignored_keys, should_drop = updates.ignored_keys, updates.should_drop

    return on_event, serve


def _latest() -> tuple[OnEvent, Callable[[PendingUpdates], None]]:
    portal: Any = None
    latest: Any = {}
    tickets: Any = ()
    dropped: Any = {}
    ignored_keys: Any = ()
    should_drop: Any = None
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
        if ignored_keys and should_drop(key):
            return
        # Whoever takes it out has it: it is either dropped here or delivered by the loop.
        replaced = latest.pop(key, None)
        latest[key] = raw
        if replaced is not None and type(replaced) is not CANothing:
            dropped[key] = dropped.get(key, 0) + 1
        if key not in tickets:
            tickets.add(key)
            portal.queue.extend((key, None))
            if not portal.awake:
                keep_thread_state()
                portal.ensure_drain()
        seen += 1
        if not seen % _LOOK_EVERY:
            keep_thread_state(_LOOK_EVERY)
            portal.check_closed()

    def serve(updates: PendingUpdates) -> None:
        nonlocal portal, latest, tickets, dropped, ignored_keys, should_drop
        portal, latest, tickets = updates.portal, updates.latest, updates.tickets
        dropped, ignored_keys, should_drop = (
            updates.dropped,
            updates.ignored_keys,
            updates.should_drop,
        )

    return on_event, serve


def _newest() -> tuple[OnEvent, Callable[[PendingUpdates], None]]:
    portal: Any = None
    ignored_keys: Any = ()
    should_drop: Any = None
    seen = 0

    def on_event(
        _1: int, _2: int, _3: int, _4: int, _5: int, _6: int,
        key: int, _chid: int, dbr: int, count: int, start: int, status: int,
    ) -> None:  # fmt: skip
        nonlocal seen
        if ignored_keys and should_drop(key):
            return
        monitor = portal.receivers.get(key)
        if monitor is None:
            return
        if monitor.keep(copied(key & 255, dbr, count, start, status)):
            portal.put(key, None)
        seen += 1
        if not seen % _LOOK_EVERY:
            keep_thread_state(_LOOK_EVERY)
            portal.check_closed()

    def serve(updates: PendingUpdates) -> None:
        nonlocal portal, ignored_keys, should_drop
        portal, ignored_keys, should_drop = (
            updates.portal,
            updates.ignored_keys,
            updates.should_drop,
        )

    return on_event, serve


class Pair(tuple[Any, Any]):
    """The latest update, and a `CANothing` behind it."""

    __slots__ = ()
