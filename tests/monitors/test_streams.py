"""``async for`` over many PVs: the work for one PV does not grow with the queues of the others.

The work is the number of lines of this package that Python executes on the loop's thread, less
those of the soft IOC.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import aioca.testing
from aioca import FORMAT_TIME, caget, camonitor, caput
from aioca._channels.registry import current
from aioca.testing import SoftIoc

pytestmark = pytest.mark.anyio

HERE = str(Path(aioca.__file__).parent)
SOFT_IOC = str(Path(aioca.testing.__file__).parent)
QUEUED = 3_000
BATCH = 50


class Lines:
    """Counts the lines of the package that are executed in this thread."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        file = frame.f_code.co_filename
        if not file.startswith(HERE) or file.startswith(SOFT_IOC):
            return None
        self.count += event == "line"
        return self


@contextmanager
def counted() -> Iterator[Lines]:
    lines = Lines()
    before = sys.gettrace()
    sys.settrace(lines)
    try:
        yield lines
    finally:
        sys.settrace(before)


async def fill(pv: str) -> None:
    """Queue `QUEUED` updates of a PV, which nothing takes.

    A server drops updates when about 140 wait to be sent. A thread of the server sends these, and
    the replies to puts with ``wait``. So there are never more here than those of two batches.
    """
    for first in range(0, QUEUED, BATCH):
        *most, last = (float(number) for number in range(first, first + BATCH))
        await caput([pv] * len(most), most, timeout=30)
        await caput(pv, last, wait=True, timeout=30)
    assert await caget(pv, timeout=30) == QUEUED - 1
    # The reply arrives after the updates, and this job runs after the job of the reply.
    reached = anyio.Event()
    current().post(reached.set)
    await reached.wait()


async def test_starting_reconnecting_retyping_and_closing_one(
    own_ioc: Callable[..., SoftIoc], unique: str
) -> None:
    flood, other = unique + "FLOOD", unique + "OTHER"
    with own_ioc(f'record(ao, "{flood}") {{}}'):
        second = own_ioc(f'record(ao, "{other}") {{ field(VAL, "1") field(PINI, "YES") }}')
        try:
            async with camonitor([flood, other], format=FORMAT_TIME, all_updates=True) as updates:
                assert (await anext(updates)).name == flood
                await fill(flood)
                subscription = updates.subscriptions[1]
                # The PV connects, loses its server, and reconnects with another type.
                with counted() as lines:
                    second.start()
                    with anyio.fail_after(30):
                        while subscription.state != subscription.OPEN:
                            await anyio.sleep(0.1)  # seldom: each look counts as work
                    assert await caget(other) == 1
                assert 0 < lines.count < QUEUED
                second.kill()
                with counted() as lines:
                    second.start(f'record(stringout, "{other}") {{ field(VAL, "text") }}')
                    with anyio.fail_after(30):
                        while await caget(other, throw=False) != "text":
                            await anyio.sleep(0.1)
                assert 0 < lines.count < QUEUED
                with counted() as lines:
                    subscription.close()
                assert 0 < lines.count < QUEUED / 10
                # No update was lost, and a closed monitor delivers no more.
                values = []
                with anyio.fail_after(30):
                    while len(values) < QUEUED:
                        values.append(await anext(updates))
                assert values == [float(number) for number in range(QUEUED)]
                assert {value.name for value in values} == {flood}
        finally:
            second.kill()


async def test_queued_values_of_a_pv_that_changes_its_type(
    own_ioc: Callable[..., SoftIoc], unique: str
) -> None:
    """Each value is decoded as the type with which it was sent, though it is taken later."""
    pv = unique + "X"
    ioc = own_ioc(f'record(ao, "{pv}") {{ field(VAL, "1") field(PINI, "YES") }}')
    with ioc:
        async with camonitor(pv, all_updates=True) as updates:
            assert await anext(updates) == 1
            for number in (2, 3):
                await caput(pv, number, wait=True)
            await caget(pv)
            ioc.kill()
            ioc.start(f'record(stringout, "{pv}") {{ field(VAL, "text") }}')
            with anyio.fail_after(30):
                while await caget(pv, throw=False) != "text":
                    await anyio.sleep(0.1)
                values = [await anext(updates) for _ in range(3)]
            assert values == [2.0, 3.0, "text"]
            assert [type(value).__name__ for value in values] == ["ca_float"] * 2 + ["ca_str"]


async def test_updates_of_a_block_are_iterated_over_once(p: str) -> None:
    subscription = camonitor(p + "ao:free")
    async with subscription:
        with pytest.raises(RuntimeError, match="has been entered before"):
            async with subscription:
                pass
