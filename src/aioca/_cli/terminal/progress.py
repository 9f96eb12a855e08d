"""A progress bar on stderr while PVs connect or are written: on a terminal, and after a second."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import anyio

from ... import CANothing, connect, get_channel_infos

_DELAY_SECONDS = 1.0  # before the bar is shown: most commands have ended by then
_REFRESH_SECONDS = 0.1

Progress = Callable[[], tuple[str, int]]  # what is being done, and to how many PVs it has been done


async def connect_all(pvs: list[str], timeout: float | None) -> list[CANothing]:
    """Connect to all PVs, with a progress bar; returns a falsy CANothing for each not found."""
    async with progress_bar(connecting, len(set(pvs))):
        return await connect(pvs, timeout=timeout, throw=False)


def connecting() -> tuple[str, int]:
    """Return how many channels are connected, for a progress bar."""
    return "connecting", sum(channel.connected for channel in get_channel_infos())


@asynccontextmanager
async def progress_bar(progress: Progress, total: int) -> AsyncGenerator[None, None]:
    """Show how many of ``total`` PVs are done, while the block runs."""
    if not sys.stderr.isatty():
        yield
        return
    async with anyio.create_task_group() as group:
        group.start_soon(_show, progress, total)
        yield
        group.cancel_scope.cancel()


async def _show(progress: Progress, total: int) -> None:
    await anyio.sleep(_DELAY_SECONDS)
    # Not at the top: importing rich takes longer than most commands.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    console = Console(stderr=True)
    with Bar(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task(progress()[0], total=total)
        while True:
            doing, done = progress()
            bar.update(task, description=doing, completed=done, refresh=True)
            await anyio.sleep(_REFRESH_SECONDS)
