"""A channel that a server refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from aioca import CATimeout, caget, camonitor, caput, connect, wait_for_value
from aioca._ca import libca
from aioca._channels.registry import current
from aioca.testing import SoftIoc
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

REFUSED = {
    "ai.TIME": "perhaps the server does not give the field TIME to clients",
    "ai.VAL$": "cannot be read as a long string",
    "stringout.DESC$$": "cannot be read as a long string",
    "ai.VAL ": "a blank at the beginning or the end",
    'ai.{"nosuch":{}}': "the filter",
    "ai.VAL[1:2": "the filter",
    'wf:LONG.VAL{"arr":{"s":}}': "the filter",
}


async def refused_by(function: Any, pv: str) -> str:
    """The text of the time-out, after the server has refused the channel."""
    channel = current().channel(pv)
    await until(lambda: channel.refused)
    with pytest.raises(CATimeout) as caught:
        await function(pv)
    return str(caught.value)


@pytest.mark.parametrize(
    "function",
    [
        lambda pv: connect(pv, timeout=0.1),
        lambda pv: caget(pv, timeout=0.1),
        lambda pv: caput(pv, 1, wait=True, timeout=0.1),
        lambda pv: wait_for_value(pv, 1, timeout=0.1),
    ],
    ids=["connect", "caget", "caput", "wait_for_value"],
)
async def test_a_server_that_refuses_the_channel_is_told_from_silence(
    p: str, function: Any
) -> None:
    for pv, why in REFUSED.items():
        text = await refused_by(function, p + pv)
        assert text.startswith(f"{p}{pv}: ")
        assert "a server has this name, but refuses the channel" in text
        assert why in text
        assert "no server has answered" not in text


@pytest.mark.parametrize("policy", [{}, {"all_updates": True}, {"max_pending": 3}], ids=str)
async def test_no_disconnection_of_what_was_never_connected(p: str, policy: Any) -> None:
    heard: list[Any] = []
    pv = p + "ai.TIME"
    async with camonitor(pv, heard.append, notify_disconnect=True, connect_timeout=1, **policy):
        channel = current().channel(pv)
        await until(lambda: channel.refused)
        await until(lambda: bool(heard))
    assert [nothing.errorcode for nothing in heard] == [libca.ECA_TIMEOUT]
    assert "refuses the channel" in str(heard[0])


async def test_lost_and_then_refused(own_ioc: Callable[..., SoftIoc], unique: str) -> None:
    """The server returns with a record whose value is not text. One disconnection is reported."""
    pv = unique + "X.VAL$"
    heard: list[bool] = []
    with own_ioc('record(stringout, "$(P)X") {}', {"P": unique}) as ioc:
        async with camonitor(pv, lambda value: heard.append(value.ok), notify_disconnect=True):
            await until(lambda: heard == [True])
            channel = current().channel(pv)
            await anyio.to_thread.run_sync(ioc.kill)
            await until(lambda: heard == [True, False])
            with pytest.raises(CATimeout, match="the server was lost"):
                await caget(pv, timeout=0.1)
            await anyio.to_thread.run_sync(ioc.start, 'record(ao, "$(P)X") {}')
            await until(lambda: channel.refused, 30)
            with pytest.raises(CATimeout, match="refuses the channel"):
                await caget(pv, timeout=0.1)
    assert heard == [True, False]
