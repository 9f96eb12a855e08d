"""The options of camonitor."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import pytest

from aioca import (
    DBE_ALARM,
    DBE_LOG,
    DBE_PROPERTY,
    DBE_VALUE,
    DBR_ENUM_STR,
    FORMAT_CTRL,
    FORMAT_RAW,
    FORMAT_TIME,
    camonitor,
    caput,
)
from tests.support.ids import shown
from tests.support.monitors import Received, everything_arrived, next_update, reset

pytestmark = pytest.mark.anyio
WITH_UVLOOP = True


@pytest.mark.parametrize(
    ("format", "has", "has_not"),
    [
        (FORMAT_RAW, ["name", "ok", "datatype"], ["severity", "timestamp", "units"]),
        (FORMAT_TIME, ["severity", "status", "timestamp"], ["units", "upper_disp_limit"]),
        (FORMAT_CTRL, ["severity", "units", "precision", "upper_disp_limit"], ["timestamp"]),
    ],
    ids=["RAW", "TIME", "CTRL"],
)
async def test_format(a: str, format: Any, has: list[str], has_not: list[str]) -> None:
    async with camonitor(a, format=format) as updates:
        value = await next_update(updates)
    assert value == 0
    assert [name for name in has if not hasattr(value, name)] == []
    assert [name for name in has_not if hasattr(value, name)] == []


@pytest.mark.parametrize(
    ("record", "datatype", "kind", "expected"),
    [
        ("m:a", None, float, 0.0),
        ("m:a", int, int, 0),
        ("m:a", str, str, "0.000"),
        ("m:enum", None, int, 0),
        ("m:enum", DBR_ENUM_STR, str, "Off"),
        ("m:enum", str, str, "Off"),
    ],
)
async def test_datatype(p: str, record: str, datatype: Any, kind: type, expected: object) -> None:
    await reset(p + record)
    async with camonitor(p + record, datatype=datatype) as updates:
        value = await next_update(updates)
    assert isinstance(value, kind)
    assert value == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, [1, 2, 3]), (2, [1, 2]), (4, [1, 2, 3, 0]), (-1, [1, 2, 3, 0, 0])],
)
async def test_count(p: str, count: int, expected: list[float]) -> None:
    pv = p + "m:array"
    await caput(pv, [1, 2, 3, 0, 0][:3], wait=True)
    async with camonitor(pv, count=count) as updates:
        value = await next_update(updates)
        assert isinstance(value, np.ndarray)
        assert value.tolist() == expected
        assert value.element_count == 5


async def test_count_0_follows_the_length(p: str) -> None:
    pv = p + "m:array"
    await caput(pv, [1.0], wait=True)
    async with camonitor(pv) as updates:
        assert (await next_update(updates)).tolist() == [1]
        await caput(pv, [4.0, 5, 6, 7, 8])
        assert (await next_update(updates)).tolist() == [4, 5, 6, 7, 8]


@pytest.mark.parametrize("format", [FORMAT_RAW, FORMAT_TIME, FORMAT_CTRL])
@pytest.mark.parametrize("present", [True, False], ids=["there already", "comes later"])
async def test_empty_array(p: str, format: Any, present: bool) -> None:
    """An empty array is delivered like any update, as the first one and as the last one."""
    pv = p + "m:array"
    await caput(pv, [1.0], wait=True)
    if present:
        await caput(pv, np.array([], dtype=float), wait=True)
    with anyio.move_on_after(1):
        async with camonitor(pv, format=format) as updates:
            if not present:
                assert (await next_update(updates)).tolist() == [1]
                await caput(pv, np.array([], dtype=float))
            value = await anext(updates)
            assert value.tolist() == []
            assert value.element_count == 5
            return
    raise AssertionError("it has not come")


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (None, [0, 20, 150, 20]),
        (DBE_VALUE, [0, 20, 150, 20]),  # beyond MDEL
        (DBE_LOG, [0, 5, 20, 150, 20]),  # beyond ADEL
        (DBE_ALARM, [0, 150, 20]),  # into the alarm and out of it
        (DBE_VALUE | DBE_LOG, [0, 5, 20, 150, 20]),
        (DBE_LOG | DBE_ALARM | DBE_VALUE, [0, 5, 20, 150, 20]),
    ],
)
async def test_events(p: str, events: int | None, expected: list[float]) -> None:
    pv = p + "m:masks"
    received = Received()
    await reset(pv)
    async with camonitor(pv, received, events, all_updates=True):
        await received.until(lambda values: values == [0])
        for value in (5, 20, 150, 151, 20):
            await caput(pv, value, wait=True)
        await everything_arrived(pv)
        await received.until(lambda values: len(values) >= len(expected))
    assert received.values == expected
    await reset(pv)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"events": DBE_PROPERTY, "format": FORMAT_CTRL}, True),
        ({"events": DBE_PROPERTY}, True),
        ({"format": FORMAT_CTRL}, True),
        ({"events": DBE_VALUE, "format": FORMAT_CTRL}, False),
        ({"format": FORMAT_TIME}, False),
    ],
    ids=shown,
)
async def test_changed_limit(p: str, options: dict[str, Any], told: bool) -> None:
    """With DBE_PROPERTY (the default for FORMAT_CTRL), a changed limit sends an update."""
    pv = p + "m:masks"
    received = Received()
    await reset(pv)
    await caput(pv + ".HIGH", 200, wait=True)
    async with camonitor(pv, received, all_updates=True, **options):
        await received.until(lambda values: len(values) == 1)
        await caput(pv + ".HIGH", 300, wait=True)
        await everything_arrived(pv)
        await received.until(lambda values: len(values) == 1 + told)
        if told and options.get("format") == FORMAT_CTRL:
            assert [v.upper_warning_limit for v in received.values] == [200, 300]
    assert len(received.values) == 1 + told
    await caput(pv + ".HIGH", 100, wait=True)


async def test_alarm_is_told_by_default_where_the_format_shows_it(p: str) -> None:
    pv = p + "m:masks"
    received = Received()
    await reset(pv)
    async with camonitor(pv, received, format=FORMAT_TIME, all_updates=True):
        await caput(pv, 9, wait=True)  # within MDEL: no value event
        await caput(pv + ".HIGH", 8, wait=True)
        await caput(pv + ".PROC", 1, wait=True)
        await received.until(lambda values: len(values) >= 2)
    assert [(value, value.severity) for value in received.values] == [(0, 0), (9, 1)]
    await caput(pv + ".HIGH", 100, wait=True)
    await reset(pv)
