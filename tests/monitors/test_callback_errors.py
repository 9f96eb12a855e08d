"""Errors in the callbacks of monitors."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from aioca import Subscription, camonitor, caput
from tests.support.monitors import Received

pytestmark = pytest.mark.anyio
WITH_UVLOOP = True


def _failing(when: float, asynchronous: bool) -> Callable[[Any], Any]:
    def callback(value: Any) -> None:
        if value == when:
            raise ValueError(f"at {value}")

    async def async_callback(value: Any) -> None:
        await anyio.lowlevel.checkpoint()
        callback(value)

    return async_callback if asynchronous else callback


async_or_not = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])


@async_or_not
async def test_error_in_a_block(a: str, asynchronous: bool) -> None:
    """The error cancels the body and leaves the block unchanged, not in a group."""
    cancelled = False
    with anyio.fail_after(5), pytest.raises(ValueError, match="at 1") as info:
        async with camonitor(a, _failing(1, asynchronous)) as subscription:
            try:
                await caput(a, 1)  # trio cancels the body here too
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                cancelled = True
                raise
    assert cancelled
    assert type(info.value) is ValueError
    assert subscription.state == Subscription.CLOSED
    assert any(entry.name == "callback" for entry in info.traceback)


@async_or_not
async def test_error_in_a_block_of_many(a: str, b: str, asynchronous: bool) -> None:
    """An error in the callback for one PV closes all monitors of the block."""
    callback = _failing(1, asynchronous)
    with anyio.fail_after(5), pytest.raises(ValueError, match="at 1"):
        async with camonitor([a, b], lambda value, _: callback(value)) as subscriptions:
            await caput(b, 1)
            await anyio.sleep_forever()
    assert [s.state for s in subscriptions] == [Subscription.CLOSED] * 2


@async_or_not
async def test_error_without_an_owner(
    a: str, asynchronous: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged with its traceback, closes the monitor, and affects nothing else."""
    witness = Received()
    subscription = camonitor(a, _failing(1, asynchronous))
    async with camonitor(a, witness):
        await witness.until(lambda values: values == [0])
        with caplog.at_level(logging.ERROR, logger="aioca"):
            await caput(a, 1)
            with anyio.fail_after(5):
                while subscription.state != Subscription.CLOSED:
                    await anyio.lowlevel.checkpoint()
        await caput(a, 2)
        await witness.until(lambda values: values[-1:] == [2])
    (record,) = (r for r in caplog.records if r.levelno >= logging.ERROR)
    assert a in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)
    assert "in callback" in (record.exc_text or caplog.text)
