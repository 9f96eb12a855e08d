"""One call of a thread into the loop, and the tasks of the loop that serve calls."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import anyio

from .._portal.interface import Portal

# A signal that arrives just before Python begins to wait does not end the wait. So a wait is
# interrupted this often, and Ctrl-C is late by this time at most.
_SIGNAL_SECONDS = 0.2

ENDED = "the event loop of aioca.blocking has ended"


class Call:
    """One call into the loop, and the thread that waits for its outcome.

    Attributes:
        result: what the call returns.
        error: what the call raises, or None.
        abandoned: whether nobody waits for the outcome any more.
        server: the task that serves the call, or None. On the loop.
    """

    __slots__ = ("_lock", "abandoned", "error", "result", "server")

    def __init__(self) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self.abandoned: bool = False
        self.server: Server | None = None
        self._lock = threading.Lock()
        self._lock.acquire()

    def __repr__(self) -> str:
        state = "waiting" if self._lock.locked() else "finished"
        if self.abandoned:
            state = "abandoned"
        return f"<Call {state}>"

    def finish(self) -> None:
        """Wake the calling thread, unless the call was abandoned. On any thread; idempotent."""
        if not self.abandoned:
            self._wake()

    def fail(self, error: BaseException) -> None:
        """End the call with an error, unless it was abandoned. On any thread."""
        if not self.abandoned:
            self.error = error
            self._wake()

    def interrupt(self, error: BaseException) -> None:
        """Raise an error in the calling thread, whatever becomes of the call. On any thread."""
        self.error = error
        self.abandoned = True
        self._wake()

    def _wake(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:  # it is released already
            pass

    def wait(self, timeout: float) -> bool:
        """Wait for the outcome, -1 seconds without limit; return whether it came."""
        give_up = math.inf if timeout < 0 else time.monotonic() + timeout
        wait = _SIGNAL_SECONDS if timeout < 0 else min(timeout, _SIGNAL_SECONDS)
        while not self._lock.acquire(timeout=wait):
            wait = min(give_up - time.monotonic(), _SIGNAL_SECONDS)
            if wait <= 0:
                return False
        return True

    def cancel(self) -> None:
        """Cancel the task that serves the call. On the loop."""
        server = self.server
        if server is not None and server.call is self and server.scope is not None:
            server.scope.cancel()


class Server:
    """A task of the loop that runs the async functions of one call after the other.

    Waking an idle task takes less time than starting one for each call.
    """

    def __init__(self, portal: Portal, idle: list[Server]) -> None:
        self.call: Call | None = None
        self.function: Callable[[], Coroutine[Any, Any, Any]] | None = None
        self.scope: anyio.CancelScope | None = None  # anyio makes one in a task only
        self._portal = portal
        self._idle = idle
        self._waiter = portal.waiter()
        self._started = False

    def __repr__(self) -> str:
        return f"<Server {self.call!r}>"

    def begin(self, call: Call, function: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Serve a call. On the loop."""
        self.call, self.function, call.server = call, function, self
        if self._started:
            self._waiter.wake_now()
            return
        self._started = True
        if not self._portal.spawn(self._serve):
            call.fail(RuntimeError(ENDED))

    async def _serve(self) -> None:
        with anyio.CancelScope() as self.scope:
            while True:
                call, function = self.call, self.function
                assert call is not None and function is not None
                if not call.abandoned:
                    await self._run(call, function)
                self.call = self.function = None
                if self.scope.cancel_called:  # just as the call ended: this task will be cancelled
                    call.finish()
                    return
                self._waiter = self._portal.waiter()
                self._idle.append(self)
                call.finish()
                del call, function
                await self._waiter.wait()

    async def _run(self, call: Call, function: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        try:
            call.result = await function()
        except (self._portal.cancelled, GeneratorExit):
            call.fail(RuntimeError(ENDED))
            raise
        except BaseException as error:  # a function `match` of wait_for_value may raise SystemExit
            call.fail(error)
