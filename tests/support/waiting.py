"""Waiting for what there is no event for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import anyio


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Poll a condition that another client, a server or the network makes true."""
    with anyio.fail_after(seconds):
        while not condition():
            await anyio.sleep(0.005)


def wait_until(condition: Callable[[], Any], seconds: float = 10.0) -> bool:
    """Block until a condition is true; return whether it was in time."""
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.002)
    return True
