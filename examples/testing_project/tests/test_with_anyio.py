"""With the plugin that comes with anyio: every test runs on asyncio and on trio."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from oven import Oven, OvenLostError, TooHotError

from aioca import CATimeout
from aioca.testing import SoftIoc

# An IOC for each test, with the records of a file that lies beside this one
pytestmark = [pytest.mark.anyio, pytest.mark.soft_ioc(Path("oven.db"))]


@pytest.fixture
def oven(soft_ioc: SoftIoc) -> Oven:
    return Oven(soft_ioc.prefix)


async def test_it_heats(oven: Oven) -> None:
    assert 99 < await oven.heat_to(100.0) < 101


async def test_it_does_not_answer(oven: Oven, soft_ioc: SoftIoc) -> None:
    await oven.heat_to(21.0)
    soft_ioc.pause()
    with pytest.raises(CATimeout):
        await oven.heat_to(100.0, timeout=0.5)


async def test_an_alarm_ends_the_guard(oven: Oven) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(TooHotError, match="HIGH")):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(oven.guard)
            await oven.heat_to(300.0)
            await anyio.sleep_forever()


async def test_the_loss_of_the_oven_ends_the_guard(oven: Oven, soft_ioc: SoftIoc) -> None:
    with pytest.RaisesGroup(OvenLostError):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(oven.guard)
            await oven.heat_to(21.0)
            soft_ioc.kill()
