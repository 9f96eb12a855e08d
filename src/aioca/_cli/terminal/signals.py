"""Ctrl-C and SIGTERM end a block by cancelling it, on both backends."""

from __future__ import annotations

import signal

import anyio

END_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Cancels a block at a signal.

    Attributes:
        status: the exit status for the signal, as in a shell: 130 for Ctrl-C; 0 without a signal.
    """

    def __init__(self) -> None:
        self.status = 0

    async def watch(self, scope: anyio.CancelScope) -> None:
        """Wait for the first signal, and cancel the scope.

        This avoids KeyboardInterrupt, which can be raised in any line, and by trio in a group. An
        event loop of asyncio on Windows cannot wait for signals: there, Ctrl-C raises it.
        """
        try:
            with anyio.open_signal_receiver(*END_SIGNALS) as signals:
                async for number in signals:
                    self.status = 128 + number
                    scope.cancel()
                    return
        except NotImplementedError:
            pass
