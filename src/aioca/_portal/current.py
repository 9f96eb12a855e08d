"""Which event loop runs here, and the portal into it."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from ._asyncio import AsyncioPortal
from ._trio import TrioPortal
from .interface import Portal


def running_loop() -> object:
    """What identifies the run of the event loop of this thread: a loop, or a trio token.

    Raises:
        RuntimeError: if no event loop runs in this thread.
    """
    # Either may be half imported, by another thread; then it runs nothing in this one.
    get_running_loop = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    loop: object = None if get_running_loop is None else get_running_loop()
    lowlevel: Any = getattr(sys.modules.get("trio"), "lowlevel", None)
    in_trio_run = getattr(lowlevel, "in_trio_run", None)
    if in_trio_run is not None and in_trio_run():
        if loop is None or _is_called_by_trio(lowlevel, loop):
            return lowlevel.current_trio_token()
        return loop
    if loop is not None:
        return loop
    raise RuntimeError(
        "no event loop is running in this thread: call this from a coroutine, or from a callback"
        " of the loop, of asyncio or trio (aioca.run() starts one)"
    )


def _is_called_by_trio(lowlevel: Any, loop: object) -> bool:
    """Where asyncio and trio both run in this thread: whether trio has called us, not asyncio."""
    # trio notes its name here, in guest mode for each of its turns; trio-asyncio notes "asyncio"
    # for the turns of its loop.
    noted = getattr(getattr(sys.modules.get("sniffio"), "thread_local", None), "name", None)
    if noted == "asyncio":
        return False
    if not lowlevel.in_trio_task():
        return bool(noted == "trio")
    # A function of one of the two may have started the other and be waiting for the end of that,
    # so that both have a task here. The inner one is the first that we meet on our way out.
    asyncio = sys.modules["asyncio"]
    trio_task = _frame_of(lowlevel.current_task().coro)
    task = asyncio.current_task(loop)
    asyncio_task = None if task is None else _frame_of(task.get_coro())
    callback = asyncio.Handle._run.__code__  # of a loop that is written in Python
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame is not trio_task:
        if frame is asyncio_task or frame.f_code is callback:
            return False
        frame = frame.f_back
    return True


def _frame_of(coroutine: object) -> FrameType | None:
    return getattr(coroutine, "cr_frame", None)


def portal_for(loop: object) -> Portal:
    """A new portal into the loop that `running_loop` has returned."""
    if hasattr(loop, "run_sync_soon"):
        return TrioPortal(loop)  # type: ignore[arg-type]
    return AsyncioPortal(loop)  # type: ignore[arg-type]
