"""Idioms of programs for aioca 2.x."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import Any

import anyio
import numpy as np
import pytest

from aioca import (
    FORMAT_CTRL,
    FORMAT_RAW,
    FORMAT_TIME,
    Subscription,
    ca_extra_fields,
    caget,
    camonitor,
    caput,
    connect,
    get_channel_infos,
    purge_channel_caches,
    run,
)
from tests.support.contract import run_python

UNIT = True


@pytest.mark.anyio
async def test_the_return_value_of_camonitor_may_be_dropped(p: str) -> None:
    """The monitor keeps its callback and the order of its updates."""
    send, receive = anyio.create_memory_object_stream[Any](10)
    pv = p + "ao:a"
    await caput(pv, 0, wait=True)
    with send, receive, anyio.fail_after(10):
        camonitor(pv, send.send_nowait, all_updates=True)
        gc.collect()
        assert await receive.receive() == 0
        for value in (1, 2, 3):
            gc.collect()
            await caput(pv, value, wait=True)
        assert [await receive.receive() for _ in range(3)] == [1, 2, 3]
        purge_channel_caches()


@pytest.mark.anyio
async def test_a_coroutine_function_as_callback(p: str) -> None:
    """Such as the ``put`` of a queue; here the send of a memory stream, for both backends."""
    send, receive = anyio.create_memory_object_stream[Any](0)
    pv = p + "ao:a"
    await caput(pv, 0, wait=True)
    with send, receive, anyio.fail_after(10):
        subscription = camonitor(pv, send.send, all_updates=True)
        assert await receive.receive() == 0
        await caput(pv, 1, wait=True)
        assert await receive.receive() == 1
        subscription.close()


def test_the_put_of_an_asyncio_queue_as_callback(p: str) -> None:
    async def main() -> list[float]:
        queue: asyncio.Queue[Any] = asyncio.Queue(1)
        camonitor(p + "ticks", queue.put, all_updates=True)
        return [+await asyncio.wait_for(queue.get(), 10) for _ in range(4)]

    seen = asyncio.run(main())
    assert seen == [seen[0] + i for i in range(4)]


@pytest.mark.anyio
@pytest.mark.parametrize("format", [FORMAT_RAW, FORMAT_TIME, FORMAT_CTRL])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ao:a", 2.5),
        ("longout", 42),
        ("mbbo", 2),
        ("stringout", "out"),
        ("wf:scratch", [1.0, 2.0, 3.0]),
    ],
)
async def test_a_value_can_be_put_again(p: str, name: str, value: Any, format: Any) -> None:
    pv = p + name
    before = await caget(pv)
    await caput(pv, value, wait=True)
    got = await caget(pv, format=format)
    await caput(pv, got, wait=True)
    again = await caget(pv)
    assert np.array_equal(again, value)
    await caput(pv, before, wait=True)  # restore the value


@pytest.mark.anyio
async def test_an_array_without_a_copy(p: str) -> None:
    """Under numpy 2 ``copy=False`` is an error where a copy would be needed."""
    value = await caget(p + "wf:DOUBLE", format=FORMAT_TIME)
    array = np.array(value, copy=False)
    assert type(array) is np.ndarray
    assert np.shares_memory(array, value)  # type: ignore[arg-type]
    assert array.tolist() == [1.5, -2.5, 3.0]
    array[0] = 9  # it is writable
    plain = +value
    assert type(plain) is np.ndarray
    assert not np.shares_memory(plain, array)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "format", "fields"),
    [
        ("ai", FORMAT_RAW, []),
        ("ai", FORMAT_TIME, ["severity", "status", "raw_stamp", "timestamp", "datetime"]),
        (
            "ai",
            FORMAT_CTRL,
            [
                "severity", "status", "units", "upper_disp_limit", "lower_disp_limit",
                "upper_alarm_limit", "lower_alarm_limit", "upper_warning_limit",
                "lower_warning_limit", "upper_ctrl_limit", "lower_ctrl_limit", "precision",
            ],
        ),
        ("mbbi", FORMAT_CTRL, ["severity", "status", "enums"]),
        ("stringin", FORMAT_CTRL, ["severity", "status"]),
        ("wf:DOUBLE", FORMAT_RAW, []),
    ],
)  # fmt: skip
async def test_probing_for_metadata(p: str, name: str, format: Any, fields: list[str]) -> None:
    """``hasattr`` is true for exactly the attributes of the reply, and never raises."""
    value = await caget(p + name, format=format)
    always = ["name", "ok", "datatype", "element_count"]
    found = [field for field in ca_extra_fields if hasattr(value, field)]
    if name == "stringin":  # strings have no CTRL type: the reply is STS or TIME
        assert set(found) >= {*always, *fields}
        assert not set(found) & {"units", "precision", "enums", "upper_disp_limit"}
    else:
        assert found == always + fields
    assert getattr(value, "nonsense", "none") == "none"


@pytest.mark.anyio
async def test_states_of_a_subscription(p: str) -> None:
    assert (Subscription.OPENING, Subscription.OPEN, Subscription.CLOSED) == (0, 1, 2)
    came = anyio.Event()
    subscription = camonitor(p + "ai", lambda _: came.set())
    assert isinstance(subscription, Subscription)
    assert subscription.state == Subscription.OPENING
    assert subscription.name == p + "ai"
    assert callable(subscription.callback)
    with anyio.fail_after(10):
        await came.wait()
    assert subscription.state == Subscription.OPEN
    assert subscription.dropped_callbacks == 0
    subscription.close()
    assert subscription.state == Subscription.CLOSED


@pytest.mark.anyio
async def test_subscriptions_of_a_list(p: str) -> None:
    seen: dict[int, float] = {}
    both_came = anyio.Event()

    def callback(value: Any, index: int) -> None:
        seen[index] = +value
        if len(seen) == 2:
            both_came.set()

    subscriptions = camonitor([p + "ai", p + "longout"], callback)
    assert isinstance(subscriptions, list)
    assert all(isinstance(subscription, Subscription) for subscription in subscriptions)
    with anyio.fail_after(10):
        await both_came.wait()
    for subscription in subscriptions:
        subscription.close()
    assert seen == {0: 1.5, 1: 42}


def test_purging_without_a_loop(p: str, backend: str) -> None:
    """A purge before the first use, after a run, or twice: the next run works."""
    purge_channel_caches()
    for _ in range(2):
        assert run(caget(p + "ai"), backend=backend) == 1.5
        purge_channel_caches()
        purge_channel_caches()
        assert get_channel_infos() == []


def test_purging_after_a_loop_that_was_only_closed(p: str) -> None:
    """For programs that do not use asyncio.run."""
    loop = asyncio.new_event_loop()
    subscriptions = []

    async def main() -> None:
        subscriptions.append(camonitor(p + "ticks", lambda _: None))
        assert await caget(p + "ai") == 1.5

    loop.run_until_complete(main())
    assert len(get_channel_infos()) == 2
    purge_channel_caches()
    assert get_channel_infos() == []
    assert subscriptions[0].state == Subscription.CLOSED
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@pytest.mark.anyio
async def test_no_timeout_and_a_cancellation_from_outside(p: str, unique: str) -> None:
    """With timeout=None only a cancellation ends the wait. Later calls are not affected."""
    for call in (
        caget(unique + "none", timeout=None),
        caput(unique + "none", 1, wait=True, timeout=None),
        connect(unique + "none", timeout=None),
        caput(p + "slower.A", 1, wait=True, timeout=None),  # takes 3 s
    ):
        begin = time.monotonic()
        with anyio.move_on_after(0.1) as scope:
            await call
        assert scope.cancelled_caught
        assert time.monotonic() - begin < 2.0
    assert await caget(p + "ai") == 1.5


def test_asyncio_wait_for(p: str, unique: str) -> None:
    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(caget(unique + "none", timeout=None), 0.1)
        assert await asyncio.wait_for(caget(p + "ai", timeout=None), 10) == 1.5

    asyncio.run(main())


@pytest.mark.anyio
async def test_callbacks_are_on_the_thread_of_the_loop(p: str) -> None:
    threads: list[int] = []
    enough = anyio.Event()

    def callback(value: Any) -> None:
        threads.append(threading.get_ident())
        if len(threads) == 3:
            enough.set()

    subscription = camonitor(p + "ticks", callback, all_updates=True)
    with anyio.fail_after(10):
        await enough.wait()
    subscription.close()
    assert set(threads) == {threading.get_ident()}


def test_classes_of_epicscorelibs(p: str) -> None:
    """Programs import its dbr for names and for isinstance.

    In a separate process, because the module cannot be unloaded.
    """
    done = run_python(
        """
        import sys, asyncio
        from epicscorelibs.ca import dbr
        from aioca import *
        names = ["DBR_STRING", "DBR_DOUBLE", "DBR_CHAR_STR", "DBR_ENUM_STR", "DBR_CLASS_NAME"]
        assert all(getattr(dbr, name) == globals()[name] for name in names)
        async def main():
            kinds = {"ai": dbr.ca_float, "longout": dbr.ca_int, "stringin": dbr.ca_str,
                     "wf:DOUBLE": dbr.ca_array}
            for name, kind in kinds.items():
                value = await caget(sys.argv[1] + name)
                assert isinstance(value, kind), name
        asyncio.run(main())
        """,
        p,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("setting", "failing", "clause"),
    [
        ("", 'caput(p + "mbbo", "no such", wait=True)', "cadef.CAException"),
        ("", 'caput(p + "ao:readonly", 1, wait=True)', "cadef.CAException"),
        ("", 'caput(p + "mbbo", "no such", wait=True)', "CANothing"),
        ("", 'caget(p + "none", timeout=0.1)', "CANothing"),
        ("loop.call_later(0.2, purge_channel_caches)", 'caget(p + "none")', "cadef.Disconnected"),
        ("loop.call_later(0.2, purge_channel_caches)", 'caget(p + "none")', "CANothing"),
    ],
    ids=["refused", "denied", "refused by base", "timeout by base", "closed", "closed by base"],
)
def test_exceptions_of_epicscorelibs(p: str, setting: str, failing: str, clause: str) -> None:
    """If a program has imported cadef, its except clauses catch our errors."""
    done = run_python(
        f"""
        import asyncio, sys
        from epicscorelibs.ca import cadef
        from aioca import CANothing, caget, caput, purge_channel_caches
        p = sys.argv[1]
        async def main():
            loop = asyncio.get_running_loop()
            {setting or "pass"}
            try:
                await {failing}
            except {clause} as error:
                print(bool(error), isinstance(error, CANothing), error.name.startswith(p), error)
        asyncio.run(main())
        """,
        p,
    )
    assert done.stderr == ""
    assert done.stdout.startswith(f"True True True {p}")
