"""Passes updates from libca's threads to the queue of a loop.

Everything here except `PendingUpdates` runs on a libca thread, once for each update of each
monitor. This is the only code in which each Python instruction counts, so it does not use the
monitor itself. The key that libca passes back is sufficient: its lowest byte is the DBR type that
was requested.

There is one function for each policy. libca calls it for the subscriptions that have the policy:

- ``every``: each update goes into the queue, as the item of its key.
- ``latest``: the update replaces the pending update in ``latest``. The queue gets a None as a
  ticket for the pending update, unless a ticket is already under way.
- ``newest``: the monitor itself keeps the newest n updates.

Invariants:

- A key is never used again, so a late update finds no receiver.
- The last update always arrives. The loop removes the ticket from ``tickets`` before it takes the
  pending update. libca's thread stores the pending update before it looks for the ticket. So
  either the loop takes this update, or the thread finds no ticket and queues one.
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

# After this many updates (policy ``every``: halves of queued pairs) libca's thread checks whether
# the loop is closed and whether to keep its own Python thread state. A power of two.
_CHECK_EVERY = 64

# In `PendingUpdates.ignored_keys`: the clear queue has items, so call `clear_some`.
CLEARS_PENDING = 0

_keys = itertools.count(1)


def new_key(dbr: int) -> int:
    """Return a new key for a subscription that requests this DBR type. On any thread."""
    return next(_keys) << 8 | dbr


class PendingUpdates:
    """The updates that are pending for the subscriptions of one loop.

    Attributes:
        latest: by key, the pending update of a subscription that keeps only the latest.
        tickets: the keys for which a ticket is in the queue.
        dropped: by key, the number of updates that were replaced. Has no entry for zero.
        ignored_keys: updates with these keys are dropped, because the type of the PV has changed
            or the subscription is being cleared. `CLEARS_PENDING` in this set requests calls of
            `clear_some`.
        clear_some: called on libca's thread by each update while ``ignored_keys`` is not empty.
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
        """Return the C callback for a subscription that keeps ``limit`` updates (0: all).

        On the loop.
        """
        policy = min(limit, 2)
        callback = self._callbacks.get(policy)
        if callback is None:
            callback = self._callbacks[policy] = _pooled_callback(policy)
            callback.serve(self)
        return callback.trampoline

    def close(self) -> None:
        """Make the C callbacks free for other loops. libca must not call them for this loop."""
        for policy, callback in self._callbacks.items():
            _spare[policy].append(callback)
        self._callbacks.clear()

    def should_drop(self, key: int) -> bool:
        """Whether an update of this key must be dropped. Also calls `clear_some`.

        On libca's thread, while ``ignored_keys`` is not empty.
        """
        held = key in self.ignored_keys  # first: `clear_some` may clear this subscription
        self.clear_some()
        return held or key not in self.portal.receivers

    def ticket(self, key: int) -> None:
        """Queue a ticket, with which the receiver takes its pending update. On any thread."""
        if key not in self.tickets:
            self.tickets.add(key)
            self.portal.put(key, None)

    def put_latest(self, key: int, nothing: CANothing) -> None:
        """Store a `CANothing` behind the pending update, if there is one. On a libca thread."""
        pending = self.latest.pop(key, None)
        if pending is None or type(pending) is CANothing:
            self.latest[key] = nothing
        else:
            update = pending[0] if type(pending) is Pair else pending
            self.latest[key] = Pair((update, nothing))
        self.ticket(key)
        if key not in self.portal.receivers:  # closed since; `forget` may have run already
            self.latest.pop(key, None)
            self.tickets.discard(key)

    def take_latest(self, key: int) -> Any:
        """Take the pending update or `CANothing`; None if there is none. On the loop."""
        self.tickets.discard(key)
        item = self.latest.pop(key, None)
        if type(item) is Pair:
            item, nothing = item
            self.latest.setdefault(key, nothing)  # libca's thread may have a newer update there
            self.ticket(key)
        return item

    def forget(self, key: int) -> int:
        """Remove a key for which libca makes no more callbacks. On the loop.

        Returns:
            The number of updates that were replaced.
        """
        self.latest.pop(key, None)
        self.tickets.discard(key)
        self.ignored_keys.discard(key)
        return self.dropped.pop(key, 0)


def _nothing() -> None:
    pass


class _PooledCallback:
    """A C callback and its Python function, which can serve one loop after another.

    C callbacks are never freed, because libca may still call them. They are reused by the next
    loop.
    """

    def __init__(
        self, make: Callable[[], tuple[OnEvent, Callable[[PendingUpdates], None]]]
    ) -> None:
        on_event, self.serve = make()
        self.trampoline = event_trampoline(on_event)


def _pooled_callback(policy: int) -> _PooledCallback:
    """Return a free C callback for a policy, or make one."""
    try:
        return _spare[policy].pop()
    except IndexError:
        return _PooledCallback((_every, _latest, _newest)[policy])


_spare: tuple[list[_PooledCallback], ...] = ([], [], [])


# -- On a thread of libca --------------------------------------------------------------------------
# These are closures, because access to closure variables is fastest. Their common code is repeated
# in each of them, because a call would take a tenth of the total time. The first branch copies one
# element, because nearly every update has one element.


def _every() -> tuple[OnEvent, Callable[[PendingUpdates], None]]:
    """Make the function for policy ``every``, and one that binds it to a loop's updates."""
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
        elif not len(queue) % _CHECK_EVERY:
            keep_thread_state(_CHECK_EVERY // 2)
            portal.check_closed()

    def serve(updates: PendingUpdates) -> None:
        nonlocal portal, queue, extend, ignored_keys, should_drop
        portal, queue, extend = updates.portal, updates.portal.queue, updates.portal.queue.extend
        ignored_keys, should_drop = updates.ignored_keys, updates.should_drop

    return on_event, serve


def _latest() -> tuple[OnEvent, Callable[[PendingUpdates], None]]:
    """Make the function for policy ``latest``, and one that binds it to a loop's updates."""
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
        # `pop` is atomic: an update is either replaced here or taken by the loop, never both.
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
        if not seen % _CHECK_EVERY:
            keep_thread_state(_CHECK_EVERY)
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
    """Make the function for policy ``newest``, and one that binds it to a loop's updates."""
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
        if not seen % _CHECK_EVERY:
            keep_thread_state(_CHECK_EVERY)
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
    """The latest update and the `CANothing` that follows it."""

    __slots__ = ()
