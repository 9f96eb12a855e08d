"""Lists of thousands of PVs are sent in parts: other tasks run, and no server is overloaded."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import anyio.lowlevel
import pytest

from aioca import FORMAT_TIME, CATimeout, caget, camonitor, caput, connect
from aioca._ca import libca
from aioca._channels import put_limit
from aioca._channels.registry import current
from aioca._requests import request
from aioca.testing import SoftIoc

pytestmark = pytest.mark.anyio

MANY = 4500
RECORDS = "".join(f'record(ao, "$(P){i}") {{}}\n' for i in range(MANY))


@pytest.fixture
async def pvs(own_ioc: Callable[..., SoftIoc], unique: str) -> list[str]:
    await anyio.to_thread.run_sync(own_ioc(RECORDS, {"P": unique}).start)
    names = [f"{unique}{i}" for i in range(MANY)]
    await connect(names, timeout=30)
    return names


async def test_the_loop_goes_on_and_all_is_right(
    pvs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request, "TURN_SECONDS", 0.0005)  # much shorter than the time for the list
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        await anyio.lowlevel.checkpoint()
        for number, wait in ((1000, True), (2000, False)):
            before = turns
            values = [float(number + i) for i in range(MANY)]
            assert all(await caput(pvs, values, wait=wait, timeout=30))
            assert turns - before >= 2
        before = turns
        # The puts without wait were sent before it, on the same circuit
        assert await caget(pvs, format=FORMAT_TIME, timeout=30) == values
        assert turns - before >= 2
        group.cancel_scope.cancel()


async def test_no_more_put_callbacks_at_once_than_a_server_can_end(
    pvs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The IOC would sometimes lose one of these puts if all were sent at once: see `put_limit`.

    Simultaneous calls share the limit.
    """
    most = 0
    send = libca.put_notify

    def counted(*args: object) -> int:
        nonlocal most
        most = max(most, current().put_limit.under_way())
        return send(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(libca, "put_notify", counted)
    third = MANY // 3
    async with anyio.create_task_group() as group:
        for start in range(3):
            some = pvs[start * third : (start + 1) * third]
            group.start_soon(lambda some=some: caput(some, 1.5, wait=True, timeout=30))
    assert 100 < most <= put_limit.MAX_PUT_CALLBACKS
    assert current().put_limit.under_way() == 0
    assert await caget(pvs[: 3 * third], timeout=30) == [1.5] * (3 * third)


async def test_long_processing_does_not_hold_up_the_others(
    pvs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If no put completes for a while, the records are slow: the next part is sent anyway."""
    monkeypatch.setattr(put_limit, "MAX_PUT_CALLBACKS", 300)
    completions = current().put_limit
    completions.begun += 290  # as if 290 motors were moving
    try:
        assert all(await caput(pvs, 1.5, wait=True, timeout=30))
    finally:
        completions.begun -= 290


async def test_what_was_not_begun_by_the_deadline(
    pvs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not sent, and the error says so."""
    monkeypatch.setattr(put_limit, "_STANDSTILL_SECONDS", 60.0)
    current().put_limit.begun += 10_000
    try:
        with pytest.raises(CATimeout, match="not sent") as caught:
            await caput(pvs, 7.0, wait=True, timeout=0.5)
    finally:
        current().put_limit.begun -= 10_000
    failed = {failure.name for failure in caught.value.failures}
    values = await caget(pvs, timeout=30)
    assert {pv for pv, value in zip(pvs, values, strict=True) if value == 7.0} == {*pvs} - failed


async def test_cancelled_in_between(pvs: list[str]) -> None:
    """Values that were sent are written; the PVs can be used at once."""
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: caput(pvs, 9.0, wait=True, timeout=30))
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    assert await caget(pvs[-1]) == 0.0
    assert all(await caput(pvs, 3.0, wait=True, timeout=30))


async def test_as_many_monitors(pvs: list[str]) -> None:
    seen: dict[int, float] = {}

    def received(value: float, index: int) -> None:
        seen[index] = value

    async with camonitor(pvs, received):
        await caput(pvs, [float(i) for i in range(MANY)], wait=True, timeout=30)
        with anyio.fail_after(30):
            while seen != {i: float(i) for i in range(MANY)}:
                await anyio.sleep(0.01)  # poll
