"""configure, and the settings of libca."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from aioca import configure, connect
from aioca._ca import libca, messages
from aioca._ca.environment import searched
from aioca._channels import reconnect
from aioca._channels.registry import current
from aioca.testing import SoftIoc
from tests.support.programs import python

pytestmark = pytest.mark.anyio

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
        while not channel.searches:
            await anyio.sleep(0.01)  # poll until libca has destroyed the circuit
    # A message of a server about circuits is ignored: it could keep all channels from connecting
    lost(True)
    await anyio.sleep(2 * reconnect._QUIET_SECONDS)  # nothing must happen
    assert channel.searches == 1
    # A server may accept no circuit at all: then only libca's own, slower search continues
    for _ in range(10):
        reconnect._search_anew(channel)
    assert channel.searches == reconnect._MAX_NEW_SEARCHES
    await anyio.to_thread.run_sync(ioc.start)
    assert await connect(unique + "X", timeout=20)
    channel.searches = 0
    lost(False)
    await anyio.sleep(2 * reconnect._QUIET_SECONDS)  # nothing must happen
    assert channel.searches == 0
