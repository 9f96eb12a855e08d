"""Deadlines: each form of a timeout, and no call exceeds its own, whatever a server does."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import pytest

from aioca import (
    CANothing,
    CATimeout,
    caget,
    cainfo,
    camonitor,
    caput,
    connect,
    get_channel_infos,
    wait_for_value,
)
from aioca._ca import libca
from aioca._channels.registry import current
from aioca._requests import request
from aioca._requests.request import Request
from aioca.testing import SoftIoc

pytestmark = pytest.mark.anyio

SHORT = 0.2
LONG = 5.0  # an outer limit: a call with timeout SHORT that has not ended by then never will


async def put(pv: Any, **options: Any) -> Any:
    return await caput(pv, 1, **options)


async def put_wait(pv: Any, **options: Any) -> Any:
    return await caput(pv, 1, wait=True, **options)


async def wait_for(pv: Any, **options: Any) -> Any:
    return await wait_for_value(pv, lambda _: False, **options)


FUNCTIONS = [caget, put, put_wait, connect, cainfo]
every_function = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
every_function_and_wait = pytest.mark.parametrize(
    "function", [*FUNCTIONS, wait_for], ids=lambda f: f.__name__
)


# -- Forms -----------------------------------------------------------------------------------------


@every_function_and_wait
@pytest.mark.parametrize(
    "form",
    [
        lambda seconds: seconds,
        np.float32,
        lambda seconds: (time.time() + seconds,),
    ],
    ids=["seconds", "numpy", "deadline"],
)
async def test_expires(p: str, function: Any, form: Callable[[float], Any]) -> None:
    began = time.monotonic()
    with anyio.fail_after(LONG), pytest.raises(TimeoutError):
        await function(p + "absent", timeout=form(SHORT))
    # 20 ms tolerance, as time.time() and time.monotonic() are different clocks
    assert time.monotonic() - began > SHORT - 0.02


@every_function_and_wait
@pytest.mark.parametrize("timeout", [0, 0.0, -1, -math.inf, (0,), (1.5,)], ids=str)
async def test_expires_at_once(p: str, function: Any, timeout: Any) -> None:
    with anyio.fail_after(LONG), pytest.raises(TimeoutError):
        await function(p + "absent", timeout=timeout)


@every_function
@pytest.mark.parametrize(
    "timeout", [None, math.inf, 30, 1e10, (1e11,), (math.inf,), np.int64(30)], ids=str
)
async def test_does_not_expire(p: str, function: Any, timeout: Any) -> None:
    result = await function(p + "ao:free", timeout=timeout)
    assert result.ok


@every_function
async def test_none_waits_for_ever(p: str, function: Any) -> None:
    with anyio.move_on_after(SHORT) as scope:
        await function(p + "absent", timeout=None)
    assert scope.cancelled_caught


@every_function_and_wait
async def test_form_that_is_none(p: str, function: Any) -> None:
    for wrong in ("soon", [5], (), (1, 2), (None,), ("soon",), object(), 1j, {}):
        with pytest.raises(TypeError, match="timeout"):
            await function(p + "ai", timeout=wrong)
    for nan in (math.nan, (math.nan,), np.float64("nan")):
        with pytest.raises(ValueError, match="NaN"):
            await function(p + "ai", timeout=nan)
    assert get_channel_infos() == []


# -- Zero: only if no waiting is needed ------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, -1])
async def test_zero_on_a_connected_pv(p: str, timeout: Any) -> None:
    pv = p + "ao:free"
    await connect(pv)
    assert await connect(pv, timeout=timeout)
    assert (await cainfo(pv, timeout=timeout)).ok
    number = float(+await caget(pv)) + 1
    assert await caput(pv, number, timeout=timeout)
    assert +await caget(pv) == number


async def test_nothing_is_sent_after_a_point_in_time(p: str) -> None:
    pv = p + "ao:free"
    number = float(+await caget(pv))
    past = (time.time() - 1,)
    assert await connect(pv, timeout=past)  # connect() sends nothing
    for wait in (False, True):
        with pytest.raises(CATimeout, match="not sent"):
            await caput(pv, number + 1, wait=wait, timeout=past)
    with pytest.raises(CATimeout, match="not sent"):
        await caget(pv, timeout=past)
    assert +await caget(pv) == number


async def test_zero_for_a_list(p: str) -> None:
    pvs = [p + "ao:a", p + "absent", p + "ao:b"]
    await connect([pvs[0], pvs[2]])
    done = await caput(pvs, 3, timeout=0, throw=False)
    assert [bool(one) for one in done] == [True, False, True]
    assert [+value for value in await caget([pvs[0], pvs[2]])] == [3, 3]
    await caput([pvs[0], pvs[2]], 0, wait=True)


async def test_zero_begins_to_connect(p: str) -> None:
    """connect() fails at once, but the channel remains and connects in the background."""
    with pytest.raises(CATimeout):
        await connect(p + "ai", timeout=0)
    assert [info.name for info in get_channel_infos()] == [p + "ai"]
    await connect(p + "ai")


# -- Lists -----------------------------------------------------------------------------------------


@every_function
async def test_one_deadline_for_a_list(p: str, function: Any) -> None:
    """The deadline is for the whole list, not for each PV."""
    pvs = [f"{p}absent{i}" for i in range(100)]
    with anyio.fail_after(LONG), pytest.raises(CATimeout) as caught:
        await function(pvs, timeout=SHORT)
    assert [failure.name for failure in caught.value.failures] == pvs


@every_function
async def test_list_without_throw(p: str, function: Any) -> None:
    results = await function([p + "absent", p + "ao:free"], timeout=SHORT * 2, throw=False)
    assert type(results[0]) is CANothing
    assert results[1].ok


# -- A server that does not answer -----------------------------------------------------------------


@pytest.mark.parametrize("function", [caget, put_wait], ids=lambda f: f.__name__)
async def test_paused_server(own_ioc: Callable[..., SoftIoc], unique: str, function: Any) -> None:
    pv, absent = unique + "X", unique + "absent"
    with own_ioc(f'record(ao, "{pv}") {{}}') as ioc:
        await connect(pv)
        ioc.pause()
        try:
            with anyio.fail_after(LONG), pytest.raises(CATimeout) as caught:
                await function([pv, absent], timeout=SHORT)
            connected, unconnected = map(str, caught.value.failures)
            # For each PV, the step that the call was waiting for
            assert connected.startswith(f"{pv}: ")
            assert "not replied" in connected or "not reported its completion" in connected
            assert "connecting" not in connected
            assert unconnected.startswith(f"{absent}: ")
            assert "connecting" in unconnected
            if function is put_wait:
                assert "outcome unknown" in connected
            # The PV is connected, so this need not wait
            assert await caput(pv, 2, timeout=0)
        finally:
            ioc.resume()
        assert await function(pv)
        assert await caput(pv, 3, wait=True)
        assert +await caget(pv) == 3


async def test_paused_before_it_is_searched_for(
    own_ioc: Callable[..., SoftIoc], unique: str
) -> None:
    with own_ioc(f'record(ao, "{unique}X") {{}}') as ioc:
        ioc.pause()
        with anyio.fail_after(LONG), pytest.raises(CATimeout, match="connecting"):
            await caget(unique + "X", timeout=SHORT)
        ioc.resume()
        assert +await caget(unique + "X", timeout=15) == 0


async def test_put_that_takes_longer(p: str) -> None:
    """The time-out does not cancel the put. The PV can be used before the put completes."""
    pv = p + "slow.A"
    await connect([pv, p + "slow:done"])
    number = float(+await caget(p + "slow:done")) + 1
    with anyio.fail_after(LONG), pytest.raises(CATimeout, match=r"slow.A.*outcome unknown"):
        await caput(pv, number, wait=True, timeout=SHORT)
    assert +await caget(pv) == number
    assert await caput(pv, number, wait=True)  # after this, both puts have completed
    assert +await caget(p + "slow:done") == number


class Late(list[Any]):
    """A list of results in which one arrives each time just after the check for it."""

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        self[0] = self.coming
        return found

    def __init__(self, before: list[Any], coming: Any) -> None:
        super().__init__(before)
        self.coming = coming


@pytest.mark.parametrize(
    ("function", "coming"), [(caget, bytes(64)), (put_wait, 0)], ids=["caget", "caput"]
)
async def test_an_answer_just_after_the_deadline(
    p: str, function: Any, coming: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply is either in time or too late; there is no third outcome."""
    await connect(p + "slow.A")
    end = Request._close

    def ended(request: Request) -> None:
        end(request)
        request.results = Late(request.results, coming)

    monkeypatch.setattr(Request, "_close", ended)
    # A fast server's reply may have arrived when the deadline is checked
    monkeypatch.setattr(Request, "arrive", lambda request, index, raw: None)
    value = await function(p + "slow.A", timeout=0, throw=False)
    assert type(value) is CANothing
    assert (value.name, value.errorcode) == (p + "slow.A", 80)


# -- A busy loop -----------------------------------------------------------------------------------


SOON = 0.25  # a deadline that passes while the loop is busy


async def beside_a_busy_loop(pv: str, call: Any, backlog: int = 0) -> Any:
    """Run a call that waits while the loop is busy until after its deadline."""
    outcome: list[Any] = []

    async def keep() -> None:
        outcome.append(await call)

    async with anyio.create_task_group() as group:
        group.start_soon(keep)
        await busy(pv, backlog)
    return outcome[0]


async def busy(pv: str, backlog: int = 0) -> None:
    """Block the loop until libca's thread has queued a job for a PV and `SOON` is over.

    There are ``backlog`` slow jobs before it in the queue.
    """
    for _ in range(5):  # the call begins, and waits
        await anyio.lowlevel.checkpoint()
    for _ in range(backlog):
        current().portal.post(lambda: time.sleep(0.002))
    channel = current().channel(pv)
    queue = current().portal.queue
    over = time.monotonic() + 1.1 * SOON
    give_up = time.monotonic() + LONG
    while time.monotonic() < give_up:
        keys = [monitor._key for monitor in channel.monitors]  # type: ignore[attr-defined]
        if channel._noted > channel._applied or any(key in queue for key in keys):
            break
        time.sleep(0.001)
    time.sleep(max(0.0, over - time.monotonic()))


# Names that no other test of this file uses. Their circuit is open: libca takes ten seconds for a
# channel that it finds on a circuit that it is closing.
FRESH = ("ao:free.VAL", "ao:a.VAL", "ao:b.VAL")


@pytest.mark.parametrize("wait", [False, True])
async def test_no_put_after_the_deadline(p: str, wait: bool) -> None:
    number = float(+await caget(p + "ao:free"))
    pv = p + FRESH[0]
    call = caput([pv], number + 1, wait=wait, timeout=SOON, throw=False)
    (failed,) = await beside_a_busy_loop(pv, call)
    assert "not sent" in str(failed)
    assert "outcome" not in str(failed)
    assert failed.errorcode == 80
    # A read after it on the same circuit
    assert +await caget(p + "ao:free") == number


async def test_a_list_of_puts_is_not_sent_after_the_deadline(
    p: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parts of the list are sent in turns. The first turn lasts until after the deadline."""
    monkeypatch.setattr(request, "PVS_PER_PART", 1)
    pvs = [p + "ao:a", p + "ao:b"]
    await caput(pvs, 1.0, wait=True)
    put = libca.put

    def slow(*args: Any) -> int:
        status = put(*args)
        time.sleep(2 * SHORT)
        return status

    monkeypatch.setattr(libca, "put", slow)
    done = await caput(pvs, 2.0, timeout=SHORT, throw=False)
    assert [one.ok for one in done] == [True, False]
    assert "not sent" in str(done[1])
    assert await caget(pvs) == [2.0, 1.0]
    await caput(pvs, 1.0, wait=True)


@pytest.mark.parametrize("backlog", [False, True])
@pytest.mark.parametrize(
    "call",
    [
        connect,
        cainfo,
        lambda pv, timeout: wait_for_value(pv, lambda _: True, timeout=timeout),
    ],
    ids=["connect", "cainfo", "wait_for_value"],
)
async def test_what_came_by_the_deadline_counts(p: str, call: Any, backlog: bool) -> None:
    """Three times, because on trio a wake and a deadline that are both due run in any order."""
    await connect(p + "ai")
    for name in FRESH:
        if call not in (connect, cainfo):  # the request is sent at once, and the server replies
            await connect(p + name)
        waiting = call(p + name, timeout=SOON)
        # The backlog is more than one drain runs before it lets other tasks run.
        outcome = await beside_a_busy_loop(p + name, waiting, 20 if backlog else 0)
        assert outcome.ok


@pytest.mark.parametrize("call", [connect, cainfo], ids=["connect", "cainfo"])
async def test_a_deadline_that_passes_before_the_call_waits(p: str, call: Any) -> None:
    """The PV connects while the call lets the other tasks run, and one of them keeps the loop."""
    await connect(p + "ai")
    pv = p + "ai.PREC"
    await connect(pv, wait=False)
    channel = current().channel(pv)

    class Busy(type(current().portal)):  # type: ignore[misc]
        async def checkpoint(self, suspends: bool = False) -> None:
            give_up = time.monotonic() + LONG
            while channel._noted == channel._applied and time.monotonic() < give_up:
                time.sleep(0.001)
            time.sleep(SOON)

    current().portal.__class__ = Busy
    assert (await call(pv, timeout=SOON / 2)).ok


async def test_thousands_that_time_out_at_once(unique: str) -> None:
    """The reasons are found without a look at all channels for each of them."""
    names = [f"{unique}{i}" for i in range(2000)]
    await connect(names, wait=False)
    looks = 0

    class Counting(dict[str, Any]):
        def values(self) -> Any:
            nonlocal looks
            looks += 1
            return super().values()

    current().channels = Counting(current().channels)
    results: list[Any] = []

    async def one(name: str) -> None:
        results.append(await caget(name, timeout=SHORT, throw=False))

    async with anyio.create_task_group() as group:
        for name in names:
            group.start_soon(one, name)
    assert {result.errorcode for result in results} == {80}
    assert looks < 20


async def test_a_monitor_that_connects_in_time(p: str) -> None:
    await connect(p + "ai")
    for name in FRESH:
        seen: list[Any] = []
        async with camonitor(p + name, seen.append, connect_timeout=SOON):
            await busy(p + name)
            with anyio.fail_after(LONG):
                while not seen:
                    await anyio.sleep(0.001)
        assert [value.ok for value in seen] == [True]


async def test_outer_cancellation_comes_first(p: str) -> None:
    with anyio.move_on_after(SHORT) as scope:
        await caget(p + "absent", timeout=LONG)
    assert scope.cancelled_caught
