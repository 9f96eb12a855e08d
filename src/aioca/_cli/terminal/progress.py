"""What takes long, shown on stderr while it does: on a terminal, and after a second."""

from __future__ import annotations

import sys

import anyio

from ... import CANothing, connect, get_channel_infos

_PATIENCE = 1.0  # seconds before anything is shown
_EVERY = 0.1


async def connect_all(pvs: list[str], timeout: float | None) -> list[CANothing]:
    """Connect to all PVs, with a progress bar; a falsy CANothing for each that was not found."""
    if not sys.stderr.isatty():
        return await connect(pvs, timeout=timeout, throw=False)
    results: list[CANothing] = []
    async with anyio.create_task_group() as group:
        group.start_soon(_show, len(set(pvs)))
        results = await connect(pvs, timeout=timeout, throw=False)
        group.cancel_scope.cancel()
    return results


async def _show(total: int) -> None:
    await anyio.sleep(_PATIENCE)
    # Not at the top: it takes longer to import than most commands take to run.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = TextColumn("connecting"), BarColumn(), MofNCompleteColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task("", total=total)
        while True:
            connected = sum(channel.connected for channel in get_channel_infos())
            bar.update(task, completed=connected, refresh=True)
            await anyio.sleep(_EVERY)
