"""With pytest-asyncio, in its strict mode. One IOC is shared by all tests of the module."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from oven import Oven, TooHotError

from aioca import caget
from aioca.testing import SoftIoc
from aioca.testing.pytest_plugin import SoftIocFactory

pytestmark = pytest.mark.asyncio


@pytest.fixture(scope="module")
def ioc(soft_ioc_factory: SoftIocFactory) -> Iterator[SoftIoc]:
    with soft_ioc_factory(Path(__file__).with_name("oven.db")) as ioc:
        yield ioc


@pytest_asyncio.fixture
async def oven(ioc: SoftIoc) -> Oven:
    oven = Oven(ioc.prefix)
    await oven.heat_to(20.0)
    return oven


async def test_it_heats(oven: Oven) -> None:
    assert 99 < await oven.heat_to(100.0) < 101


async def test_it_begins_at_room_temperature(oven: Oven) -> None:
    assert 19 < float(+await caget(oven.temperature)) < 21


async def test_an_alarm_ends_the_guard(oven: Oven) -> None:
    guard = asyncio.create_task(oven.guard())
    await oven.heat_to(300.0)
    with pytest.raises(TooHotError, match="HIGH"):
        await guard
