"""Logs libca's messages to the logger ``aioca``, except those that belong to a callback.

libca reports failures of requests that have no callback (a write without wait that was refused).
It also prints texts: some through a handler that can be replaced, others through libCom's error
log. This module logs all of them. When there are very many, as when a thousand writes are refused
at once, the first of each second are logged, and one record gives the number of the others.

Invariant: records are made on the loop's thread. Other threads only count and post.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .._ca import libca
from .._errors import Failure, error_for
from .._printable import Escaping
from . import explain

if TYPE_CHECKING:
    from .._portal.interface import Portal

logger = logging.getLogger("aioca")
logger.addFilter(Escaping())  # here, as the records of all modules contain the names of PVs

# At most this many records are logged in a second, so that a storm does not fill the log.
_MAX_RECORDS_PER_SECOND = 20
# The interval of searches for the PVs whose replies libca may drop. Each checks all channels.
_SECONDS_BETWEEN_CHECKS = 1.0
# libca prints this with the first message that it drops because of the limit.
_TOO_LARGE_TEXT = "> EPICS_CA_MAX_ARRAY_BYTES ignored"
# At most this many messages per second are passed to the loop, to keep it free. Others are counted.
_MAX_JOBS_PER_SECOND = 200


class MessageLog:
    """Logs the messages of libca for one event loop."""

    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self._made = 0  # records that were logged or left out on the loop, in this second
        self._left_out = 0  # records that were left out on the loop, in this second
        self._count_message = itertools.count(1).__next__  # of this second; on libca's threads
        self._cancel_second: Callable[[], None] | None = None  # cancels the timer of this second
        self._look_due = False  # whether a search for the PVs with dropped replies is to come
        self._looked = -math.inf  # the time of the last such search (time.monotonic)
        self._cancel_look: Callable[[], None] | None = None
        self._too_large: set[str] = set()  # the PVs that such a search has named

    def __repr__(self) -> str:
        return f"<MessageLog {self._made} records, {self._left_out} left out>"

    # -- On a thread of libca, or of libCom --------------------------------------------------------

    def exception(self, name: str, status: int, op: int, context: str) -> None:
        """Log a failure that no callback reports. The name is empty if the PV is unknown."""
        self._hear(lambda: self._exception(name, status, op, context))

    def printed(self, text: str, level: int = logging.INFO) -> None:
        """Log a text that libca or libCom would have printed on the terminal."""
        line = " ".join(text.split())  # libca breaks its texts into lines
        if _TOO_LARGE_TEXT in line:
            level = logging.WARNING
        self._hear(lambda: self.record(level, f"Channel Access: {line}"))

    def reply_dropped(self, too_large: Callable[[], dict[str, str]]) -> None:
        """Log that libca has dropped a reply or an update that was larger than the limit.

        Args:
            too_large: called on the loop. Returns the PVs whose reply or update it may have been,
                each with the reason.
        """
        if not self._look_due:  # one search is enough: many replies may be dropped in a second
            self._look_due = True
            self._portal.post(lambda: self._look_soon(too_large))

    def _hear(self, job: Callable[[], None]) -> None:
        """Post a job that logs, unless this second has had its maximum of jobs."""
        if self._count_message() <= _MAX_JOBS_PER_SECOND:
            self._portal.post(job)

    # -- On the loop -------------------------------------------------------------------------------

    def _exception(self, name: str, status: int, op: int, context: str) -> None:
        """Log a failure, at a level and in words that depend on the request."""
        if not name:
            level = logging.INFO if status == libca.ECA_DISCONN else logging.WARNING
            self.record(level, f"Channel Access: {libca.message(status)} {context}")
        elif op == libca.OP_PUT:
            failure = Failure(name, status, explain.put_without_wait(status))
            self.record(logging.ERROR, str(error_for([failure])))
        else:
            self.record(logging.WARNING, f"{name}: {libca.message(status)} {context}")

    def _look_soon(self, too_large: Callable[[], dict[str, str]]) -> None:
        """Search for the PVs with dropped replies, now or when the last search is old enough."""
        left = self._looked + _SECONDS_BETWEEN_CHECKS - time.monotonic()
        if left > 0:
            self._cancel_look = self._portal.after(left, lambda: self._look(too_large))
        else:
            self._look(too_large)

    def _look(self, too_large: Callable[[], dict[str, str]]) -> None:
        """Log a warning for each PV whose replies libca may drop, once for each PV."""
        self._cancel_look = None
        self._look_due = False  # first: a reply that is dropped from now on needs another search
        self._looked = time.monotonic()
        for name, why in too_large().items():
            if name not in self._too_large:
                self._too_large.add(name)
                text = f"{name}: libca dropped a reply or an update, perhaps of this PV: {why}"
                self.record(logging.WARNING, text)

    def record(self, level: int, text: str) -> None:
        """Log a text, or count it if this second has had its maximum of records. On the loop."""
        if self._cancel_second is None:
            self._cancel_second = self._portal.after(1.0, self._second_is_over)
        self._made += 1
        if self._made <= _MAX_RECORDS_PER_SECOND:
            logger.log(level, "%s", text)
        else:
            self._left_out += 1

    def _second_is_over(self) -> None:
        """Log the number of records that were left out in this second, and reset the counts."""
        self._cancel_second = None
        unheard = max(0, self._count_message() - 1 - _MAX_JOBS_PER_SECOND)
        left_out = self._left_out + unheard
        self._made = self._left_out = 0
        self._count_message = itertools.count(1).__next__
        if left_out:
            logger.warning("%d more log records about Channel Access were left out", left_out)

    def close(self) -> None:
        """Cancel the timers and log the number of records left out, at the end of the run."""
        if self._cancel_look is not None:
            self._cancel_look()
        if self._cancel_second is not None:
            self._cancel_second()
            self._second_is_over()
