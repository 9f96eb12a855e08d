"""Writes without wait: their confirmation, its circuit, and the log at the end of a run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import anyio
import pytest

import aioca
from aioca import CANothing, caget, caput, connect, run
from aioca._ca import libca
from aioca._channels.channel import CLOSED, CONNECTED
from aioca._channels.registry import current
from aioca._errors import CAError
from aioca.testing import SoftIoc

pytestmark = pytest.mark.anyio


def unconfirmed() -> list[str]:
    """The PVs of this loop with unconfirmed writes."""
    return sorted(
        channel.name for channels in current().writes._last.values() for channel in channels
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
    assert not current().writes


async def test_libca_makes_no_second_channel(p: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The put that needs it fails; the first completes."""
    pv = p + "slow.A"
    await connect(pv)
    monkeypatch.setattr(
        current().ca_context, "create_channel", lambda *_: (libca.ECA_ALLOCMEM, libca.Chid())
    )
    results: list[CANothing] = []

    async def put(value: float) -> None:
        results.append(await caput(pv, value, wait=True, throw=False))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(put, 1)
            group.start_soon(put, 2)
    assert sorted(result.errorcode for result in results) == [1, libca.ECA_ALLOCMEM]


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
            assert warning.startswith(f"{unique}X: the run has ended")


# -- Channels for overlapping put-callbacks, and channels that libca refuses -----------------------


async def test_a_second_put_whose_channel_goes_down_waits_for_it(
    p: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second put was not sent, so it is sent when the channel has reconnected."""
    pv = p + "slow.A"
    await connect(pv)
    send = libca.put_notify
    results: list[CANothing] = []
    sent: list[int] = []

    def failing(*args: Any) -> int:
        sent.append(len(sent))
        if len(sent) != 2:
            return send(*args)
        (put_channel,) = (c for c in borrowed() if c.connected)
        # As libca reports it: the channel disconnects and reconnects
        put_channel.connection_changed(False, -1, 0)
        put_channel.connection_changed(True, put_channel.native_type, put_channel.native_count)
        return libca.ECA_DISCONN

    def borrowed() -> list[Any]:
        return [
            put_channel
            for operation in current().operations
            for put_channel in getattr(operation, "_borrowed", {}).values()
        ]

    async def put(value: float) -> None:
        results.append(await caput(pv, value, wait=True, throw=False))

    monkeypatch.setattr(libca, "put_notify", failing)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(put, 1)
            group.start_soon(put, 2)
    assert [str(result) for result in results if not result.ok] == []
    assert len(sent) == 3


@pytest.mark.parametrize("error", ["refused", "foreign context"])
async def test_a_channel_that_libca_refuses_is_searched_for_again(
    p: str, error: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pv = p + "ao:a"
    await connect(pv)
    context = current()
    channel = context.channel(pv)
    create = context.ca_context.create_channel

    def refuse(*args: Any) -> Any:
        if error == "refused":
            return libca.ECA_ALLOCMEM, None
        raise RuntimeError("this thread has a context without preemptive callbacks")

    monkeypatch.setattr(context.ca_context, "create_channel", refuse)
    channel.replace()
    assert channel.state != CLOSED
    assert f"{pv}: the search could not start" in caplog.text
    failed = await caget(pv, timeout=0.05, throw=False)
    assert failed.errorcode == libca.ECA_TIMEOUT
    context.reconnector._look()  # as every ten seconds: it checks the others, and this one again
    monkeypatch.setattr(context.ca_context, "create_channel", create)
    context.reconnector._look()
    await connect(pv)
    assert context.channel(pv) is channel


async def test_a_scout_that_libca_refuses(p: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reconnector still checks the other channels."""
    pvs = [p + "ao:a", p + "ao:b"]
    await connect(pvs)
    context = current()
    seen: list[str] = []

    def refuse(name: bytes, *_: Any) -> Any:
        seen.append(name.decode())
        return libca.ECA_ALLOCMEM, None

    for pv in pvs:  # as if the server did not respond
        context.channel(pv).connected = False
    monkeypatch.setattr(context.ca_context, "create_channel", refuse)
    context.reconnector._look()
    assert seen == pvs
    for pv in pvs:
        context.channel(pv).connected = True


async def test_a_first_channel_that_libca_refuses(p: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await connect(p + "ao:a")
    monkeypatch.setattr(
        current().ca_context, "create_channel", lambda *_: (libca.ECA_ALLOCMEM, None)
    )
    with pytest.raises((RuntimeError, CAError), match=p + "ao:b"):
        await connect(p + "ao:b")
