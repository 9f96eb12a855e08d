"""``aioca repeater``: it serves raw clients, and real ones of libca, and notices their end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import textwrap
import time
from collections.abc import Iterator

import pytest

from aioca._cli import main
from aioca._cli.wire import protocol
from aioca._cli.wire.protocol import Message
from aioca._cli.wire.repeater import Repeater, registered, repeater_runs
from aioca.testing import SoftIoc, free_port
from tests.support.base_tools import MISSING, base_environment, base_tool, find_base
from tests.support.commands import Output, in_terminal, run_cli, started
from tests.support.programs import programs

BEACON = bytes(Message(13, 13, 6064, 7))


@pytest.fixture
def repeater() -> Iterator[Repeater]:
    """Without a process of its own: it is given what it is to take, and its log is `events`."""
    events.clear()
    made = Repeater(0, events.append)
    yield made
    made.close()


events: list[str] = []


@pytest.fixture
def clients() -> Iterator[list[socket.socket]]:
    some = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
    for sock in some:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5.0)
    yield some
    for sock in some:
        sock.close()


def _received(sock: socket.socket) -> list[Message]:
    return protocol.take(sock.recv(65536))[0]


def _nothing_more(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return not sock.recv(65536)
    except BlockingIOError:
        return True
    finally:
        sock.settimeout(5.0)


# -- What it does with a datagram ------------------------------------------------------------------


def test_clients_are_confirmed_and_get_beacons(
    repeater: Repeater, clients: list[socket.socket]
) -> None:
    for client in clients:
        repeater.take(protocol.register(), client.getsockname())
        assert _received(client) == [Message(protocol.REPEATER_CONFIRM, second=0x7F000001)]
    for client in clients[:2]:  # each of the others that came later was a reason to look
        while not _nothing_more(client):
            pass
    repeater.take(BEACON, ("10.1.2.3", 5064))
    for client in clients:
        assert _received(client) == [Message(13, 13, 6064, 7, 0x0A010203)]  # from whom it came
    repeater.take(bytes(Message(13, 13, 6064, 8, 0x0A090909)), ("10.1.2.3", 5064))
    assert _received(clients[0])[0].second == 0x0A090909  # which it knew better


def test_nobody_hears_himself(repeater: Repeater, clients: list[socket.socket]) -> None:
    one, two, _ = clients
    for client in (one, two):
        repeater.take(b"", client.getsockname())  # as clients of old times register
        assert _received(client)[0].command == protocol.REPEATER_CONFIRM
    assert _received(one) == [Message(0)]
    repeater.take(BEACON, one.getsockname())
    assert _received(two)[0].command == protocol.IS_UP
    assert _nothing_more(one)


def test_a_registration_may_have_something_behind_it(
    repeater: Repeater, clients: list[socket.socket]
) -> None:
    one, two, _ = clients
    repeater.take(protocol.register(), two.getsockname())
    repeater.take(protocol.register() + BEACON, one.getsockname())
    assert _received(one)[0].command == protocol.REPEATER_CONFIRM
    commands = [_received(two)[0].command for _ in range(3)]
    assert commands == [protocol.REPEATER_CONFIRM, protocol.VERSION, protocol.IS_UP]


def test_registering_twice_is_confirmed_twice(
    repeater: Repeater, clients: list[socket.socket]
) -> None:
    for _ in range(2):
        repeater.take(protocol.register(), clients[0].getsockname())
        assert _received(clients[0])[0].command == protocol.REPEATER_CONFIRM
    assert len(events) == 1


def test_what_is_no_channel_access_is_not_passed_on(
    repeater: Repeater, clients: list[socket.socket]
) -> None:
    repeater.take(protocol.register(), clients[0].getsockname())
    _received(clients[0])
    for junk in (b"x", b"\xff" * 16, BEACON[:-1], BEACON + b"x", os.urandom(3), b"\0\6" * 9):
        repeater.take(junk, ("10.1.2.3", 5064))
    assert _nothing_more(clients[0])


SEARCH = protocol.search("SOME:PV", 3, reply=False)
ANSWER = bytes(Message(protocol.SEARCH, 5064, 0, 0xFFFFFFFF, 3, b"\0\x0d" + bytes(6)))
FAR = ("10.1.2.3", 5064)


@pytest.mark.parametrize(
    ("datagram", "numbers"),
    [
        (SEARCH, []),
        (protocol.version() + SEARCH, []),  # as libca sends it
        (ANSWER, []),
        (bytes(Message(11, second=3, payload=SEARCH)), []),  # an exception
        (bytes(Message(protocol.NOT_FOUND, 10, 13, 3, 3)), []),
        (protocol.version(), []),
        (bytes(Message(0)), []),
        (protocol.confirm("127.0.0.1"), []),
        (BEACON + SEARCH, [7]),
        (SEARCH + BEACON + ANSWER, [7]),
        (BEACON + bytes(Message(13, 13, 6064, 8)), [7, 8]),
        (bytes(Message(13, 13, 6064, 9, payload=SEARCH)), [9]),  # which it has not, in any version
        (protocol.register() + SEARCH + BEACON, [7]),
        (protocol.register() + SEARCH, []),
        (bytes.fromhex("000dffff000d0000 00000007 00000000 00000000 00010000"), []),  # no port
        (BEACON + SEARCH[:-1], []),
    ],
    ids=ascii,
)
def test_beacons_are_passed_on_and_nothing_else(
    repeater: Repeater, clients: list[socket.socket], datagram: bytes, numbers: list[int]
) -> None:
    one, two, _ = clients
    repeater.take(protocol.register(), two.getsockname())
    repeater.take(protocol.register(), one.getsockname())
    assert [_received(two)[0].command for _ in range(2)] == [17, 0]  # the confirmation, a look
    repeater.take(datagram, one.getsockname() if datagram[1] == 24 else FAR)
    if numbers:
        messages = _received(two)
        assert [message.first for message in messages] == numbers
        assert {(m.command, m.data_type, m.count, m.payload) for m in messages} == {
            (protocol.IS_UP, 13, 6064, b"")
        }
        assert all(message.second for message in messages)  # from whom it came
    assert _nothing_more(two)


def test_only_clients_of_this_host_are_served(repeater: Repeater) -> None:
    repeater.take(protocol.register(), ("198.51.100.7", 4000))
    repeater.take(protocol.register(), ("0.0.0.0", 0))
    assert events == []


def test_clients_that_have_ended_are_forgotten(
    repeater: Repeater, clients: list[socket.socket]
) -> None:
    stays, leaves, comes = clients
    for client in (stays, leaves):
        repeater.take(protocol.register(), client.getsockname())
    address = leaves.getsockname()
    leaves.close()
    repeater.take(BEACON, ("10.1.2.3", 5064))  # refused, which the system tells the next time
    repeater.take(protocol.register(), comes.getsockname())
    assert events[-1] == f"127.0.0.1:{address[1]} is gone"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:  # and has the same port
        again.settimeout(5.0)
        again.bind(address)
        repeater.take(protocol.register(), address)
        assert _received(again)[0].command == protocol.REPEATER_CONFIRM
        repeater.take(BEACON, ("10.1.2.3", 5064))
        assert _received(again)[0].command == protocol.IS_UP


def test_a_client_that_takes_the_place_of_one_that_left_is_kept(
    repeater: Repeater, clients: list[socket.socket]
) -> None:
    """An error may be that of what was sent to the one before."""
    address = clients[0].getsockname()
    repeater.take(protocol.register(), address)
    clients[0].close()
    repeater.take(BEACON, ("10.1.2.3", 5064))  # refused
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.settimeout(5.0)
        again.bind(address)
        repeater.take(BEACON, ("10.1.2.3", 5064))
        assert _received(again)[0].command == protocol.IS_UP
    assert len(events) == 1


# A client of libca: prints how it stands with the repeater, and how many servers it knows of. What
# libca itself has to say of servers that it cannot connect to comes among that.
CLIENT = """
    import ctypes, os, re, sys, tempfile, time
    from epicscorelibs.lib import Com_dsoinfo, ca_dsoinfo
    com = ctypes.CDLL(Com_dsoinfo.sofilename, ctypes.RTLD_GLOBAL)
    ca = ctypes.CDLL(ca_dsoinfo.sofilename, ctypes.RTLD_GLOBAL)
    ours = os.dup(1)
    os.dup2(ours, 2)
    status = tempfile.TemporaryFile()
    os.dup2(status.fileno(), 1)
    ca.ca_context_create(1)
    ca.ca_create_channel(b"NONE", None, None, 0, ctypes.byref(ctypes.c_void_p()))
    ca.ca_flush_io()
    before = ""
    while True:
        status.truncate(0)
        status.seek(0)
        ca.ca_client_status(20)
        com.fflush(None)
        status.seek(0)
        text = status.read().decode()
        registered = re.search(r"registered=(\\d)", text)[1]
        servers = re.search(r"Beacon source.*\\nHash table with \\d+ buckets and (\\d+)", text)[1]
        now = f"registered={registered} servers={servers}\\n"
        if now != before:
            os.write(ours, now.encode())
            before = now
        time.sleep(0.02)
"""


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[int, Output]]:
    port = free_port()
    with started("repeater", "-v", "--port", str(port), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        output = Output(process.stdout.fileno())
        output.until(lambda text: f"CA repeater at UDP port {port}." in text)
        yield port, output
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM
    assert repeater_runs(port) is False


@pytest.fixture(scope="module", autouse=True)
def libca(running: tuple[int, Output]) -> Iterator[Output]:
    """What a client of libca prints, from the first test on."""
    port = f"os.environ['EPICS_CA_REPEATER_PORT'] = '{running[0]}'"
    with programs(free_port()) as start:
        client = start(f"import os\n{port}\n{textwrap.dedent(CLIENT)}")
        assert client.stdout is not None
        yield Output(client.stdout.fileno())


# -- The command -----------------------------------------------------------------------------------


def test_coming_and_going_is_told(running: tuple[int, Output]) -> None:
    port, output = running
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        assert registered(client, port, 10.0)
        line = f"127.0.0.1:{client.getsockname()[1]}"
        output.until(lambda text: f"{line} has registered" in text)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        give_up = time.monotonic() + 10.0
        while f"{line} is gone" not in output.text:  # beacons find out
            assert time.monotonic() < give_up
            sender.sendto(BEACON, ("127.0.0.1", port))
            try:
                output.until(lambda text: f"{line} is gone" in text, 0.2)
            except AssertionError:
                pass


def test_a_second_one_has_nothing_to_do(
    running: tuple[int, Output],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    port, _ = running
    monkeypatch.setenv("EPICS_CA_REPEATER_PORT", str(port))
    assert main(["repeater"]) == 0
    assert capsys.readouterr() == (f"A CA repeater runs already, at UDP port {port}.\n", "")


@pytest.mark.base
@pytest.mark.skipif(find_base() is None, reason=MISSING)
def test_beside_the_one_of_epics_base(running: tuple[int, Output]) -> None:
    """Who comes second leaves, whichever it is."""
    command = [base_tool("caRepeater")]

    def environment(port: int) -> dict[str, str]:
        return base_environment({"EPICS_CA_REPEATER_PORT": str(port)})

    theirs = subprocess.run(
        command, env=environment(running[0]), timeout=30, check=False, capture_output=True
    )
    assert theirs.returncode == 0
    port = free_port()
    with subprocess.Popen(command, env=environment(port)) as process:
        try:
            give_up = time.monotonic() + 30.0
            while not repeater_runs(port, 0.2):  # it says nothing when it is there
                assert time.monotonic() < give_up
            ours = run_cli("repeater", "--port", str(port))
            assert (ours.returncode, ours.stderr) == (0, "")
        finally:
            process.kill()


def test_a_port_that_something_else_has(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", 0))
        port = taken.getsockname()[1]
        assert repeater_runs(port, 0.05) is None
        assert main(["repeater", "--port", str(port)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(
        f"aioca repeater: a program that is not a CA repeater holds UDP port {port};"
    )
    assert err.count("\n") == 1


def test_in_a_terminal_until_ctrl_c() -> None:
    port = free_port()
    with in_terminal("repeater", "--port", str(port)) as (process, output, keyboard):
        output.until(lambda text: "Ctrl-C ends it." in text)
        assert repeater_runs(port)
        os.write(keyboard, b"\x03")
        assert process.wait(10) == 130
        assert "Traceback" not in output.to_the_end()
    assert repeater_runs(port) is False


def test_clients_of_libca_get_beacons_through_it_and_no_searches(
    running: tuple[int, Output], libca: Output
) -> None:
    """The last one, since libca registers only after 10 s."""
    port, _ = running
    libca.until(lambda text: "registered=1 servers=0\n" in text)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:  # looks for its own PVs
        for number in range(64):  # the number is that of a channel of libca, too
            other.sendto(protocol.search("NONE", number, reply=False), ("127.0.0.1", port))
    with SoftIoc("", environment={"EPICS_CAS_BEACON_PORT": str(port)}):
        libca.until(lambda text: "registered=1 servers=1\n" in text)
    assert "Virtual circuit disconnect" not in libca.text, libca.text  # with 0.0.0.1, and the like
