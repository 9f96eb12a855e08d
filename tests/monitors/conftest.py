"""Fixtures that several files of this folder use."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

from aioca import caput
from tests.support.lifetime import OpenGroup
from tests.support.monitors import reset


@pytest.fixture(params=["anyio", "native"])
def open_group(request: pytest.FixtureRequest, anyio_backend: tuple[str, Any]) -> OpenGroup:
    """anyio's task group, and the one of the backend."""
    if request.param == "anyio":
        return anyio.create_task_group
    if anyio_backend[0] == "trio":
        return trio.open_nursery
    if sys.version_info < (3, 11):
        pytest.skip("asyncio.TaskGroup came with Python 3.11")
    return asyncio.TaskGroup


@pytest.fixture
async def pv(p: str) -> str:
    """An ao record for these tests, with the value 0."""
    await caput(p + "m:a", 0, wait=True)
    return p + "m:a"


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def failing(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """A callback that raises an error for the value 1."""

    def callback(value: Any) -> None:
        if value == 1:
            raise ValueError("of the callback")

    async def async_callback(value: Any) -> None:
        await anyio.lowlevel.checkpoint()
        callback(value)

    return async_callback if request.param else callback


@pytest.fixture
async def a(p: str) -> str:
    """An ao record for these tests, with the value 0."""
    await reset(p + "m:a")
    return p + "m:a"


@pytest.fixture
async def b(p: str) -> str:
    """Another ao record, with the value 0."""
    await reset(p + "m:b")
    return p + "m:b"
