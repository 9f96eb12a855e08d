"""A connection that is slow, a server that is mute, two servers with the same PV."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio
import anyio.to_thread
import numpy as np
import pytest

from aioca import CATimeout, caget, cainfo, camonitor, caput, connect
from aioca.testing import SoftIoc
from tests.support.network import SHORT, Net, ends_after, heartbeat
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


# -- Slow ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["delay", "trickle"])
async def test_slow_but_right(net: Net, fault: str) -> None:
    """Values come late, or a byte at a time: all of them, right, and in order."""
    x, w = net.p + "x", net.p + "w"
    await caput([x + ":direct", w + ":direct"], [0, np.zeros(300)], wait=True)
    await net.forget("x")
    async with heartbeat():
        if fault == "trickle":
            net.proxy.trickle()
        else:
            net.proxy.delay(0.02)
        async with camonitor(x, all_updates=True) as updates:
            assert await anext(updates) == 0
            for number in range(1, 6):
                await caput(x, number, wait=True)
                value = np.arange(300.0) + number
                _, array, scalar = (
                    await caput(w, value, wait=True),
                    *await caget([w, x]),
                )
                assert (array == value).all()
                assert scalar == number
            with anyio.fail_after(10):
                assert [+await anext(updates) for _ in range(5)] == list(range(1, 6))
        # Without wait, nothing is lost or overtaken either.
        for number in range(6, 41):
            await caput(x, number)
        await caput(x, 41, wait=True)
        assert await net.history("x") == list(range(1, 42))
        assert net.proxy.opened == 1


# -- Mute ------------------------------------------------------------------------------------------


async def test_server_that_accepts_and_says_nothing(net: Net) -> None:
    """Calls end by their deadline; when the circuit is cut, the channel finds the server."""
    pv = net.p + "x"
    async with heartbeat():
        net.proxy.mute()
        for function in (connect, cainfo, caget):
            with ends_after(SHORT), pytest.raises(CATimeout, match="connecting") as caught:
                await function(pv, timeout=SHORT)
            assert caught.value.name == pv
            assert pv in str(caught.value)
        with ends_after(SHORT), pytest.raises(CATimeout, match="connecting"):
            await caput(pv, 1, wait=True, timeout=SHORT)
        await net.proxy.until(lambda: net.proxy.muted >= 1)
        assert net.proxy.opened == 0
        net.proxy.mute(False)
        net.proxy.cut()
        assert await connect(pv, timeout=15)
        await caput(pv, 5, wait=True)
        assert await caget(pv) == 5


@pytest.mark.soak
async def test_server_that_has_been_mute_for_long(net: Net) -> None:
    """Likewise when the channel is no longer a young one: libca itself searches then."""
    pv = net.p + "x"
    async with heartbeat():
        net.proxy.mute()
        with ends_after(7), pytest.raises(CATimeout, match="connecting"):
            await connect(pv, timeout=7)
        assert net.proxy.muted == 1
        net.proxy.mute(False)
        net.proxy.cut(reset=False)
        assert await connect(pv, timeout=20)
        assert (await caget(pv, timeout=1)).ok


@pytest.mark.soak
async def test_server_that_stays_mute_is_not_waited_for(net: Net) -> None:
    """The circuit is never cut, but a new one is answered: so the channel gets one."""
    pv = net.p + "x"
    async with heartbeat():
        net.proxy.mute()
        with pytest.raises(CATimeout):
            await connect(pv, timeout=1)
        net.proxy.mute(False)
        assert await connect(pv, timeout=20)
        assert net.proxy.circuits == 1
        async with camonitor(pv) as updates:
            assert +await anext(updates) == await caget(pv)


@pytest.mark.parametrize(
    "found_again",
    [False, pytest.param(True, marks=pytest.mark.soak)],
    ids=["not besieged", "found again"],
)
async def test_server_that_answers_searches_but_refuses_to_be_connected_to(
    net: Net, found_again: bool
) -> None:
    """It is not besieged meanwhile; and found when it accepts again."""
    pv = net.p + "x"
    async with heartbeat():
        net.proxy.refuse()
        seconds = 5 if found_again else 1.5
        with ends_after(seconds), pytest.raises(CATimeout, match="connecting") as caught:
            await connect(pv, timeout=seconds)
        assert caught.value.name == pv
        # libca by itself searches once, and again after ten seconds. A PV that nobody has is
        # searched for about four times in the first half second, then ever more seldom: so for
        # each of the four channels that there may be here. Searched for anew at once after each
        # refusal, it would be 31 times a second.
        assert 1 <= net.proxy.searches <= 4 * 4, net.proxy.searches
        if found_again:
            net.proxy.refuse(False)
            assert await connect(pv, timeout=20)
            assert net.proxy.opened == 1


# -- Two servers with the same PV ------------------------------------------------------------------


async def test_two_servers_with_the_same_pv(
    own_ioc: Callable[..., SoftIoc], unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One of them is used, and stays the one; the log names the PV."""
    database = 'record(ao, "$(P)x") { field(VAL, "$(V)") field(PINI, "YES") }'
    iocs = [own_ioc(database, {"P": unique, "V": number}) for number in (1, 2)]
    for ioc in iocs:
        await anyio.to_thread.run_sync(ioc.start)
    pv = unique + "x"
    async with heartbeat(), camonitor(pv, notify_disconnect=True, all_updates=True) as updates:
        value = await anext(updates)
        mine, other = iocs if value == 1 else reversed(iocs)

        def said() -> bool:
            return any(
                record.name == "aioca"
                and record.levelno >= logging.WARNING
                and pv in record.getMessage()
                and str(other.port) in record.getMessage()
                for record in caplog.records
            )

        await until(said)
        host = (await cainfo(pv)).host
        assert host.endswith(f":{mine.port}")
        for _ in range(20):
            assert await caget(pv) == value
        # When the other one goes, that is none of its business.
        await anyio.to_thread.run_sync(other.kill)
        await caput(pv, 17, wait=True)
        assert await anext(updates) == 17
        assert (await cainfo(pv)).host == host
        assert mine.client_count() == 1
