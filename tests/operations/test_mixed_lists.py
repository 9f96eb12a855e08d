"""Lists whose PVs differ are read and decoded together where they are alike: see `Get`."""

from __future__ import annotations

import gc
from collections.abc import Callable

import anyio
import anyio.to_thread
import numpy as np
import pytest

from aioca import FORMAT_CTRL, FORMAT_RAW, FORMAT_TIME, CANothing, caget, caput, connect
from aioca._requests import replies
from aioca._requests.replies import Replies
from aioca.testing import SoftIoc

pytestmark = pytest.mark.anyio

EACH = 20
RECORDS = "".join(
    f"""
    record(ao, "$(P)ao{i}") {{ field(VAL, "{i}.5") field(PINI, "YES") }}
    record(longout, "$(P)lo{i}") {{ field(VAL, "{-i}") field(PINI, "YES") }}
    record(mbbo, "$(P)mb{i}") {{ field(VAL, "{i % 3}") field(ZRST, "a") field(ONST, "b") }}
    record(stringout, "$(P)so{i}") {{ field(VAL, "text {i}") field(PINI, "YES") }}
    record(waveform, "$(P)wf{i}") {{ field(NELM, "5") field(FTVL, "DOUBLE") }}
    """
    for i in range(EACH)
)
KINDS = ("ao", "lo", "mb", "so", "wf")


@pytest.fixture
async def mixed(own_ioc: Callable[..., SoftIoc], unique: str) -> SoftIoc:
    ioc = own_ioc(RECORDS, {"P": unique})
    await anyio.to_thread.run_sync(ioc.start)
    return ioc


@pytest.mark.parametrize("kinds", [KINDS, KINDS[:1], KINDS[:3], KINDS[2:], KINDS[4:]])
async def test_as_one_by_one(mixed: SoftIoc, kinds: tuple[str, ...]) -> None:
    """For each format: at the first read, and at the next ones, which are sent together."""
    p = mixed.prefix
    pvs = [f"{p}{kind}{i}" for i in range(EACH) for kind in kinds]
    arrays = [pv for pv in pvs if "wf" in pv]
    await caput(arrays, [np.arange(i % 6.0) for i in range(len(arrays))], wait=True)
    for format in (FORMAT_RAW, FORMAT_TIME, FORMAT_CTRL):
        single = [await caget(pv, format=format) for pv in pvs]
        for _ in range(3):
            together = await caget(pvs, format=format)
            assert all(map(_same, together, single)), format


ATTRIBUTES = (
    "name", "ok", "datatype", "element_count", "timestamp_ns", "severity", "status",
    "units", "precision", "enums", "upper_disp_limit",
)  # fmt: skip


def _same(one: object, other: object) -> bool:
    """Whether two values have the same type, value and attributes."""
    return (
        type(one) is type(other)
        and np.array_equal(one, other)  # type: ignore[arg-type]
        and all(getattr(one, name, None) == getattr(other, name, None) for name in ATTRIBUTES)
    )


async def test_some_do_not_connect(mixed: SoftIoc) -> None:
    p = mixed.prefix
    pvs = [f"{p}{name}" for i in range(EACH) for name in (f"ao{i}", f"none{i}")]
    for _ in range(2):
        values = await caget(pvs, timeout=1, throw=False)
        assert values[::2] == [i + 0.5 for i in range(EACH)]
        assert all(isinstance(value, CANothing) for value in values[1::2])


async def test_late_replies_are_for_nobody(mixed: SoftIoc) -> None:
    """The replies to a list come after its deadline, while the next list waits for its own.

    Both lists have the same C callback, one after the other.
    """
    p = mixed.prefix
    first, second = ([f"{p}{kind}{i}" for i in range(EACH)] for kind in ("ao", "lo"))
    await connect([*first, *second])
    for pvs in (first, second):
        await caget(pvs)  # so that the next read is sent together
    made = _made()
    mixed.pause()
    values = await caget(first, timeout=0.2, throw=False)
    assert all(isinstance(value, CANothing) for value in values)
    async with anyio.create_task_group() as group:

        async def read() -> None:
            assert await caget(second, timeout=20) == [-i for i in range(EACH)]

        group.start_soon(read)
        await anyio.lowlevel.checkpoint()
        mixed.resume()
    assert await caget(first) == [i + 0.5 for i in range(EACH)]
    assert _made() == made


async def test_more_lists_at_once_than_callbacks(
    mixed: SoftIoc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "MAX_REPLIES", 0)  # no more than those that there are
    p = mixed.prefix
    pvs = [f"{p}ao{i}" for i in range(EACH)]
    await caget(pvs)
    made = _made()
    async with anyio.create_task_group() as group:
        for _ in range(made + 3):

            async def read() -> None:
                assert await caget(pvs) == [i + 0.5 for i in range(EACH)]

            group.start_soon(read)
    assert _made() == made


def _made() -> int:
    return sum(type(each) is Replies for each in gc.get_objects())
