"""Calls that libca refuses, and channels that it does not create."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from aioca import CANothing, CARequestError, caget, caput, connect
from aioca._ca import libca
from aioca._channels.connection import CLOSED, CONNECTED
from aioca._channels.registry import current
from tests.support.fake_ca import FakeCA
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

REFUSED = (libca.ECA_ALLOCMEM, 0)


@pytest.mark.parametrize("reconnects", ["at once", "later"])
async def test_a_second_put_whose_channel_goes_down_waits_for_it(
    fake_ca: FakeCA, reconnects: str
) -> None:
    """The second put was not sent, so it is sent when the channel has reconnected."""
    await connect("PV")
    results: list[CANothing] = []

    async def put(value: float) -> None:
        results.append(await caput("PV", value, wait=True, throw=False))

    def goes_down(dbr: int, count: int, chid: libca.Chid, *_: Any) -> int:
        channel = fake_ca.channel_of(chid)
        fake_ca.disconnect(channel)
        if reconnects == "at once":
            fake_ca.connect(channel)
        return libca.ECA_DISCONN

    fake_ca.script("put_notify", fake_ca.put_notify, goes_down)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(put, 1)
            group.start_soon(put, 2)
            await until(lambda: fake_ca.count("put_notify") >= 2)
            first, second = fake_ca.channels.values()
            if reconnects == "later":
                await until(lambda: second.host == libca.NO_HOST)
                assert results == []
                fake_ca.connect(second)
            await until(lambda: len(fake_ca.puts) == 2)
            assert [put.channel for put in fake_ca.puts] == [first, second]
            for accepted in fake_ca.puts:
                accepted.complete()
    assert [str(result) for result in results if not result.ok] == []
    assert fake_ca.count("put_notify") == 3


async def test_libca_makes_no_second_channel(fake_ca: FakeCA) -> None:
    """The put that needs it fails; the first completes."""
    await connect("PV")
    fake_ca.always("create_channel", REFUSED)
    results: list[CANothing] = []

    async def put(value: float) -> None:
        results.append(await caput("PV", value, wait=True, throw=False))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(put, 1)
            group.start_soon(put, 2)
            await until(lambda: len(results) == 1)
            (first,) = fake_ca.puts
            first.complete()
    assert [result.errorcode for result in results] == [libca.ECA_ALLOCMEM, libca.ECA_NORMAL]


@pytest.mark.parametrize(
    "result",
    [REFUSED, RuntimeError("this thread has a context without preemptive callbacks")],
    ids=["refused", "foreign context"],
)
async def test_a_channel_that_libca_refuses_is_searched_for_again(
    fake_ca: FakeCA, result: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The failure of `Channel.replace` leaves a channel for which the search is repeated."""
    await connect("PV")
    context = current()
    channel = context.channel("PV")
    fake_ca.always("create_channel", result)
    channel.replace()
    assert channel.state != CLOSED
    assert "PV: the search could not start" in caplog.text
    failed = await caget("PV", timeout=0.05, throw=False)
    assert failed.errorcode == libca.ECA_TIMEOUT
    context.reconnector._look()  # as every ten seconds
    assert fake_ca.count("create_channel") == 3
    fake_ca.as_usual("create_channel")
    context.reconnector._look()
    await connect("PV")
    assert context.channel("PV") is channel
    assert channel.state == CONNECTED


async def test_a_failed_search_does_not_stop_the_checks_of_others(
    fake_ca: FakeCA, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a channel without a chid nor a refused second search ends `Reconnector._look`."""
    pvs = ["PV1", "PV2", "PV3"]
    await connect(pvs)
    context = current()
    fake_ca.always("create_channel", REFUSED)
    context.channel("PV1").replace()
    for channel in [each for each in fake_ca.channels.values() if each.name != "PV1"]:
        fake_ca.disconnect(channel, responds=False)
    await until(lambda: not any(context.channel(pv).change_is_queued() for pv in pvs))
    fake_ca.calls.clear()
    context.reconnector._look()  # in turns, so that a busy machine gets to the rest later
    await until(lambda: fake_ca.count("create_channel") >= len(pvs))
    searched = [arguments[0] for name, arguments in fake_ca.calls if name == "create_channel"]
    assert searched == [b"PV1", b"PV2", b"PV3"]
    assert "please report this" not in caplog.text


async def test_a_first_channel_that_libca_refuses(fake_ca: FakeCA) -> None:
    fake_ca.always("create_channel", REFUSED)
    with pytest.raises(CARequestError, match="PV"):
        await connect("PV")
    assert current().channels == {}
