"""Start the monitors of one call, in turns between which the event loop runs."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from .._channels.context import LoopContext
from .._errors import CAError
from .._portal.interface import TURN_SECONDS
from .monitor import Monitor

logger = logging.getLogger("aioca")

# Monitors that are started between two checks of the clock
_MONITORS_PER_CLOCK_CHECK = 50


def start_all(context: LoopContext, monitors: Sequence[Monitor]) -> None:
    """Start monitors: many of them in turns, between which other tasks run."""
    _Start(context, monitors).turn()


class _Start:
    """A list of monitors that are being started, in turns.

    If the context closes before all are started, it calls `context_closed`, because the rest
    belong to no channel.
    """

    def __init__(self, context: LoopContext, monitors: Sequence[Monitor]) -> None:
        self._context = context
        self._monitors = monitors
        self._next = 0
        self._is_first_turn = True

    def __repr__(self) -> str:
        return f"<_Start {self._next} of {len(self._monitors)} monitors>"

    def turn(self) -> None:
        context, monitors = self._context, self._monitors
        context.starts.pop(self, None)
        stop = context.portal.now() + TURN_SECONDS
        with context.ca_context.attached():
            for index in range(self._next, len(monitors)):
                try:
                    monitors[index].start()
                except (RuntimeError, CAError) as error:
                    self._close_refused(monitors[index], error)
                if index % _MONITORS_PER_CLOCK_CHECK == 0 and context.portal.now() > stop:
                    self._next = index + 1
                    self._is_first_turn = False
                    context.starts[self] = None
                    context.post(self.turn)
                    return

    def _close_refused(self, monitor: Monitor, error: Exception) -> None:
        """Close a monitor for which libca makes no channel.

        In the first turn `camonitor` raises the error, so all of its monitors are closed. In later
        turns no caller can get the error: it is logged, and the others are started.
        """
        if self._is_first_turn:
            for each in self._monitors:
                each.close()
            raise error
        logger.error("%s: the monitor cannot be started, and is closed: %s", monitor.name, error)
        monitor.close()

    def context_closed(self) -> None:
        for monitor in self._monitors[self._next :]:
            monitor.close()
