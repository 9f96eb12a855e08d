"""With pytest-trio. Records can also be written into the test that needs them."""

from __future__ import annotations

import pytest
import trio
from oven import Oven

from aioca import CATimeout
from aioca.testing import SoftIoc

pytestmark = pytest.mark.trio

STUCK = """
record(ao, "$(P)SETPOINT") {}
record(ai, "$(P)TEMPERATURE") { field(VAL, "20") }
"""


@pytest.mark.soft_ioc(STUCK)
async def test_an_oven_that_stays_cold(soft_ioc: SoftIoc) -> None:
    with pytest.raises(CATimeout, match="the last value was 20"):
        await Oven(soft_ioc.prefix).heat_to(100.0, timeout=0.5)


async def test_an_oven_that_is_switched_on_late(soft_ioc: SoftIoc) -> None:
    """Without a marker the IOC does not run yet."""
    reached: list[float] = []

    async def heat() -> None:
        reached.append(await Oven(soft_ioc.prefix).heat_to(20.0))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(heat)
        await trio.to_thread.run_sync(soft_ioc.start, STUCK)
    assert reached == [20.0]
