"""Which event loop runs here, and the portal into it."""

from __future__ import annotations

import sys

from ._asyncio_portal import AsyncioPortal
from ._portal import Portal
from ._trio_portal import TrioPortal


def running_loop() -> object:
    """What identifies the run of the event loop of this thread: a loop, or a trio token.

    Raises:
        RuntimeError: if no event loop runs in this thread.
    """
    # trio first: in guest mode, asyncio says that it runs as well. Either may be half imported, by
    # another thread; then it runs nothing in this one.
    lowlevel = getattr(sys.modules.get("trio"), "lowlevel", None)
    in_trio_run = getattr(lowlevel, "in_trio_run", None)
    if in_trio_run is not None and in_trio_run():
        return lowlevel.current_trio_token()  # type: ignore[union-attr]
    get_running_loop = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    if get_running_loop is not None:
        loop: object = get_running_loop()
        if loop is not None:
            return loop
    raise RuntimeError(
        "no event loop is running in this thread: call this from a coroutine, or from a callback"
        " of the loop, of asyncio or trio (aioca.run() starts one)"
    )


def portal_for(loop: object) -> Portal:
    """A new portal into the loop that `running_loop` has returned."""
    if hasattr(loop, "run_sync_soon"):
        return TrioPortal(loop)  # type: ignore[arg-type]
    return AsyncioPortal(loop)  # type: ignore[arg-type]
