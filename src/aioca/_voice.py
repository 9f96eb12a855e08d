"""What libca has to say beside its callbacks, as records of the logger ``aioca``.

libca reports failures that no callback hears of (a write without wait that was refused), and
prints: partly through a handler that can be replaced, partly through libCom's error log. All of it
comes here. In a storm, as when a thousand writes are refused at once, the first records of each
second are made, and one that says how many were left out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from . import _libca
from ._errors import Failure, error_for
from ._printable import Escaping

logger = logging.getLogger("aioca")
logger.addFilter(Escaping())  # names of PVs are in the records of all modules

_MOST = 20  # records in a second
_HEARD = 200  # what is said in a second, of all that; the rest does not even reach the loop


class Loop(Protocol):
    """The way into the loop: see `Portal`."""

    def post(self, job: Callable[[], object]) -> None: ...
    def after(self, seconds: float, job: Callable[[], object]) -> Callable[[], None]: ...


class Voice:
    """The voice of libca in one event loop."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._made = 0  # records, in this second
        self._left_out = 0
        self._heard = self._unheard = 0  # on libca's threads, in this second
        self._cancel: Callable[[], None] | None = None

    # -- On a thread of libca, or of libCom --------------------------------------------------------

    def exception(self, name: str, status: int, op: int, context: str) -> None:
        """A failure that no callback hears of; of no PV that is known if the name is empty."""
        self._hear(lambda: self._exception(name, status, op, context))

    def printed(self, text: str) -> None:
        """Text that was meant for the terminal."""
        line = " ".join(text.split())  # libca lays its texts out in several
        self._hear(lambda: self.record(logging.INFO, f"Channel Access: {line}"))

    def _hear(self, job: Callable[[], None]) -> None:
        self._heard += 1
        if self._heard <= _HEARD:
            self._loop.post(job)
        else:
            self._unheard += 1

    # -- On the loop -------------------------------------------------------------------------------

    def _exception(self, name: str, status: int, op: int, context: str) -> None:
        if not name:
            level = logging.INFO if status == _libca.ECA_DISCONN else logging.WARNING
            self.record(level, f"Channel Access: {_libca.message(status)} {context}")
        elif op == _libca.OP_PUT:
            failure = Failure(name, status, "writing without wait; the value was not accepted")
            self.record(logging.ERROR, str(error_for([failure])))
        else:
            self.record(logging.WARNING, f"{name}: {_libca.message(status)} {context}")

    def record(self, level: int, text: str) -> None:
        """Log a text, unless this second has had its records."""
        if self._cancel is None:
            self._cancel = self._loop.after(1.0, self._second_is_over)
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
        if self._cancel is not None:
            self._cancel()
            self._second_is_over()
