"""The event loop behind the blocking calls: it runs in a thread of its own.

Invariants:

- A calling thread waits for a lock, so Ctrl-C interrupts the call at once. The call is then
  cancelled on the loop.
- Every call ends: with its outcome, with the error of a callback (see `_blocks`), or with
  RuntimeError when the loop ends.
- No call is made on the loop's own thread: the loop would wait for itself.
- The loop is started by the first call, and ends at interpreter exit. A forked child has no such
  thread: its first call starts another loop.

A call is a job of aioca's own portal (`_portal`). anyio's BlockingPortal would start a task for
each call and wait for the loop twice: see the decision record on the blocking calls.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from threading import get_ident
from typing import Any

import anyio

from .._api.run import run
from .._channels.context import LoopContext
from .._channels.registry import current
from .._monitors.monitor import Monitor
from ._blocks import here
from ._call import ENDED, Call, Server

# Interpreter exit waits this long at most for the loop, which first confirms writes for up to 1 s.
_MAX_CLOSE_SECONDS = 3.0

_FORKED = (
    "this monitor was made before the process was forked, and belongs to the parent process: make"
    " another one here"
)


class LoopThread:
    """A thread that runs an event loop for the blocking calls.

    Attributes:
        context: the loop context of this loop.
        mutex: held while a callback begins, or a subscription is closed.
        callbacks: the thread that calls the callbacks of the monitors, see `_delivery`; or None.
        idle: the tasks that wait for a call. On the loop.
        forked: whether this process is a forked child, which does not have the thread.
    """

    context: LoopContext
    _ident = 0

    def __init__(self) -> None:
        self.forked: bool = False
        self.mutex: threading.RLock = (
            threading.RLock()
        )  # a signal handler may close a subscription, too
        self.callbacks: Any = None
        self.idle: list[Server] = []
        self._pending: dict[Call, None] = {}
        self._over = False
        self._error: BaseException | None = None
        self._end: anyio.Event
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="aioca.blocking", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        state = "ended" if self._over else "running" if self._ident else "starting"
        return f"<LoopThread {state}, {len(self._pending)} calls pending>"

    def started(self) -> LoopThread:
        """Wait until the loop runs; return this object.

        Raises:
            RuntimeError: the loop cannot start, for example in a subinterpreter.
        """
        self._started.wait()
        if self._error is not None:
            forget(self)
            raise self._error
        return self

    def _run(self) -> None:
        try:
            run(self._main())
        except BaseException as error:  # it is raised in the threads that call
            self._error = error
        finally:
            self._over = True
            forget(self)
            self._started.set()
            for call in tuple(self._pending):
                call.fail(RuntimeError(ENDED))

    async def _main(self) -> None:
        self._end = anyio.Event()
        self.context = current()
        self._ident = get_ident()  # last: from now on calls are accepted
        self._started.set()
        await self._end.wait()

    def close(self, *, exiting: bool) -> None:
        """End the loop, and wait for a limited time until everything of it is closed.

        Calls that are waiting raise RuntimeError. At interpreter exit only daemon threads are left:
        they go on waiting, as they would in any other function.
        """
        self._started.wait()
        if exiting:
            for call in tuple(self._pending):
                call.abandoned = True
        if not self._over:
            self.context.post(self._end.set)
            self._thread.join(_MAX_CLOSE_SECONDS)

    # -- On the threads that call ------------------------------------------------------------------

    def call(self, function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Run an async function on the loop; return its result, or raise its error."""
        call = Call()
        self.wait(call, partial(self._begin, call, function))
        return call.result

    def call_sync(self, function: Callable[[], object]) -> Any:
        """Call a function on the loop; return its result, or raise its error."""
        call = Call()
        self.wait(call, partial(_do, call, function))
        return call.result

    def wait(self, call: Call, job: Callable[[], object], timeout: float = -1) -> bool:
        """Post a job to the loop and wait until the call is finished; raise its error.

        Returns:
            Whether it was finished within ``timeout`` seconds; -1 is without limit.
        """
        if self._ident == get_ident():
            raise RuntimeError(
                "a function of aioca.blocking was called on the thread of its own event loop, as by"
                " a function `match` or a logging handler: the call would wait for itself"
            )
        if self.forked:
            raise RuntimeError(_FORKED)
        blocks = here.blocks
        for block in blocks:
            block.guard(call)
        self._pending[call] = None
        try:
            if self._over:
                raise RuntimeError(ENDED)
            self.context.post(job)
            in_time = call.wait(timeout)
        except BaseException:  # Ctrl-C
            self._abandon(call)
            raise
        finally:
            self._pending.pop(call, None)
            for block in blocks:
                block.unguard(call)
        if not in_time or call.abandoned:
            self._abandon(call)
        if call.error is None:
            return in_time
        try:
            raise call.error
        finally:
            call.error = None  # else its traceback would keep this frame, and this frame the error

    def post_close(self, monitor: Monitor) -> None:
        """Close a monitor, without waiting for it. On any thread."""
        if not (self.forked or self._over):
            self.context.post(monitor.close)

    def _abandon(self, call: Call) -> None:
        call.abandoned = True
        if not self.forked:
            self.context.post(call.cancel)

    # -- On the loop -------------------------------------------------------------------------------

    def _begin(self, call: Call, function: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Have an idle task serve a call; portal job."""
        if not call.abandoned:
            server = self.idle.pop() if self.idle else Server(self.context.portal, self.idle)
            server.begin(call, function)


def _do(call: Call, function: Callable[[], object]) -> None:
    """Call a function for a call; portal job."""
    if call.abandoned:
        return
    try:
        call.result = function()
    except BaseException as error:
        call.fail(error)
    call.finish()


# -- The process -----------------------------------------------------------------------------------

_current: LoopThread | None = None
_starting = threading.Lock()


def loop_thread() -> LoopThread:
    """Return the loop of this process; start it if it does not run.

    Raises:
        RuntimeError: it cannot start.
    """
    global _current
    thread = _current
    if thread is None:
        with _starting:
            thread = _current
            if thread is None:
                thread = _current = LoopThread()
    return thread if thread._ident else thread.started()


def forget(thread: LoopThread) -> None:
    """Have the next call start another loop, if this is the present one."""
    global _current
    if _current is thread:
        _current = None


def close_loop_thread(*, exiting: bool = False) -> None:
    """End the loop, if it runs. Everything that uses it is closed; writes are confirmed first."""
    thread = _current
    if thread is not None:
        forget(thread)
        thread.close(exiting=exiting)


def _after_fork() -> None:
    global _current, _starting
    thread, _current = _current, None
    _starting = threading.Lock()
    if thread is not None:
        thread.forked = True
        thread.mutex = threading.RLock()  # another thread of the parent may have held it


# Registered after the function of `_channels.registry`, so called before it
atexit.register(close_loop_thread, exiting=True)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
