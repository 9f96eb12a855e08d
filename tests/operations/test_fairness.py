"""Neither a series of calls nor a long call prevents other tasks from running."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import aioca
from aioca import caget, cainfo, camonitor, caput, connect
from aioca._channels import reconnect
from aioca._channels.reconnect import Reconnector
from aioca.testing import SoftIoc

pytestmark = pytest.mark.anyio

CALLS = 4_000
# Each call takes at least 2 microseconds, so no more calls than these fit into a turn of 5 ms.
MAX_CALLS_A_TURN = 2_500


@asynccontextmanager
async def heartbeat() -> Any:
    """Another task, which counts its turns of the loop."""
    beats: list[None] = []

    async def beat() -> None:
        while True:
            beats.append(None)
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(beat)
        await anyio.lowlevel.checkpoint()
        yield beats
        group.cancel_scope.cancel()


async def put(pv: str) -> None:
    assert await caput(pv, 1)


async def put_empty_list(pv: str) -> None:
    assert await caput([], []) == []


async def get_nothing_by_zero(pv: str) -> None:
    await caget(pv, timeout=0, throw=False)


async def get_empty_list(pv: str) -> None:
    assert await caget([]) == []


async def get_refused(pv: str) -> None:
    assert not await caget("", throw=False)


async def get_refused_and_raise(pv: str) -> None:
    with pytest.raises(aioca.CAValueError):
        await caget(["", ""])


async def connect_connected(pv: str) -> None:
    assert await connect(pv)


async def info(pv: str) -> None:
    assert (await cainfo(pv)).ok


async def stream(pv: str) -> None:
    async with camonitor([]):
        pass


async def put_refused_and_raise(pv: str) -> None:
    with pytest.raises(aioca.CAValueError):
        await caput(pv, None, wait=True)


CALLED = [
    put, put_refused_and_raise, put_empty_list, get_nothing_by_zero, get_empty_list, get_refused,
    get_refused_and_raise, connect_connected, info, stream,
]  # fmt: skip


@pytest.mark.parametrize("call", CALLED, ids=lambda call: call.__name__)
async def test_a_series_of_calls(p: str, call: Callable[[str], Awaitable[None]]) -> None:
    pv = p + "ao:free"
    await connect(pv)
    assert await most_without_a_beat(lambda _: call(pv)) <= MAX_CALLS_A_TURN


async def most_without_a_beat(call: Callable[[int], Awaitable[object]]) -> int:
    """The largest number of calls in a series without a turn of another task."""
    most = since = 0
    async with heartbeat() as beats:
        before = len(beats)
        for number in range(CALLS):
            await call(number)
            since += 1
            if len(beats) > before:
                before, since = len(beats), 0
            most = max(most, since)
    return most


@pytest.mark.parametrize("call", CALLED, ids=lambda call: call.__name__)
async def test_a_series_of_calls_can_be_cancelled(
    p: str, call: Callable[[str], Awaitable[None]]
) -> None:
    pv = p + "ao:free"
    await connect(pv)
    calls = 0
    with anyio.move_on_after(0.02) as scope:
        while calls < 100_000:  # many times what fits into 20 ms
            await call(pv)
            calls += 1
    assert scope.cancelled_caught


async def test_puts_to_a_stopped_server(own_ioc: Callable[..., SoftIoc], unique: str) -> None:
    with own_ioc(f'record(ao, "{unique}X") {{}}') as ioc:
        await connect(unique + "X")
        ioc.pause()
        try:
            assert await most_without_a_beat(lambda n: caput(unique + "X", n)) <= MAX_CALLS_A_TURN
        finally:
            ioc.resume()
        assert await caget(unique + "X", timeout=30) == CALLS - 1


async def test_a_lone_put_does_not_suspend_under_asyncio(
    p: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs written for aioca 2.x rely on this."""
    if aioca._portal.current.running_loop().__class__.__name__ == "TrioToken":
        pytest.skip("in trio every call lets the other tasks run")
    # A busy machine may stop this process for longer than a turn, just during the put.
    monkeypatch.setattr(aioca._portal._asyncio, "TURN_SECONDS", 60.0)
    monkeypatch.setattr(aioca._requests.request, "TURN_SECONDS", 60.0)
    await connect(p + "ao:free")
    async with heartbeat() as beats:
        for number in range(20):
            await anyio.sleep(0.01)  # longer than a turn: other tasks have run
            before = len(beats)
            await caput(p + "ao:free", number)
            assert len(beats) == before


# -- Long calls ------------------------------------------------------------------------------------


async def test_a_long_list_of_infos(
    own_ioc: Callable[..., SoftIoc], unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aioca._requests.request, "TURN_SECONDS", -1.0)  # always over
    many = 1000
    records = "".join(f'record(ao, "$(P){i}") {{}}\n' for i in range(many))
    with own_ioc(records, {"P": unique}):
        pvs = [f"{unique}{i}" for i in range(many)]
        await connect(pvs, timeout=30)
        made: list[int] = []  # the number of infos at each turn of the heartbeat
        init = aioca.CAInfo.__init__
        count = 0

        def counted(self: Any, channel: Any) -> None:
            nonlocal count
            count += 1
            init(self, channel)

        monkeypatch.setattr(aioca.CAInfo, "__init__", counted)

        async def beat() -> None:
            while True:
                made.append(count)
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as group:
            group.start_soon(beat)
            await anyio.lowlevel.checkpoint()
            infos = await cainfo(pvs)
            group.cancel_scope.cancel()
        assert [one.name for one in infos] == pvs
        assert len({number for number in made if 0 < number < many}) >= 2


async def test_the_look_at_unconnected_channels(
    unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reconnector works in turns too, and reaches all channels."""
    monkeypatch.setattr(aioca._channels.reconnect, "TURN_SECONDS", -1.0)  # one channel a turn
    names = [f"{unique}{i}" for i in range(50)]
    await connect(names, wait=False)
    seen: list[str] = []
    monkeypatch.setattr(
        Reconnector, "_see_to", lambda self, channel, old: seen.append(channel.name)
    )
    context = aioca._channels.registry.current()
    posted = 0
    post = context.post

    def counted(job: Callable[[], object]) -> None:
        nonlocal posted
        posted += 1
        post(job)

    monkeypatch.setattr(context, "post", counted)
    context.reconnector._look()
    with anyio.fail_after(10):
        while len(seen) < len(names):
            await anyio.lowlevel.checkpoint()
    assert seen == names
    assert posted >= len(names) - 1
    # The second search for channels of a lost circuit works in turns too
    lost: list[str] = []
    monkeypatch.setattr(reconnect, "_search_anew", lambda channel: lost.append(channel.name))
    posted = 0
    context.reconnector._search_anew()
    with anyio.fail_after(10):
        while len(lost) < len(names):
            await anyio.lowlevel.checkpoint()
    assert posted >= len(names) - 1
