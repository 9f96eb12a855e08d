"""connect, cainfo, get_channel_infos, purge_channel_caches, and the settings of libca."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from aioca import (
    ECA,
    CADisconnected,
    CAInfo,
    CANothing,
    CARequestError,
    CATimeout,
    CAValueError,
    Subscription,
    caget,
    cainfo,
    camonitor,
    caput,
    configure,
    connect,
    get_channel_infos,
    purge_channel_caches,
    run,
    wait_for_value,
)
from aioca._ca import context as _client
from aioca._ca import libca, messages
from aioca._ca.environment import searched
from aioca._channels import channel as _channel
from aioca._channels import reconnect
from aioca._channels.registry import current
from aioca._monitors import start
from aioca.testing import SoftIoc

pytestmark = pytest.mark.anyio

NEVER, PREVIOUSLY, CONNECTED, CLOSED = range(4)
NO_ACCESS = 7
ECA_DISCONN = 192


def python(program: str, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *args],
        capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Poll a condition: there is no event for actions of other clients or the network."""
    with anyio.fail_after(seconds):
        while not condition():
            await anyio.sleep(0.01)


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
        with pytest.raises(CARequestError, match="ao:a"):
            camonitor(pvs, lambda value, index: seen.append(value.name))
        assert {info.subscriber_count for info in get_channel_infos()} == {0}
        return
    monkeypatch.setattr(start, "TURN", -1.0)
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


# -- get_channel_infos -----------------------------------------------------------------------------


async def test_channel_infos(p: str) -> None:
    assert get_channel_infos() == []
    await caget([p + "ai", p + "longin"])
    with pytest.raises(CATimeout):
        await caget(p + "absent", timeout=0)
    async with camonitor(p + "ai") as first, camonitor(p + "ai") as second:
        assert await first.__anext__() == await second.__anext__() == 1.5
        assert [*get_channel_infos()] == [
            (p + "ai", True, 2), (p + "longin", True, 0), (p + "absent", False, 0),
        ]  # fmt: skip
    info = get_channel_infos()[0]
    assert (info.name, info.connected, info.subscriber_count) == (p + "ai", True, 0)


def test_channel_infos_with_no_loop(p: str) -> None:
    run(caget(p + "ai"))
    assert get_channel_infos() == []


def test_no_loop_no_call(p: str) -> None:
    coroutine = caget(p + "ai")
    with pytest.raises(RuntimeError, match="no event loop"):
        coroutine.send(None)


# -- purge_channel_caches --------------------------------------------------------------------------


async def test_purge(p: str) -> None:
    await caget([p + "ai", p + "longin"])
    purge_channel_caches()
    assert get_channel_infos() == []
    purge_channel_caches()
    assert await caget(p + "ai") == 1.5


async def put_wait(pv: str) -> Any:
    return await caput(pv, 1, wait=True)


@pytest.mark.parametrize("function", [caget, put_wait, connect, cainfo], ids=lambda f: f.__name__)
async def test_purge_while_something_connects(p: str, function: Any) -> None:
    errors: list[CADisconnected] = []

    async def call() -> None:
        with pytest.raises(CADisconnected, match="this program closed the channel") as caught:
            await function(p + "absent")
        errors.append(caught.value)

    with anyio.fail_after(4):  # less than its timeout
        async with anyio.create_task_group() as tg:
            tg.start_soon(call)
            await anyio.wait_all_tasks_blocked()
            purge_channel_caches()
    assert (errors[0].name, errors[0].errorcode) == (p + "absent", ECA_DISCONN)
    assert get_channel_infos() == []


async def test_purge_while_monitors_are_being_started(own_ioc: Callable[..., SoftIoc]) -> None:
    """Monitors that are not started yet are closed too."""
    count = 3000
    ioc = own_ioc("".join(f'record(ao, "M{i}") {{}}\n' for i in range(count)))
    ioc.start()
    called: list[int] = []
    subscriptions = camonitor([f"M{i}" for i in range(count)], lambda v, i: called.append(i))
    assert current().starts  # some are not started yet
    purge_channel_caches()
    assert {subscription.state for subscription in subscriptions} == {Subscription.CLOSED}
    assert get_channel_infos() == []
    assert await caget("M7") == 0
    assert called == []


async def test_purge_while_something_is_under_way(p: str) -> None:
    """The channel of a put is cleared: the server abandons the put, and its caller ends."""
    pv = p + "slow.A"
    results: list[Any] = []

    async def call() -> None:
        results.extend(await caput([pv, pv], [7, 8], wait=True, throw=False))

    await connect(pv)
    with anyio.fail_after(4):
        async with anyio.create_task_group() as tg:
            tg.start_soon(call)
            await anyio.wait_all_tasks_blocked()
            purge_channel_caches()
    assert [(bool(one), one.errorcode) for one in results] == [(False, ECA_DISCONN)] * 2
    assert await caput(pv, 9, wait=True)
    assert await caget(p + "slow:done") == 9


def test_purge_with_no_loop(p: str, backend: str) -> None:
    purge_channel_caches()
    assert run(caget(p + "ai"), backend=backend) == 1.5
    purge_channel_caches()
    assert run(caget(p + "ai"), backend=backend) == 1.5


def test_purge_from_another_thread(p: str, backend: str) -> None:
    """A running loop closes its own channels."""

    async def main() -> None:
        await connect(p + "ai")
        thread = threading.Thread(target=purge_channel_caches)
        thread.start()
        await until(lambda: get_channel_infos() == [])
        thread.join()
        assert await caget(p + "ai") == 1.5

    run(main(), backend=backend)


# The connection wakes a task. Before that task runs, another one closes the channel.
PURGE_BEFORE_RESULT = """
import sys
import anyio
import aioca
async def main(pv):
    async def purge():
        await aioca.connect(pv)
        aioca.purge_channel_caches()
    async def info():
        try:
            found = await aioca.cainfo(pv)
        except aioca.CADisconnected as error:
            print(error.name)
        else:
            print(found.name, found)
    for order in ((purge, info), (info, purge)):
        async with anyio.create_task_group() as tg:
            for function in order:
                tg.start_soon(function)
aioca.run(main(sys.argv[1]), backend=sys.argv[2])
"""


def test_purge_between_connection_and_cainfo(p: str, backend: str) -> None:
    """In a separate process, because libca would abort if it were passed a cleared channel."""
    done = python(PURGE_BEFORE_RESULT, p + "ai", backend)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(p + "ai") >= 2


# -- A channel that a server refuses ---------------------------------------------------------------

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


# -- configure -------------------------------------------------------------------------------------

CONFIGURE = """
import json, os, sys
import aioca
aioca.configure(**json.loads(sys.argv[1]))
print(json.dumps({k: v for k, v in os.environ.items() if k.startswith("EPICS_CA")}))
"""


def configured(settings: str, **environment: str) -> dict[str, str]:
    unset = {name: "" for name in os.environ if name.startswith("EPICS_CA")}
    done = python(CONFIGURE, settings, **unset, **environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return {name: value for name, value in found.items() if value}


def test_configure() -> None:
    assert configured(
        """{"addr_list": ["a", "b:5066"], "auto_addr_list": false, "name_servers": "c d:5068",
            "server_port": 5072, "repeater_port": 5073, "conn_tmo": 12.5,
            "max_array_bytes": 100000, "auto_array_bytes": true}"""
    ) == {
        "EPICS_CA_ADDR_LIST": "a b:5066",
        "EPICS_CA_AUTO_ADDR_LIST": "NO",
        "EPICS_CA_NAME_SERVERS": "c d:5068",
        "EPICS_CA_SERVER_PORT": "5072",
        "EPICS_CA_REPEATER_PORT": "5073",
        "EPICS_CA_CONN_TMO": "12.5",
        "EPICS_CA_MAX_ARRAY_BYTES": "100000",
        "EPICS_CA_AUTO_ARRAY_BYTES": "YES",
    }


@pytest.mark.unit
@pytest.mark.parametrize("name", ["addr_list", "name_servers"])
@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("a,b", "blanks go between hosts; write `a b`"),
        ("127.0.0.1;b", "blanks go between hosts"),
        ("::1", "is an IPv6 address, and Channel Access has IPv4 only"),
        ("[::1]:5064", "is an IPv6 address"),
        ("fe80::1", "is an IPv6 address"),
        ("127.0.0.1:99999", "has no port from 1 to 65535"),
        ("a:0", "has no port"),
        ("a:", "has no port"),
        ("a:-1", "has no port"),
        ("a:5064:5", "has no port"),
        ("a:http", "has no port"),
        ("25240", "takes it for the address 0.0.98.152; write host:port"),
        (":5064", "is not the name of a host"),
        ("a/b", "is not the name of a host"),
        ("µ", "is not the name of a host"),
        ("a\x1b[2J", r"`a\x1b[2J` is not the name of a host"),
        ("a\0", "is not the name of a host"),
        ("a" * 256, "is not the name of a host"),
        ("300.1.1.1", "is not an IPv4 address"),
        ("1.2.3.4.5", "is not an IPv4 address"),
        ("4294967296", "is not an IPv4 address"),
    ],
    ids=ascii,
)
def test_configure_refuses_hosts_that_libca_would_leave_out(name: str, word: str, why: str) -> None:
    before = dict(os.environ)
    for hosts in (word, f"good {word}", [word], ["good", word], iter([word])):
        settings: dict[str, Any] = {name: hosts}
        with pytest.raises(ValueError, match=re.escape(why)) as raised:
            configure(**settings)
        assert str(raised.value).startswith(f"{name}: ")
        assert str(raised.value).isprintable()
    assert os.environ == before


def test_configure_takes_what_libca_takes() -> None:
    """Each form of an address is accepted; an empty text is a list without hosts."""
    for hosts in ("", "127.0.0.1 127.1:5 a-b.c_d:65535\t2130706433", "0x7f000001 1a"):
        kept = {"EPICS_CA_ADDR_LIST": " ".join(hosts.split())} if hosts else {}
        assert configured(f'{{"addr_list": {json.dumps(hosts)}}}') == kept


def test_configure_leaves_what_is_not_given() -> None:
    assert configured("{}", EPICS_CA_CONN_TMO="7") == {"EPICS_CA_CONN_TMO": "7"}
    assert configured('{"addr_list": "x"}', EPICS_CA_CONN_TMO="7") == {
        "EPICS_CA_ADDR_LIST": "x",
        "EPICS_CA_CONN_TMO": "7",
    }


@pytest.mark.unit
@pytest.mark.parametrize(
    ("auto_addr_list", "local_networks"),
    [
        (None, True), ("", True), ("YES", True), ("No", True), ("nO", True),
        ("x" * 30 + "NO", True),
        ("NO", False), ("no", False), (" NO", False), ("know", False), ("x" * 29 + "NO", False),
    ],
)  # fmt: skip
def test_an_error_names_the_local_networks_where_libca_searches_them(
    auto_addr_list: str | None, local_networks: bool
) -> None:
    """As libca reads the setting. `aioca doctor` uses this too: its tests compare it with libca."""
    where = searched({"EPICS_CA_AUTO_ADDR_LIST": auto_addr_list})
    assert ("local networks" in where) == local_networks


CHANGED_TOO_LATE = """
import os, sys
import aioca

async def complain():
    try:
        await aioca.connect("NOBODY", timeout=0.1)
    except aioca.CATimeout as error:
        print(error, flush=True)

async def main():
    os.environ["EPICS_CA_ADDR_LIST"] = "127.0.0.1:7777"  # in time
    await complain()
    os.environ["EPICS_CA_ADDR_LIST"] = "127.0.0.1:8888"
    await complain()
    os.environ["EPICS_CA_SERVER_PORT"] = "6064"
    os.environ["EPICS_CA_AUTO_ADDR_LIST"] = "YES"
    del os.environ["EPICS_CA_ADDR_LIST"]
    await complain()
    try:
        await aioca.wait_for_value("NOBODY", 1, timeout=0.1)
    except aioca.CATimeout as error:
        print(error, flush=True)

os.environ["EPICS_CA_ADDR_LIST"] = "127.0.0.1:6666"
aioca.run(main(), backend=sys.argv[1])
if (child := os.fork()) == 0:  # which reads its environment for itself
    os.environ["EPICS_CA_ADDR_LIST"] = "127.0.0.1:9999"
    os.environ["EPICS_CA_AUTO_ADDR_LIST"] = "NO"
    aioca.run(complain(), backend=sys.argv[1])
    os._exit(0)
os.waitpid(child, 0)
"""


def test_settings_that_were_changed_too_late(backend: str) -> None:
    """The text of the time-out has the settings that libca has read, not the present ones."""
    done = python(
        CHANGED_TOO_LATE, backend, EPICS_CA_AUTO_ADDR_LIST="NO", EPICS_CA_NAME_SERVERS="",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    in_time, later, more, waiting, child = done.stdout.splitlines()
    for text in (in_time, later, more, waiting):
        assert "searched EPICS_CA_ADDR_LIST='127.0.0.1:7777'" in text
    assert "too late" not in in_time
    assert "EPICS_CA_ADDR_LIST was set to '127.0.0.1:8888' too late" in later
    assert "before the first use" in later
    for text in (more, waiting):
        assert "EPICS_CA_ADDR_LIST was unset too late" in text
        assert "EPICS_CA_AUTO_ADDR_LIST was set to 'YES' too late" in text
        assert "EPICS_CA_SERVER_PORT was set to '6064' too late" in text
        assert "and the local networks" not in text
    assert "searched EPICS_CA_ADDR_LIST='127.0.0.1:9999'" in child
    assert "too late" not in child


CONFIGURE_AND_GET = """
import sys
import aioca
pv, port = sys.argv[1:]
aioca.configure(addr_list=[f"127.0.0.1:{port}"], auto_addr_list=False, name_servers="")
print(aioca.run(aioca.caget(pv)))
try:
    aioca.configure(conn_tmo=5)
except RuntimeError as error:
    print(error)
"""


def test_configure_is_for_the_context(ioc: SoftIoc, p: str) -> None:
    """configure() takes effect; when it is too late for that, it raises an error."""
    done = python(CONFIGURE_AND_GET, p + "ai", str(ioc.port), EPICS_CA_ADDR_LIST="127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    value, error = done.stdout.splitlines()
    assert value == "1.5"
    assert "before the first use" in error


async def test_configure_too_late(p: str) -> None:
    await connect(p + "ai")
    before = dict(os.environ)
    with pytest.raises(RuntimeError, match="before the first use"):
        configure(conn_tmo=5)
    with pytest.raises(RuntimeError, match="before the first use"):
        configure()
    assert dict(os.environ) == before


async def test_the_priority_may_be_configured_at_any_time(
    own_ioc: Callable[..., SoftIoc], unique: str
) -> None:
    """It applies to later channels. The server shows that each priority has a circuit."""
    before = dict(os.environ)
    with own_ioc('record(ao, "$(P)a") {} record(ao, "$(P)b") {}', {"P": unique}) as ioc:
        await connect(unique + "a")
        configure(priority=57)
        try:
            await connect(unique + "b")
        finally:
            configure(priority=0)
        circuits = ioc.command("casr 1")
        assert "Priority = 0, 1 Channel" in circuits
        assert "Priority = 57, 1 Channel" in circuits
        with pytest.raises(RuntimeError, match="before the first use"):
            configure(priority=57, conn_tmo=5)  # neither is set
        await connect(unique + "b.DESC")
        assert "Priority = 0, 2 Channels" in ioc.command("casr 1")
    assert dict(os.environ) == before


@pytest.mark.unit
@pytest.mark.parametrize(
    "settings",
    [
        {"addr_list": ["a b"]},
        {"addr_list": [""]},
        {"addr_list": [5]},
        {"addr_list": ["a "]},
        {"addr_list": b"a"},
        {"name_servers": ["a\tb"]},
        {"auto_addr_list": "No"},  # libca reads it as yes
        {"auto_addr_list": 0},
        {"auto_array_bytes": "YES"},
        {"server_port": 5000},  # libca ignores ports up to 5000
        {"server_port": 65536},
        {"server_port": "5064"},
        {"server_port": True},
        {"server_port": 5064.5},
        {"repeater_port": 80},
        {"conn_tmo": 0},
        {"conn_tmo": -1},
        {"conn_tmo": float("nan")},
        {"conn_tmo": float("inf")},
        {"max_array_bytes": 0},
        {"max_array_bytes": 100000.5},
        {"priority": -1},
        {"priority": 100},
        {"priority": 1.5},
        {"priority": True},
    ],
    ids=str,
)
def test_configure_refuses(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from aioca._ca import context as _client

    monkeypatch.setattr(_client, "_shared", None)  # as at the start of a process
    monkeypatch.setattr(os, "environ", {"UNTOUCHED": "yes"})
    (name,) = settings
    with pytest.raises(ValueError, match=name):
        configure(**{"addr_list": "x", **settings})
    assert os.environ == {"UNTOUCHED": "yes"}


async def test_a_channel_on_a_circuit_that_was_lost_is_searched_for_again(
    own_ioc: Callable[..., SoftIoc], unique: str
) -> None:
    """libca itself would wait for ten seconds.

    It reports only the loss of a circuit, not the channels that were on it. Young channels that
    have never been connected may have been.
    """
    ioc = own_ioc('record(ao, "$(P)X") {}', {"P": unique})
    context = current()
    channel = context.channel(unique + "X")

    def lost(from_server: bool) -> None:
        # A failure that libca itself has detected has a line of its source code
        messages._on_exception(
            messages._ExceptionArgs(stat=libca.ECA_DISCONN, op=5, file=not from_server)
        )

    lost(False)
    with anyio.fail_after(5):
        while not channel._searches:
            await anyio.sleep(0.01)  # poll until libca has destroyed the circuit
    # A message of a server about circuits is ignored: it could keep all channels from connecting
    lost(True)
    await anyio.sleep(2 * reconnect._QUIET_SECONDS)  # nothing must happen
    assert channel._searches == 1
    # A server may accept no circuit at all: then only libca's own, slower search continues
    for _ in range(10):
        channel.circuit_lost()
    assert channel._searches == _channel._MAX_NEW_SEARCHES
    await anyio.to_thread.run_sync(ioc.start)
    assert await connect(unique + "X", timeout=20)
    channel._searches = 0
    lost(False)
    await anyio.sleep(2 * reconnect._QUIET_SECONDS)  # nothing must happen
    assert channel._searches == 0
