"""connect and cainfo."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from aioca import (
    ECA,
    CAInfo,
    CANothing,
    CARequestError,
    CATimeout,
    CAValueError,
    caget,
    cainfo,
    camonitor,
    caput,
    connect,
    get_channel_infos,
    wait_for_value,
)
from aioca._ca import context as _client
from aioca._ca import libca
from aioca._channels.registry import current
from aioca._monitors import start
from aioca.testing import SoftIoc
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

NEVER, PREVIOUSLY, CONNECTED, CLOSED = range(4)
NO_ACCESS = 7


# -- connect ---------------------------------------------------------------------------------------


async def test_connect(p: str) -> None:
    done = await connect(p + "ai")
    assert type(done) is CANothing
    assert done
    assert (done.name, done.ok, done.errorcode) == (p + "ai", True, 1)
    assert [*get_channel_infos()] == [(p + "ai", True, 0)]
    many = await connect([p + "ai", p + "longin"])
    assert [(one.name, bool(one)) for one in many] == [(p + "ai", True), (p + "longin", True)]


async def test_connect_without_wait(p: str) -> None:
    """connect(wait=False) only starts: the channel exists and connects later."""
    assert await connect(p + "ai", wait=False)
    assert [info.name for info in get_channel_infos()] == [p + "ai"]
    await until(lambda: get_channel_infos()[0].connected)
    assert all(await connect([p + "absent", p + "longin"], wait=False))


async def test_connect_without_wait_tells_nothing_of_the_connection(unique: str) -> None:
    """As in aioca 2.x. Its docstring tells how to find out."""
    done = await connect(unique + "absent", wait=False)
    assert done and done.ok
    info = await cainfo(unique + "absent", wait=False)
    assert not info.ok and info.state_strings[info.state] == "never connected"
    assert "cainfo(pv, wait=False)" in inspect.getdoc(connect)


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make libca refuse to create channels, as it does when there is no memory."""

    def refuse(*_: object) -> tuple[int, Any]:
        return ECA.ALLOCMEM, libca.Chid()

    monkeypatch.setattr(_client.CaContext, "create_channel", refuse)


CALLS: dict[str, Callable[[str], Any]] = {
    "caget": caget,
    "caput": lambda pv: caput(pv, 1),
    "connect": connect,
    "cainfo": cainfo,
    "wait_for_value": lambda pv: wait_for_value(pv, 1),
}


@pytest.mark.parametrize("call", CALLS)
async def test_libca_makes_no_channel(unique: str, no_memory: None, call: str) -> None:
    with pytest.raises(
        CARequestError, match=f"{unique}X: Unable to allocate .*could not create a channel"
    ) as caught:
        await CALLS[call](unique + "X")
    error = caught.value
    assert (error.name, error.errorcode) == (unique + "X", ECA.ALLOCMEM)
    assert not isinstance(error, CAValueError)
    assert get_channel_infos() == []


async def test_libca_makes_no_channel_for_a_monitor(unique: str, no_memory: None) -> None:
    with pytest.raises(CARequestError, match=f"{unique}X: "):
        camonitor(unique + "X", print)


@pytest.mark.parametrize("turns", ["one turn", "many turns"])
async def test_libca_makes_no_channel_for_one_of_many_monitors(
    p: str, turns: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """camonitor raises, and leaves none behind; once it has returned, the others are started."""
    create = _client.CaContext.create_channel

    def refuse(self: _client.CaContext, name: bytes, *args: Any) -> tuple[int, Any]:
        if name.endswith(b"ao:a"):
            return ECA.ALLOCMEM, libca.Chid()
        return create(self, name, *args)

    monkeypatch.setattr(_client.CaContext, "create_channel", refuse)
    pvs = [p + "ai", p + "ao:a", p + "ao:b"]
    seen: list[str] = []
    if turns == "one turn":
        monkeypatch.setattr(start, "TURN_SECONDS", 60.0)  # however slow the machine is
        with pytest.raises(CARequestError, match="ao:a"):
            camonitor(pvs, lambda value, index: seen.append(value.name))
        assert {info.subscriber_count for info in get_channel_infos()} == {0}
        return
    monkeypatch.setattr(start, "TURN_SECONDS", -1.0)
    monkeypatch.setattr(start, "_MONITORS_PER_CLOCK_CHECK", 1)
    subscriptions = camonitor(pvs, lambda value, index: seen.append(value.name))
    await until(lambda: len(seen) == 2)
    assert seen == [pvs[0], pvs[2]]
    assert [s.state == s.CLOSED for s in subscriptions] == [False, True, False]
    assert "ao:a: the monitor cannot be started" in caplog.text
    subscriptions.close()


async def test_libca_makes_no_channel_for_one_of_many(
    p: str, unique: str, request: pytest.FixtureRequest
) -> None:
    """The other PVs of the list get their values."""
    await connect(p + "ai")
    request.getfixturevalue("no_memory")
    pvs = [unique + "X", p + "ai"]
    failed, value = await caget(pvs, throw=False)
    assert type(failed) is CANothing and value == 1.5
    assert (failed.name, failed.errorcode) == (unique + "X", ECA.ALLOCMEM)
    assert [one.ok for one in await connect(pvs, throw=False)] == [False, True]
    assert [one.ok for one in await cainfo(pvs, wait=False, throw=False)] == [False, True]
    with pytest.raises(CARequestError) as caught:
        await caget(pvs)
    assert [one.name for one in caught.value.failures] == [unique + "X"]


async def test_libca_makes_no_channel_in_place_of_a_lost_one(
    unique: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    """After the loss of a circuit the second search fails, and a log record says so."""
    await connect([unique + "X", unique + "Y"], wait=False)
    request.getfixturevalue("no_memory")
    current().circuit_lost()
    for name in ("X", "Y"):  # the second, too
        await until(lambda name=name: f"{unique}{name}: the search could not start" in caplog.text)
    assert "please report" not in caplog.text


async def test_connect_to_nothing(p: str) -> None:
    with pytest.raises(CATimeout, match="connecting"):
        await connect(p + "absent", timeout=0.1)
    done = await connect([p + "absent", p + "ai"], timeout=0.5, throw=False)
    assert [bool(one) for one in done] == [False, True]


async def test_name_is_searched_for_once(p: str) -> None:
    async with anyio.create_task_group() as tg:
        for _ in range(20):
            tg.start_soon(connect, p + "ai")
            tg.start_soon(caget, p + "ai")
            tg.start_soon(cainfo, [p + "ai", p + "ai"])
    assert [*get_channel_infos()] == [(p + "ai", True, 0)]


# -- cainfo ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pv,datatype,count",
    [
        ("stringin", "string", 1),
        ("ai.PREC", "short", 1),
        ("wf:FLOAT", "float", 5),
        ("bi", "enum", 1),
        ("wf:CHAR", "char", 100),
        ("longin", "long", 1),
        ("ai", "double", 1),
        ("stringout.DESC$", "char", 41),
    ],
)
async def test_cainfo(ioc: SoftIoc, p: str, pv: str, datatype: str, count: int) -> None:
    info = await cainfo(p + pv)
    assert type(info) is CAInfo
    assert repr(info) == f"<CAInfo {info.name!r} connected>"
    assert (info.ok, info.name) == (True, p + pv)
    assert info.state_strings[info.state] == "connected"
    assert info.host.endswith(f":{ioc.port}")
    assert (info.read, info.write) == (True, True)
    assert info.datatype_strings[info.datatype] == datatype
    assert info.count == count
    assert str(info).splitlines() == [
        p + pv,
        "    State:            connected",
        f"    Host:             {info.host}",
        "    Access:           read, write",
        f"    Native data type: DBF_{datatype.upper()}",
        f"    Request type:     DBR_{datatype.upper()}",
        f"    Element count:    {count}",
    ]


async def test_cainfo_without_write_access(p: str) -> None:
    info = await cainfo(p + "ao:readonly")
    assert (info.read, info.write) == (True, False)
    assert "Access:           read, no write" in str(info)


async def test_cainfo_of_a_list(p: str) -> None:
    infos = await cainfo([p + "longin", p + "ai", p + "longin"])
    assert [info.name for info in infos] == [p + "longin", p + "ai", p + "longin"]
    mixed: Any = await cainfo([p + "absent", p + "ai"], timeout=0.5, throw=False)
    assert [type(info) for info in mixed] == [CANothing, CAInfo]


async def test_cainfo_without_wait(p: str) -> None:
    info = await cainfo(p + "absent", wait=False)
    assert type(info) is CAInfo
    assert (info.ok, info.state, info.host) == (False, NEVER, "<disconnected>")
    assert (info.read, info.write, info.count, info.datatype) == (False, False, 0, NO_ACCESS)
    assert info.datatype_strings[info.datatype] == "no access"
    assert str(info).splitlines() == [
        p + "absent",
        "    State:            never connected",
        "    Host:             <disconnected>",
        "    Access:           no read, no write",
        "    Native data type: <disconnected>",
        "    Request type:     <disconnected>",
        "    Element count:    0",
    ]
    await connect(p + "ai")
    assert (await cainfo(p + "ai", wait=False)).ok


async def test_cainfo_of_a_server_that_is_lost(
    own_ioc: Callable[..., SoftIoc], unique: str
) -> None:
    pv = unique + "X"
    with own_ioc(f'record(waveform, "{pv}") {{ field(NELM, "7") }}') as ioc:
        assert (await cainfo(pv)).count == 7
        assert [*get_channel_infos()] == [(pv, True, 0)]
        ioc.kill()
        await until(lambda: not get_channel_infos()[0].connected)
        info = await cainfo(pv, wait=False)
        assert (info.ok, info.state) == (False, PREVIOUSLY)
        assert (info.read, info.write, info.count, info.datatype) == (False, False, 0, NO_ACCESS)
        assert "State:            previously connected" in str(info)
