"""The thread that calls the callbacks.

- It calls all callbacks of the program, one after the other.
- A callback begins only while its monitor is open: `LoopThread.mutex` is held for the decision.
- The error of a callback goes to the block that owns it, or else to the log.
"""

from __future__ import annotations

import inspect
import logging
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .._portal.interface import close_unstarted
from ._blocks import Block
from ._delivery import Group, HandedMonitor, Handover
from ._loop_thread import LoopThread

if TYPE_CHECKING:
    from ._handles import Subscription

logger = logging.getLogger("aioca")

# The thread that has called camonitor enters the block of the subscription within this time, unless
# it never does. An error of a callback that comes earlier waits for the block, its owner.
_MAX_ENTRY_SECONDS = 0.2


class CallbackThread:
    """The thread that calls the callbacks of one loop's monitors."""

    def __init__(self, home: LoopThread) -> None:
        self.handover: Handover = Handover(home)
        self._home = home
        self._group: Group | None = None  # whose callback runs
        self._ended = threading.Condition(home.mutex)
        self._thread = threading.Thread(
            target=self._run, name="aioca.blocking callbacks", daemon=True
        )
        self._thread.start()

    def __repr__(self) -> str:
        return f"<CallbackThread {self.handover!r}>"

    def _run(self) -> None:
        while True:
            try:
                monitor, value = self.handover.next()
            except RuntimeError:  # the loop has ended, or this is a forked child
                return
            with self._home.mutex:
                if monitor.shut or monitor.closed:
                    continue
                self._group = monitor.group
            try:
                _call(monitor, value)
            except BaseException as error:
                self._fail(monitor, error)
                del error
            finally:
                with self._ended:
                    self._group = None
                    self._ended.notify_all()
            del monitor, value

    def _fail(self, monitor: HandedMonitor, error: BaseException) -> None:
        """Pass the error of a callback to its owner, and close the monitor."""
        group = monitor.group
        with self._ended:
            if time.monotonic() < group.made_at + _MAX_ENTRY_SECONDS:
                self._ended.wait_for(lambda: group.block is not None, _MAX_ENTRY_SECONDS)
            block = group.block
            monitor.shut, monitor.error = True, error
        if block is not None:
            block.fail(monitor.name, error)
        else:
            logger.error(
                "%s: the monitor's callback raised %r; the monitor is closed",
                monitor.name, error, exc_info=error,
            )  # fmt: skip
        self._home.post_close(monitor)

    def own(self, subscriptions: Sequence[Subscription[Any]]) -> None:
        """Have a block that this thread enters own the callback of these monitors.

        Raises:
            BaseException: the error of the callback, if it has closed one of them already.
        """
        monitors = [subscription._monitor for subscription in subscriptions]
        with self._ended:
            for monitor in monitors:
                if monitor.error is not None:
                    raise monitor.error
            monitors[0].group.block = Block(subscriptions)
            self._ended.notify_all()

    def wait_for(self, group: Group) -> None:
        """Wait until no callback of these monitors runs."""
        if threading.current_thread() is not self._thread and not self._home.forked:
            with self._ended:
                self._ended.wait_for(lambda: self._group is not group)


def callbacks_of(home: LoopThread) -> CallbackThread:
    """Return the callback thread of a loop; start it if there is none. On any thread."""
    with home.mutex:
        if home.callbacks is None:
            home.callbacks = CallbackThread(home)
        return home.callbacks  # type: ignore[no-any-return]


def _call(monitor: HandedMonitor, value: Any) -> None:
    """Call the callback of a monitor."""
    (callback, index), variables = monitor.target, monitor.group.variables
    assert callback is not None and variables is not None
    if index is None:
        result = variables.run(callback, value)
    else:
        result = variables.run(callback, value, index)
    if result is not None and inspect.isawaitable(result):
        close_unstarted(result)
        raise TypeError(
            f"{monitor.name}: the callback {callback!r} returned an awaitable, which"
            " aioca.blocking cannot await: use aioca.camonitor in an async program"
        )
