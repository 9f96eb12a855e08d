"""The clear queue: clears subscriptions and channels without making the loop wait for libca.

libca clears under its callback lock. Its threads hold this lock while they process all data that
they have received: under a flood of updates, one clear waits five milliseconds. A libca thread in
a callback already holds the lock. So both work on the queue: the loop, a few milliseconds at a
time, and any libca thread that calls back with an update (the helper thread).

Invariants:

- Each item is cleared once, by the thread that has taken it out of the queue.
- Subscriptions are cleared before their channel. The helper thread holds libca's callback lock, so
  its item is finished before the loop can clear. An item that the loop has taken but not yet
  cleared is recorded in ``_at``. The helper thread checks ``_at`` before it clears a channel.
- A thread that adds an item, or puts one back, then posts a turn of the loop.
- ``after`` is called on the loop, when libca makes no more callbacks for the item.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from .._ca import libca
from .._portal.interface import TURN
from .held_updates import HeldUpdates
from .updates import CLEARS_PENDING, PendingUpdates

if TYPE_CHECKING:
    from .channel import Channel

# A callback on the helper thread clears at most this many items, which takes a millisecond or two.
_MAX_CLEARS_PER_CALLBACK = 500
# The end of a run waits this long at most for the helper thread to finish its callback.
_MAX_FINISH_SECONDS = 0.1
_ANY_CHID = -1  # in `_at`: the loop is taking an item, whose chid is not known yet


class _Due(NamedTuple):
    clear: Callable[[], object]
    chid: int  # the channel of the item
    whole: bool  # true if the item is the channel, false if it is one of its subscriptions
    after: Callable[[], object] | None


class ClearQueue:
    """The subscriptions and channels of one loop that are waiting to be cleared."""

    def __init__(
        self,
        pending_updates: PendingUpdates,
        post: Callable[[Callable[[], object]], None],
        flush: Callable[[], None],
        held_updates: HeldUpdates,
    ) -> None:
        self._pending_updates = pending_updates
        self._post = post
        self._flush = flush
        self._held_updates = held_updates
        self._due: deque[_Due] = deque()
        self._afters: deque[Callable[[], object]] = deque()
        self._at: int | None = None  # the chid of the item that the loop has taken out
        self._helper: int | None = None  # the id of the libca thread that is clearing
        self._posted = False
        pending_updates.clear_some = self._clear_in_callback

    # -- On the loop -------------------------------------------------------------------------------

    def subscription(
        self, evid: int, channel: Channel, after: Callable[[], object] | None = None
    ) -> None:
        """Queue a subscription to be cleared. On the loop; does not wait for libca.

        The caller must make sure that no update of the subscription is delivered any more.
        """

        def cleared() -> None:
            if after is not None:
                after()
            self._held_updates.note_cancelled(channel)

        clear = partial(libca.clear_subscription, evid)
        self._add(_Due(clear, channel.chid.value, False, cleared))

    def channel(self, chid: libca.Chid, after: Callable[[], object] | None = None) -> None:
        """Queue a channel to be cleared. On the loop; does not wait for libca."""
        self._add(_Due(partial(libca.clear_channel, chid), chid.value, True, after))

    def finish(self) -> None:
        """Clear all items, however long it takes. At the end of the run of the loop; may block."""
        give_up = time.monotonic() + _MAX_FINISH_SECONDS
        while True:
            while self._one():
                pass
            # Check the helper twice: it may begin, or put an item back, during this condition
            if not (self._is_helped() or self._due or self._is_helped()):
                break
            if time.monotonic() > give_up:
                break
            time.sleep(0.0002)
        self._call_afters()

    def _is_helped(self) -> bool:
        """Whether another thread is clearing, as a helper, and may have taken an item."""
        return self._helper not in (None, threading.get_ident())

    def _add(self, due: _Due) -> None:
        """Queue an item and post a turn. On the loop."""
        self._due.append(due)
        self._pending_updates.ignored_keys.add(CLEARS_PENDING)
        self._post_turn()

    def _post_turn(self) -> None:
        """Post a turn of the loop, unless one is posted that has not begun. On any thread."""
        if not self._posted:
            self._posted = True
            self._post(self._turn)

    def _turn(self) -> None:
        """Clear items for `TURN` at most, then flush and call ``after`` of each; portal job."""
        self._posted = False  # first: the helper posts a new turn if it puts an item back now
        stop = time.monotonic() + TURN
        more = True
        try:
            while more:
                more = self._one()
                if time.monotonic() > stop:
                    break
        finally:  # Ctrl-C may be raised here, and the loop may go on after it
            if more:
                self._post_turn()
        self._flush()
        self._call_afters()

    def _one(self) -> bool:
        """Clear one item; false if the queue is empty. On the loop; waits for libca's lock."""
        self._at = _ANY_CHID
        try:
            due = self._due.popleft()
        except IndexError:
            self._at = None
            self._pending_updates.ignored_keys.discard(CLEARS_PENDING)
            return False
        self._at = due.chid
        try:
            due.clear()
        finally:
            self._at = None
        if due.after is not None:
            self._afters.append(due.after)
        return True

    def _call_afters(self) -> None:
        """Call ``after`` of the items that were cleared. On the loop."""
        while self._afters:
            self._afters.popleft()()

    # -- On a thread of libca, in a callback -------------------------------------------------------

    def _clear_in_callback(self) -> None:
        """Clear some items as the helper. libca's thread holds the callback lock here."""
        self._helper = threading.get_ident()
        try:
            self._clear_some()
        finally:
            self._helper = None
        if self._afters:  # the loop may have ended its turn already
            self._post(self._call_afters)

    def _clear_some(self) -> None:
        """Clear a limited number of items; stop at a channel while the loop has an item of it."""
        for _ in range(_MAX_CLEARS_PER_CALLBACK):
            try:
                due = self._due.popleft()
            except IndexError:
                break
            if due.whole and self._at in (_ANY_CHID, due.chid):
                self._due.appendleft(due)
                # The loop may have found the queue empty and ended its turn before the item was put
                # back. A turn that is posted and has not begun will find the item.
                self._post_turn()
                break
            due.clear()
            if due.after is not None:
                self._afters.append(due.after)
