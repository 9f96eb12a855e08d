"""When libca sends what calls and monitors have requested: one flush for each pass of the loop.

All of this runs on the loop's thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from .._portal.interface import Portal

# A call that begins so soon after the flush of another call runs in the same pass of the loop
_SAME_PASS_SECONDS = 0.0002


class Flushes:
    """The flushes of one event loop, as far as requests can share them."""

    def __init__(self, portal: Portal, flush: Callable[[], None]) -> None:
        self._portal = portal
        self._flush = flush
        self._due = False  # a flush comes at the end of this pass
        self._flushed_at = -math.inf  # by `for_call`

    def __repr__(self) -> str:
        return f"<Flushes {'due' if self._due else 'not due'}>"

    def soon(self) -> None:
        """Flush once for all requests of this pass of the loop. Does not wait."""
        if not self._due:
            self._portal.post(self._flush_due)  # first: Ctrl-C may prevent it
            self._due = True

    def for_call(self, begun_at: float) -> None:
        """Flush for a call that now waits for replies, and that began at this time of the loop.

        If the call began right after the flush of another call, both are likely to be in one pass
        of the loop, with more calls to follow. Then there is one flush for all of these, at the end
        of the pass. Otherwise the replies to one call would arrive while the next call still sends,
        and the two threads would contend for the GIL at each call of libca. Trick ``one_flush`` of
        the benchmark: row small_lists.
        """
        if self._due or begun_at < self._flushed_at + _SAME_PASS_SECONDS:
            self.soon()
        else:
            self._flush()
            self._flushed_at = self._portal.now()

    def _flush_due(self) -> None:
        """Flush, for `soon`; portal job."""
        self._due = False
        self._flush()
