"""The clear queue: clears subscriptions and channels without making the loop wait for libca.

libca clears under its callback lock. Its threads hold this lock while they process all data that
they have received: under a flood of updates, one clear waits five milliseconds. A libca thread in
a callback already holds the lock. So both work on the queue: the loop, a few milliseconds at a
time, and any libca thread that calls back with an update (the helper thread).

Invariants:

- Each item is cleared once, by the thread that has taken it out of the queue.
- Subscriptions are cleared before their channel. The helper thread holds libca's callback lock, so
  its item is finished before the loop can clear. The loop records the channel of the item that it
  has taken and not yet cleared in ``_at``. The helper thread leaves this channel in the queue.
- ``_lock`` guards taking an item together with ``_at``. The loop holds it for these two steps only,
  and never while it calls libca. The helper thread never waits for it: libca's callback lock is
  held there, for which the loop may be waiting.
- While the queue is not empty, another turn of the loop is to come: the loop ends its turns only
  when the queue is empty.
- ``after`` is called on the loop, when libca makes no more callbacks for the item.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from .._ca import libca
from .._portal.interface import TURN_SECONDS

if TYPE_CHECKING:
    from .._portal.interface import Portal
    from .channel import Channel
    from .held_updates import HeldUpdates

# A callback on the helper thread clears at most this many items, which takes a millisecond or two.
_MAX_CLEARS_PER_CALLBACK = 500
# The end of a run waits this long at most for the helper thread to finish its callback.
_MAX_CLOSE_SECONDS = 0.1
# Between two checks of the helper thread. It needs the GIL to finish, so the loop has to sleep.
_POLL_SECONDS = 0.0002

# In `ClearQueue.ignored_keys`: the queue has items, so the next update's thread helps.
CLEARS_PENDING = 0


class _Due(NamedTuple):
    evid: int  # the subscription to clear; 0 if the item is the channel
    chid: int
    channel: Channel | None  # the channel of the subscription
    after: Callable[[], object] | None


class ClearQueue:
    """The subscriptions and channels of one loop that are waiting to be cleared.

    Attributes:
        ignored_keys: updates with these keys are dropped, because the type of the PV has changed
            or the subscription is being cleared. Each update of each monitor tests whether this set
            is empty. `CLEARS_PENDING` in it makes the thread of the next update help.
    """

    def __init__(
        self, portal: Portal, flush: Callable[[], None], held_updates: HeldUpdates
    ) -> None:
        self.ignored_keys: set[int] = set()
        self._portal = portal
        self._flush = flush
        self._held_updates = held_updates
        self._due: deque[_Due] = deque()
        self._done: deque[_Due] = deque()  # cleared, and ``after`` is not called yet
        self._lock = threading.Lock()
        self._at: int | None = None  # the channel of the item that the loop is clearing
        self._helper: int | None = None  # the id of the libca thread that is clearing
        self._posted = False

    def __repr__(self) -> str:
        return f"<ClearQueue {len(self._due)} due, {len(self._done)} done>"

    # -- On the loop -------------------------------------------------------------------------------

    def subscription(
        self, evid: int, channel: Channel, after: Callable[[], object] | None = None
    ) -> None:
        """Queue a subscription to be cleared. On the loop; does not wait for libca.

        The caller must make sure that no update of the subscription is delivered any more.
        """
        self._due.append(_Due(evid, channel.chid, channel, after))
        self._begin()

    def channel(self, chid: int, after: Callable[[], object] | None = None) -> None:
        """Queue a channel to be cleared. On the loop; does not wait for libca."""
        self._due.append(_Due(0, chid, None, after))
        self._begin()

    def close(self) -> bool:
        """Clear all items, however long it takes. At the end of the run of the loop; may block.

        Returns:
            False if a helper thread still has not finished: then libca may still call back.

        This polls, because an event would have to be made or set in each callback that helps, and
        the helper thread is hardly ever in a callback at the end of a run.
        """
        give_up = time.monotonic() + _MAX_CLOSE_SECONDS
        while True:
            libca.unblocked(self._clear_until, math.inf)
            helped = self._helper not in (None, threading.get_ident())
            if not helped or time.monotonic() > give_up:
                break
            time.sleep(_POLL_SECONDS)
        self.ignored_keys.discard(CLEARS_PENDING)
        self._call_afters()
        return not helped

    def _begin(self) -> None:
        """Have the loop and the helper thread clear what is queued."""
        self.ignored_keys.add(CLEARS_PENDING)
        if not self._posted:
            self._portal.post(self._turn)  # first: Ctrl-C may prevent it
            self._posted = True

    def _turn(self) -> None:
        """Clear for `TURN_SECONDS`, call ``after`` of what was cleared, and flush; portal job."""
        try:
            libca.unblocked(self._clear_until, time.monotonic() + TURN_SECONDS)
        finally:  # Ctrl-C may be raised here, and the loop may go on after it
            if self._due:
                self._portal.post(self._turn)
            else:  # only the loop adds items
                self._posted = False
                self.ignored_keys.discard(CLEARS_PENDING)
        self._call_afters()
        self._flush()

    def _clear_until(self, stop: float) -> None:
        """Clear items until a time (time.monotonic). On the loop; waits for libca's lock."""
        while self._due:
            with self._lock:
                if not self._due:  # the helper thread has taken the last one
                    break
                due = self._due.popleft()
                self._at = due.chid
            try:
                if due.evid:
                    libca.clear_subscription(due.evid)
                else:
                    libca.clear_channel(due.chid)
            finally:
                self._at = None
            self._done.append(due)
            if time.monotonic() > stop:
                break

    def _call_afters(self) -> None:
        """Call ``after`` of the items that were cleared. On the loop."""
        while self._done:
            due = self._done.popleft()
            if due.after is not None:
                due.after()
            if due.channel is not None:
                self._held_updates.note_cancelled(due.channel)

    # -- On a thread of libca, in a callback -------------------------------------------------------

    def should_drop(self, key: int) -> bool:
        """Whether an update of this key must be dropped. Also clears some items.

        While ``ignored_keys`` is not empty.
        """
        held = key in self.ignored_keys  # first: this thread may clear this subscription
        if self._due:
            self._help()
        return held or key not in self._portal.receivers

    def _help(self) -> None:
        """Clear some items. libca's thread holds the callback lock here."""
        self._helper = threading.get_ident()
        try:
            for _ in range(_MAX_CLEARS_PER_CALLBACK):
                due = self._take_beside_loop()
                if due is None:
                    break
                if due.evid:
                    libca.clear_subscription(due.evid)
                else:
                    libca.clear_channel(due.chid)
                self._done.append(due)
        finally:
            self._helper = None
        if self._done:  # the loop may have ended its turns already
            self._portal.post(self._call_afters)

    def _take_beside_loop(self) -> _Due | None:
        """Take an item; None if there is none, or the loop is at its channel or taking an item."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            due = self._due[0] if self._due else None
            if due is None or (not due.evid and due.chid == self._at):
                return None
            return self._due.popleft()
        finally:
            self._lock.release()
