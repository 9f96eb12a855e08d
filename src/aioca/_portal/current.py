"""Finds the event loop that runs in this thread, and makes a portal into it.

Invariant: neither asyncio nor trio is imported here. A library that runs a loop in this thread has
been imported by the program.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from ._asyncio import AsyncioPortal
from ._trio import TrioPortal
from .interface import Portal


def running_loop() -> object:
    """Return the object that identifies the run of this thread's loop: a loop or a trio token.

    Raises:
        RuntimeError: if no event loop runs in this thread.
    """
    # Another thread may be importing asyncio or trio, so attributes may be missing. A module that
    # is not fully imported runs no loop in this thread.
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
    """Whether trio, not asyncio, has called this code. For threads in which both are running."""
    # trio sets this name, in guest mode for each of its turns. trio-asyncio sets "asyncio" for the
    # turns of its loop.
    noted = getattr(getattr(sys.modules.get("sniffio"), "thread_local", None), "name", None)
    if noted == "asyncio":
        return False
    if not lowlevel.in_trio_task():
        return bool(noted == "trio")
    # A task of one library may have started a run of the other library and wait for its end. Then
    # both have a task on this stack. Walk the stack outwards: the task that is found first is the
    # inner one.
    asyncio = sys.modules["asyncio"]
    trio_task = _frame_of(lowlevel.current_task().coro)
    task = asyncio.current_task(loop)
    asyncio_task = None if task is None else _frame_of(task.get_coro())
    callback = asyncio.Handle._run.__code__  # calls the callbacks of loops written in Python
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame is not trio_task:
        if frame is asyncio_task or frame.f_code is callback:
            return False
        frame = frame.f_back
    return True


def _frame_of(coroutine: object) -> FrameType | None:
    return getattr(coroutine, "cr_frame", None)


def portal_for(loop: object) -> Portal:
    """Return a new portal into the loop that `running_loop` has returned. On the loop's thread."""
    if hasattr(loop, "run_sync_soon"):
        return TrioPortal(loop)  # type: ignore[arg-type]
    return AsyncioPortal(loop)  # type: ignore[arg-type]
