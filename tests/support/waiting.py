"""Waiting for what there is no event for."""

from __future__ import annotations

from collections.abc import Callable

import anyio


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Poll a condition that another client, a server or the network makes true."""
    with anyio.fail_after(seconds):
        while not condition():
            await anyio.sleep(0.005)
