"""Writes without wait: their confirmation, its circuit, and the log at the end of a run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import anyio
import pytest

import aioca
from aioca import caget, caput, connect, run
from aioca._ca import libca
from aioca._channels.connection import CONNECTED
from aioca._channels.registry import current
from aioca.testing import SoftIoc

pytestmark = pytest.mark.anyio


def unconfirmed() -> list[str]:
    """The PVs of this loop with unconfirmed writes."""
    return sorted(
        channel.name for channels in current().writes.unconfirmed.values() for channel in channels
    )


@pytest.mark.parametrize("reply", ["get", "get of another", "list", "put"])
async def test_any_later_reply_of_the_circuit_confirms(p: str, reply: str) -> None:
    pvs = [p + "ao:a", p + "ao:b"]
    await connect(pvs)
    await caput(pvs, 1.0)
    assert unconfirmed() == pvs
    if reply == "get":
        await caget(pvs[0])
    elif reply == "get of another":
        await caget(p + "ai")
    elif reply == "list":
        await caget([p + "ai", *pvs])
    else:
        await caput(pvs[0], 1.0, wait=True)
    assert unconfirmed() == []
    assert [current().channel(pv).unconfirmed for pv in pvs] == [0, 0]


async def test_a_reply_to_what_was_sent_before_does_not(p: str) -> None:
    await connect([p + "slow.A", p + "ao:a"])
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: caput(p + "slow.A", 1, wait=True))  # takes a while
        await anyio.wait_all_tasks_blocked()
        await caput(p + "ao:a", 1.0)
    assert unconfirmed() == [p + "ao:a"]
    await caput([p + "ao:a", p + "absent"], 1.0, throw=False, timeout=0)
    await connect(p + "ao:a")  # connect() sends no request
    assert unconfirmed() == [p + "ao:a"]
    await caget(p + "ao:a")
    assert unconfirmed() == []


async def test_a_circuit_is_a_server_and_a_priority(p: str) -> None:
    first, second = p + "ao:a", p + "ao:b"
    await connect(first)
    channel = current().channel(second)
    channel.replace(elsewhere=True)
    await connect(second)
    assert {current().channel(pv).circuit()[1] for pv in (first, second)} == {0, 1}  # type: ignore[index]
    await caput([first, second], 1.0)
    await caget(first)
    assert unconfirmed() == [second]
    await caput(first, 1.0)
    asked: list[str] = []
    get_callback = libca.get_callback

    def noted(*args: Any) -> int:
        asked.append("read")
        return get_callback(*args)  # type: ignore[no-any-return]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(libca, "get_callback", noted)
        current().writes.wait_until_received(current().post, current().flush)
    assert len(asked) == 2  # one request for each circuit


async def test_writes_to_a_lost_server_are_not_waited_for(
    own_ioc: Callable[..., SoftIoc], unique: str
) -> None:
    """Nothing of them stays, neither when the PV is back nor when it is closed."""
    ioc = own_ioc(f'record(ao, "{unique}X") {{}}')
    with ioc:
        await connect(unique + "X")
        ioc.pause()
        await caput(unique + "X", 1)
        assert unconfirmed() == [unique + "X"]
        ioc.kill()
        channel = current().channel(unique + "X")
        with anyio.fail_after(10):
            while channel.state == CONNECTED or unconfirmed():
                await anyio.sleep(0.01)
        assert channel.unconfirmed == 0
    await caput(unique + "X", 1, timeout=0, throw=False)
    assert not current().writes.unconfirmed


async def test_a_priority_stays_with_the_channel(p: str) -> None:
    """A new channel keeps the priority of the one it replaces, though the default has changed."""
    pv = p + "ao:a"
    await connect(pv)
    aioca.configure(priority=10)
    try:
        current().channel(pv).replace()
        await connect(pv)
        assert current().channel(pv).priority == 0
        await connect(p + "ao:b")
        assert current().channel(p + "ao:b").priority == 10
    finally:
        aioca.configure(priority=0)


@pytest.mark.parametrize("confirmed", [True, False])
def test_what_the_end_of_a_run_says_of_a_stopped_server(
    own_ioc: Callable[..., SoftIoc],
    unique: str,
    backend: str,
    confirmed: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with own_ioc(f'record(ao, "{unique}X") {{}}\nrecord(ao, "{unique}Y") {{}}') as ioc:

        async def main() -> None:
            await connect([unique + "X", unique + "Y"])
            await caput(unique + "X", 1)
            if confirmed:
                await caget(unique + "Y")
            ioc.pause()

        try:
            run(main(), backend=backend)
        finally:
            ioc.resume()
        warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
        if confirmed:
            assert warnings == []
        else:
            (warning,) = warnings
            assert warning.startswith(f"{unique}X: the channels are being closed")
