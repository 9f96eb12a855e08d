"""What type checkers make of aioca.notebook; checked by mypy and pyright, never run."""

from __future__ import annotations

from typing_extensions import assert_type

from aioca import FORMAT_CTRL, blocking, caget, camonitor
from aioca.notebook import BlockingLive, Live, Table, live, table
from aioca.types import AugmentedValue, ca_float

NAMES = ["A", "B"]


async def with_await() -> None:
    assert_type(table(await caget(NAMES, format=FORMAT_CTRL)), Table)
    assert_type(table([await caget("A", throw=False)], max_rows=5), Table)
    async with live(camonitor("A", datatype=float), seconds=3) as one:
        assert_type(one, Live[ca_float])
        async for number in one:
            assert_type(number, ca_float)
    async with live(camonitor(NAMES)) as many:
        async for value in many:
            assert_type(value, AugmentedValue)


def with_blocking_calls() -> None:
    assert_type(table(blocking.caget(NAMES)), Table)
    with live(blocking.camonitor(NAMES, datatype=float), seconds=3) as many:
        assert_type(many, BlockingLive[ca_float])
        for number in many:
            assert_type(number, ca_float)
    with live(blocking.camonitor("A")) as one:
        for value in one:
            assert_type(value, AugmentedValue)
    live("A")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
