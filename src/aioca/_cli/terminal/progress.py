"""A progress bar on stderr while PVs connect: on a terminal only, and after a second."""

from __future__ import annotations

import sys

import anyio

from ... import CANothing, connect, get_channel_infos

_DELAY_SECONDS = 1.0  # before the bar is shown: most commands have ended by then
_REFRESH_SECONDS = 0.1


async def connect_all(pvs: list[str], timeout: float | None) -> list[CANothing]:
    """Connect to all PVs, with a progress bar; returns a falsy CANothing for each not found."""
    if not sys.stderr.isatty():
        return await connect(pvs, timeout=timeout, throw=False)
    results: list[CANothing] = []
    async with anyio.create_task_group() as group:
        group.start_soon(_show, len(set(pvs)))
        results = await connect(pvs, timeout=timeout, throw=False)
        group.cancel_scope.cancel()
    return results


async def _show(total: int) -> None:
    await anyio.sleep(_DELAY_SECONDS)
    # Not at the top: importing rich takes longer than most commands.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = TextColumn("connecting"), BarColumn(), MofNCompleteColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task("", total=total)
        while True:
            connected = sum(channel.connected for channel in get_channel_infos())
            bar.update(task, completed=connected, refresh=True)
            await anyio.sleep(_REFRESH_SECONDS)
