"""Exceptions that end the program, raised by callbacks."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup
from aioca import Subscription, camonitor, caput
from tests.support.lifetime import leaves

pytestmark = pytest.mark.anyio
WITH_UVLOOP = True


class Ending(BaseException):
    """A BaseException that is not an Exception, and that Python does not know."""


ENDINGS: dict[str, Callable[[], BaseException]] = {
    "SystemExit": lambda: SystemExit(3),
    "in a group": lambda: BaseExceptionGroup("of a callback", [KeyboardInterrupt()]),
    "deep in a group": lambda: BaseExceptionGroup(
        "of a callback", [ValueError("mine"), BaseExceptionGroup("inner", [SystemExit(3)])]
    ),
    "of its own kind": Ending,
    "cancelled beside": lambda: BaseExceptionGroup(
        "of a callback", [KeyboardInterrupt(), asyncio.CancelledError()]
    ),
}


def raising(error: BaseException, asynchronous: bool) -> Callable[[Any], Any]:
    def callback(value: Any) -> None:
        raise error

    async def async_callback(value: Any) -> None:
        await anyio.lowlevel.checkpoint()
        raise error

    return async_callback if asynchronous else callback


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def asynchronous(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("form", ["block", "task_group"])
def test_endings_reach_the_owner(
    p: str, backend: str, form: str, ending: str, asynchronous: bool
) -> None:
    """Only the backend's own cancellation exception is a cancellation."""
    error = ENDINGS[ending]()
    callback = raising(error, asynchronous)

    async def main() -> None:
        with anyio.fail_after(10):
            if form == "block":
                async with camonitor(p + "m:a", callback):
                    await anyio.sleep_forever()
            else:
                async with anyio.create_task_group() as group:
                    camonitor(p + "m:a", callback, task_group=group)

    with pytest.raises(BaseException) as info:
        anyio.run(main, backend=backend)
    came = leaves(info.value)
    if ending == "cancelled beside" and backend == "asyncio" and asynchronous:
        assert [type(leaf) for leaf in came] == [KeyboardInterrupt]
    else:
        assert came == leaves(error)
    if form == "block" and ending != "cancelled beside":
        assert info.value is error


@pytest.mark.parametrize("ending", ENDINGS)
def test_endings_without_an_owner(
    p: str, backend: str, ending: str, asynchronous: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio lets exceptions that end the program leave the loop, as from any callback.

    In trio that would be an internal error, so they are logged like all others.
    """
    error = ENDINGS[ending]()
    out = backend == "asyncio" and ending != "of its own kind"

    async def main() -> None:
        subscription = camonitor(p + "m:a", raising(error, asynchronous))
        with anyio.fail_after(10):
            while subscription.state != Subscription.CLOSED:
                await anyio.sleep(0.001)  # poll
            if out:
                await anyio.sleep_forever()

    with caplog.at_level(logging.INFO):
        if out:
            with pytest.raises((KeyboardInterrupt, SystemExit)) as info:
                anyio.run(main, backend=backend)
            assert info.value in leaves(error)
        else:
            anyio.run(main, backend=backend)
    logged = [
        leaf
        for record in caplog.records
        if record.exc_info is not None and record.exc_info[1] is not None
        for leaf in leaves(record.exc_info[1])
    ]
    if not out:
        assert logged == leaves(error)
    elif ending == "deep in a group":
        assert [repr(leaf) for leaf in logged] == ["ValueError('mine')"]
    assert "was cancelled" not in caplog.text
    error = info = None  # type: ignore[assignment]  # which have the task, with their tracebacks
    gc.collect()
    assert "never retrieved" not in caplog.text


def test_an_ending_is_not_replaced_by_an_error_of_a_callback(
    p: str, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither an error of the body nor of another callback of the owner replaces it."""
    ending = BaseExceptionGroup("of the body", [KeyboardInterrupt()])
    mine = ValueError("of the callback")

    async def body() -> None:
        async with camonitor(p + "m:a", raising(mine, False)):
            try:
                await anyio.sleep_forever()
            finally:
                raise ending

    async def until_cancelled(value: Any) -> None:
        entered.append(value)
        try:
            await anyio.sleep_forever()
        finally:
            raise ending

    def after_the_other(value: Any) -> None:
        if value == 1:
            raise mine

    async def callbacks() -> None:
        pvs = [p + "m:b", p + "m:a"]
        await caput(pvs, 0, wait=True)
        both = until_cancelled, after_the_other
        async with camonitor(pvs, lambda value, index: both[index](value)):
            while not entered:
                await anyio.lowlevel.checkpoint()
            await caput(pvs[1], 1)
            await anyio.sleep_forever()

    entered: list[Any] = []
    for main in (body, callbacks):
        caplog.clear()
        with caplog.at_level(logging.ERROR), pytest.raises(BaseExceptionGroup) as info:
            anyio.run(main, backend=backend)
        assert leaves(info.value) == leaves(ending)
        (record,) = caplog.records
        assert record.exc_info is not None
        assert record.exc_info[1] is mine


async def test_a_group_of_cancellations_is_a_cancellation(
    pv: str, anyio_backend: tuple[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A nursery in a callback raises such a group if both of its tasks were cancelled."""

    async def callback(value: Any) -> None:
        entered.set()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class() as error:
            raise BaseExceptionGroup("of a nursery", [error]) from None

    entered = anyio.Event()
    with anyio.fail_after(5), caplog.at_level(logging.INFO):
        async with camonitor(pv, callback):
            await entered.wait()
    assert [r.getMessage() for r in caplog.records if r.levelno > logging.INFO] == []
