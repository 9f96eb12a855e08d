"""What libca has to say beside its callbacks, as records of the logger ``aioca``.

libca reports failures that no callback hears of (a write without wait that was refused), and
prints: partly through a handler that can be replaced, partly through libCom's error log. All of it
comes here. In a storm, as when a thousand writes are refused at once, the first records of each
second are made, and one that says how many were left out.
"""

from __future__ import annotations

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
logger.addFilter(Escaping())  # names of PVs are in the records of all modules

_MOST = 20  # records in a second
_LOOK_EVERY = 1.0  # seconds between looks at whose replies are dropped
_TOO_LARGE = "> EPICS_CA_MAX_ARRAY_BYTES ignored"  # what libca says to the first of them
_HEARD = 200  # what is said in a second, of all that; the rest does not even reach the loop


class MessageLog:
    """The voice of libca in one event loop."""

    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self._made = 0  # records, in this second
        self._left_out = 0
        self._heard = self._unheard = 0  # on libca's threads, in this second
        self._cancel: Callable[[], None] | None = None
        self._look_due = False  # for the PVs whose replies are dropped
        self._looked = -math.inf  # when that was last (time.monotonic)
        self._cancel_look: Callable[[], None] | None = None
        self._too_large: set[str] = set()  # the PVs that were named then

    # -- On a thread of libca, or of libCom --------------------------------------------------------

    def exception(self, name: str, status: int, op: int, context: str) -> None:
        """A failure that no callback hears of; of no PV that is known if the name is empty."""
        self._hear(lambda: self._exception(name, status, op, context))

    def printed(self, text: str, level: int = logging.INFO) -> None:
        """Text that was meant for the terminal."""
        line = " ".join(text.split())  # libca lays its texts out in several
        if _TOO_LARGE in line:
            level = logging.WARNING
        self._hear(lambda: self.record(level, f"Channel Access: {line}"))

    def reply_dropped(self, too_large: Callable[[], dict[str, str]]) -> None:
        """Libca has dropped a reply or an update, as it was larger than the limit.

        Args:
            too_large: on the loop, gives the PVs that it may have been for, and why for each.
        """
        if not self._look_due:  # there may be many in a second, and many PVs to look at
            self._look_due = True
            self._portal.post(lambda: self._look_soon(too_large))

    def _hear(self, job: Callable[[], None]) -> None:
        self._heard += 1
        if self._heard <= _HEARD:
            self._portal.post(job)
        else:
            self._unheard += 1

    # -- On the loop -------------------------------------------------------------------------------

    def _exception(self, name: str, status: int, op: int, context: str) -> None:
        if not name:
            level = logging.INFO if status == libca.ECA_DISCONN else logging.WARNING
            self.record(level, f"Channel Access: {libca.message(status)} {context}")
        elif op == libca.OP_PUT:
            failure = Failure(name, status, explain.put_without_wait(status))
            self.record(logging.ERROR, str(error_for([failure])))
        else:
            self.record(logging.WARNING, f"{name}: {libca.message(status)} {context}")

    def _look_soon(self, too_large: Callable[[], dict[str, str]]) -> None:
        left = self._looked + _LOOK_EVERY - time.monotonic()
        if left > 0:
            self._cancel_look = self._portal.after(left, lambda: self._look(too_large))
        else:
            self._look(too_large)

    def _look(self, too_large: Callable[[], dict[str, str]]) -> None:
        self._cancel_look = None
        self._look_due = False  # first: what is dropped meanwhile may be of another PV
        self._looked = time.monotonic()
        for name, why in too_large().items():
            if name not in self._too_large:
                self._too_large.add(name)
                text = f"{name}: libca has dropped a reply or an update, perhaps of this PV: {why}"
                self.record(logging.WARNING, text)

    def record(self, level: int, text: str) -> None:
        """Log a text, unless this second has had its records."""
        if self._cancel is None:
            self._cancel = self._portal.after(1.0, self._second_is_over)
        self._made += 1
        if self._made <= _MOST:
            logger.log(level, "%s", text)
        else:
            self._left_out += 1

    def _second_is_over(self) -> None:
        self._cancel = None
        left_out = self._left_out + self._unheard
        self._made = self._left_out = self._heard = self._unheard = 0
        if left_out:
            logger.warning("%d more records of Channel Access were left out", left_out)

    def end(self) -> None:
        """The run of the loop is over."""
        if self._cancel_look is not None:
            self._cancel_look()
        if self._cancel is not None:
            self._cancel()
            self._second_is_over()
