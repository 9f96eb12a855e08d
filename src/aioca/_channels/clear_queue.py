"""Subscriptions and channels that are to be cleared, without the loop waiting for it.

libca clears under its callback lock, which its own threads hold while they work through all that
they have received: in a flood, a clear waits five milliseconds. But a thread of libca that is
calling back has the lock. So what is to be cleared is queued, and both work on the queue: the
loop, a few milliseconds at a time, and whichever thread of libca comes by with an update.

What must stay true here:

- Everything is cleared once: whoever has taken it out of the queue does it.
- A channel is cleared after its subscriptions, of which nothing is left with it. What libca's
  thread has taken out is done before the loop gets the lock; what the loop has taken out, and is
  waiting with, libca's thread looks for before it clears a channel.
- Whoever adds to the queue, or puts something back, posts a turn of the loop afterwards.
- libca calls for nothing any more once ``after`` is called, which is on the loop.
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

_HELP = 500  # that libca's thread clears in one callback: a millisecond or two
_HELPING = 0.1  # seconds that the end of a run waits for libca's thread to have done that
_ANY = -1


class _Due(NamedTuple):
    clear: Callable[[], object]
    chid: int  # of the channel that it belongs to
    whole: bool  # it is that channel
    after: Callable[[], object] | None


class ClearQueue:
    """What of one loop is to be cleared."""

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
        self._at: int | None = None  # the chid of what the loop has taken out
        self._helper: int | None = None  # the thread of libca that is helping
        self._posted = False
        pending_updates.clear_some = self._clear_in_callback

    # -- On the loop -------------------------------------------------------------------------------

    def subscription(
        self, evid: int, channel: Channel, after: Callable[[], object] | None = None
    ) -> None:
        """Clear a subscription. The caller sees to it that nothing of it is delivered."""

        def cleared() -> None:
            if after is not None:
                after()
            self._held_updates.note_cancelled(channel)

        clear = partial(libca.clear_subscription, evid)
        self._add(_Due(clear, channel.chid.value, False, cleared))

    def channel(self, chid: libca.Chid, after: Callable[[], object] | None = None) -> None:
        """Clear a channel."""
        self._add(_Due(partial(libca.clear_channel, chid), chid.value, True, after))

    def finish(self) -> None:
        """Clear all that is due, however long it takes; where the run of the loop ends."""
        give_up = time.monotonic() + _HELPING
        while True:
            while self._one():
                pass
            # Twice, as it may begin, or put something back, while it is looked at
            if not (self._is_helped() or self._due or self._is_helped()):
                break
            if time.monotonic() > give_up:
                break
            time.sleep(0.0002)
        self._call_afters()

    def _is_helped(self) -> bool:
        """Whether a thread of libca is at it, and may have taken something out."""
        return self._helper not in (None, threading.get_ident())

    def _add(self, due: _Due) -> None:
        self._due.append(due)
        self._pending_updates.ignored_keys.add(CLEARS_PENDING)
        self._post_turn()

    def _post_turn(self) -> None:
        if not self._posted:
            self._posted = True
            self._post(self._turn)

    def _turn(self) -> None:
        self._posted = False  # first: whoever puts something back from now on posts a turn
        stop = time.monotonic() + TURN
        while self._one():
            if time.monotonic() > stop:
                self._post_turn()
                break
        self._flush()
        self._call_afters()

    def _one(self) -> bool:
        self._at = _ANY
        try:
            due = self._due.popleft()
        except IndexError:
            self._at = None
            self._pending_updates.ignored_keys.discard(CLEARS_PENDING)
            return False
        self._at = due.chid
        due.clear()
        self._at = None
        if due.after is not None:
            self._afters.append(due.after)
        return True

    def _call_afters(self) -> None:
        while self._afters:
            self._afters.popleft()()

    # -- On a thread of libca, in a callback -------------------------------------------------------

    def _clear_in_callback(self) -> None:
        self._helper = threading.get_ident()
        try:
            self._clear_some()
        finally:
            self._helper = None
        if self._afters:  # the loop may have found nothing more to do
            self._post(self._call_afters)

    def _clear_some(self) -> None:
        for _ in range(_HELP):
            try:
                due = self._due.popleft()
            except IndexError:
                break
            if due.whole and self._at in (_ANY, due.chid):
                self._due.appendleft(due)
                # The loop may have found the queue empty meanwhile, and have ended its turn. A turn
                # that is posted and has not begun finds it.
                self._post_turn()
                break
            due.clear()
            if due.after is not None:
                self._afters.append(due.after)
