"""Signals of a terminal, in order: Ctrl-C ends a block, whatever it is in, on both backends."""

from __future__ import annotations

import signal

import anyio

ENDS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Which signal has ended a block.

    Attributes:
        status: the exit status by it, as a shell has it: 130 for Ctrl-C; 0 if there was none.
    """

    def __init__(self) -> None:
        self.status = 0

    async def watch(self, scope: anyio.CancelScope) -> None:
        """Cancel the scope at the first signal.

        A KeyboardInterrupt could come out of any line, and from trio in a group; this cannot.
        """
        with anyio.open_signal_receiver(*ENDS) as signals:
            async for number in signals:
                self.status = 128 + number
                scope.cancel()
                return
