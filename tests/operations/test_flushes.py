"""Calls that are made in one pass of the loop are sent with one flush, others at once."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from aioca import caget, caput, connect
from aioca._ca import libca
from aioca._channels import flushes as flushes_module
from aioca._channels.registry import current

pytestmark = pytest.mark.anyio


@pytest.fixture
def flushes(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Gets an entry for each flush."""
    seen: list[None] = []
    flush_io = libca.flush_io

    def flush() -> int:
        seen.append(None)
        return flush_io()  # type: ignore[no-any-return]

    monkeypatch.setattr(libca, "flush_io", flush)
    # All calls of a test are in one pass, however slow the machine is
    monkeypatch.setattr(flushes_module, "_SAME_PASS_SECONDS", 5.0)
    return seen


async def test_many_tasks(p: str, flushes: list[None]) -> None:
    pvs = [p + "ao", p + "longout", p + "mbbo"]
    await connect(pvs)
    await anyio.lowlevel.checkpoint()
    current().flushes._flushed_at = 0.0
    flushes.clear()
    async with anyio.create_task_group() as group:
        for pv in pvs * 30:
            group.start_soon(caget, pv)
    assert len(flushes) <= 3  # of the first task, and of the others


async def test_one_after_the_other(
    p: str, flushes: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is sent before its task waits, not in another pass of the loop."""
    monkeypatch.setattr(flushes_module, "_SAME_PASS_SECONDS", 0.0)
    await connect(p + "ao")
    await anyio.lowlevel.checkpoint()
    later: list[None] = []
    monkeypatch.setattr(current().flushes, "soon", lambda: later.append(None))
    for _ in range(5):
        before = len(flushes)
        await caget(p + "ao")
        assert len(flushes) > before
    assert later == []


async def test_write_without_wait(p: str, flushes: list[None]) -> None:
    """It returns when the value was sent, also right behind another call."""
    await caget(p + "ao:free")
    flushes.clear()
    await caput(p + "ao:free", 1.5)
    assert len(flushes) >= 1
