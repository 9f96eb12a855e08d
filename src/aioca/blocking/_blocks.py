"""The ``with`` blocks of monitors with a callback: they raise its error.

The error of a callback is raised in the thread that entered the block: by the call of
aioca.blocking in which this thread waits, or by the next such call in the block, and at the latest
at the end of the block.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ._call import Call
    from ._handles import Subscription

logger = logging.getLogger("aioca")


class _Here(threading.local):
    """The data of one thread."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []  # that the thread has entered, in this order


here = _Here()


class Block:
    """A block whose monitors have a callback.

    Attributes:
        error: the first error of its callback, or None.
    """

    def __init__(self, subscriptions: Sequence[Subscription[Any]]) -> None:
        self.error: BaseException | None = None
        self._subscriptions = subscriptions
        self._call: Call | None = None  # in which the thread of the block waits
        self._blocks = here.blocks
        self._blocks.append(self)

    def __repr__(self) -> str:
        return f"<Block {len(self._subscriptions)} subscriptions>"

    def guard(self, call: Call) -> None:
        """Have the error of the callback end a call; raise it if there is one already."""
        # `fail` does these two steps in the opposite order: one of the two threads sees the other
        self._call = call
        if self.error is not None:
            raise self.error

    def unguard(self, call: Call) -> None:
        """Forget a call that has ended."""
        if self._call is call:
            self._call = None

    def fail(self, name: str, error: BaseException) -> None:
        """Receive an error of the callback. On the callback thread."""
        if self.error is not None:  # only one can be raised
            log_second(name, error)
            return
        self.error = error
        call = self._call
        if call is not None:
            call.interrupt(error)
        for subscription in self._subscriptions:
            subscription.close()

    def exit(self, name: str, error: BaseException | None) -> None:
        """Leave the block; raise the error of the callback if ``error`` is another one."""
        if self in self._blocks:
            self._blocks.remove(self)
        if self.error is None or self.error is error:
            return
        if error is None or not isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise self.error
        log_second(name, self.error)  # the program is to end


def log_second(name: str, error: BaseException) -> None:
    """Log the error of a callback that cannot be raised."""
    logger.error("%s: the monitor's callback also raised an error", name, exc_info=error)
