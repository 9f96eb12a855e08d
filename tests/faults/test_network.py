"""Several hosts: searching by broadcast and by name server, an IOC that moves, a cable that is cut.

The hosts are network namespaces, joined by a bridge in another one, which is the switch. Nothing of
it is in the network of this machine, and nothing of it outlives this process: each namespace is
held by a process that ends when its standard input does.

The clients are programs on one of the hosts, one for each backend, at the same time.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aioca.testing import SoftIoc, free_port, loopback_environment
from tests.support.client_program import Program
from tests.support.line import Line
from tests.support.sockets import HOST

BACKENDS = ("asyncio", "trio")
PV = "NET:x"
DATABASE = 'record(ao, "NET:x") { field(VAL, "$(V)") field(PINI, "YES") } record(ao, "NET:$(V)") {}'
PORT = 5064  # nobody else is in these networks

# -- Hosts -----------------------------------------------------------------------------------------

_CLONE_NEWNET = 0x40000000


class Space:
    """A network namespace."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo && exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._holder.stdout is not None
        if not self._holder.stdout.readline():  # that it is in there
            _, error = self._holder.communicate()
            raise OSError(error.strip())
        self.pid = self._holder.pid
        self.path = f"/proc/{self.pid}/ns/net"
        self.enter = ("nsenter", f"--net={self.path}")

    def ip(self, command: str) -> None:
        done = subprocess.run(
            [*self.enter, "ip", *command.split()], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise OSError(f"ip {command}: {done.stderr.strip()}")

    def call(self, function: Callable[[], object]) -> None:
        """Call it in a thread that is in there; the processes that it starts are as well."""
        errors: list[BaseException] = []

        def run() -> None:
            try:
                libc = ctypes.CDLL(None, use_errno=True)
                with open(self.path, "rb") as space:
                    if libc.setns(space.fileno(), _CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")
                function()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]

    def close(self) -> None:
        self._holder.communicate()  # closes its input


class Host(Space):
    """A host on the switch."""

    def __init__(self, switch: Space, number: int) -> None:
        super().__init__()
        self._switch = switch
        self._port = f"port{number}"  # at the switch
        self.address = f"10.77.0.{number}"
        try:
            switch.ip(
                f"link add {self._port} type veth peer name eth0 netns {self.pid}",
            )
            switch.ip(f"link set {self._port} master switch up")
            self.ip("link set lo up")
            self.ip(f"addr add {self.address}/24 brd + dev eth0")
            self.ip("link set eth0 up")
        except BaseException:
            self.close()
            raise

    def plug(self, plugged: bool) -> None:
        """Put its cable into the switch, or pull it out."""
        self._switch.ip(f"link set {self._port} {'up' if plugged else 'down'}")


@contextlib.contextmanager
def network(hosts: int) -> Iterator[list[Host]]:
    with contextlib.ExitStack() as stack:
        switch = Space()
        stack.callback(switch.close)
        switch.ip("link add switch type bridge forward_delay 0")
        switch.ip("link set switch up")
        made = []
        for number in range(1, hosts + 1):
            host = Host(switch, number)
            stack.callback(host.close)
            made.append(host)
        yield made


def why_no_network() -> str:
    """Why this machine lets us have no such network; empty if it does."""
    if sys.platform != "linux":
        return "network namespaces are a thing of Linux"
    for tool in ("unshare", "nsenter", "ip"):
        if shutil.which(tool) is None:
            return f"there is no {tool} here"
    try:
        with network(1):
            return ""
    except OSError as error:
        return f"no network namespaces with a bridge can be made here: {error}"


@pytest.fixture(scope="module")
def permitted() -> None:
    reason = why_no_network()
    if reason:
        pytest.skip(reason)


@pytest.fixture
def hosts(permitted: None) -> Iterator[list[Host]]:
    """The first is for clients, the others for IOCs."""
    with network(3) as made:
        yield made


class HostIoc(SoftIoc):
    """A soft IOC on one of the hosts, as it would be there: on all of its network."""

    def __init__(self, host: Host, value: int) -> None:
        super().__init__(DATABASE, {"V": value}, port=PORT)
        self.host = host
        self.address = f"{host.address}:{PORT}"

    def start(self) -> None:
        self.host.call(super().start)

    def _environment(self) -> dict[str, str]:
        environment = super()._environment()
        return {k: v for k, v in environment.items() if not k.startswith("EPICS_CA")}


@pytest.fixture(scope="module")
def busy_hosts(permitted: None) -> Iterator[tuple[Host, HostIoc, HostIoc]]:
    """A host for clients, and two IOCs on others: tests leave the cables and the IOCs alone."""
    with (
        network(3) as made,
        HostIoc(made[1], 1) as ioc,
        HostIoc(made[2], 2) as other,
    ):
        yield made[0], ioc, other


@contextlib.contextmanager
def ending(ioc: SoftIoc) -> Iterator[None]:
    """A block that the IOC does not outlive; it is started within."""
    try:
        yield
    finally:
        ioc.kill()


# -- Clients ---------------------------------------------------------------------------------------

CLIENT = """
    import json, sys
    import anyio
    from aioca import caget, cainfo, camonitor, caput, run

    def say(*event):
        print(json.dumps(event))

    def update(value):
        say("update", float(value)) if value.ok else say("lost", value.name)

    async def main():
        pv = sys.argv[1]
        async with camonitor(pv, update, all_updates=True, notify_disconnect=True):
            while True:
                line = await anyio.to_thread.run_sync(sys.stdin.readline)
                command, *arguments = line.split() or ["end"]
                if command == "end":
                    return
                elif command == "get":
                    say("got", [float(value) for value in await caget(arguments)])
                elif command == "put":
                    await caput(pv, float(arguments[0]), wait=True)
                    say("put")
                elif command == "host":
                    say("host", (await cainfo(pv)).host)

    run(main(), backend=sys.argv[2])
"""

BY_BROADCAST = {"EPICS_CA_AUTO_ADDR_LIST": "YES", "EPICS_CA_ADDR_LIST": ""}


def by_name_server(*servers: str) -> dict[str, str]:
    return {
        "EPICS_CA_AUTO_ADDR_LIST": "NO",
        "EPICS_CA_ADDR_LIST": "",
        "EPICS_CA_NAME_SERVERS": " ".join(servers),
    }


@contextlib.contextmanager
def clients(host: Host | None, environment: dict[str, str], pv: str = PV) -> Iterator[list[Any]]:
    """One for each backend; they must end well, and soon when they are told to."""
    prefix = () if host is None else host.enter
    with contextlib.ExitStack() as stack:
        programs = [
            stack.enter_context(
                Program(CLIENT, pv, backend, environment=environment, prefix=prefix)
            )
            for backend in BACKENDS
        ]
        yield programs
        told = time.monotonic()
        for program in programs:
            program.tell("end")
        for program in programs:
            program.finish()
        # In 2 s at the most, as it is promised; and a busy machine starts and ends two processes
        assert time.monotonic() - told < 2 + 3


def ask(program: Program, command: str) -> Any:
    program.tell(command)
    return program.event()


def host_of(program: Program) -> str:
    """Of the server that it is connected to."""
    event, address = ask(program, "host")
    assert event == "host"
    return str(address)


# -- Searching -------------------------------------------------------------------------------------


def test_by_broadcast(busy_hosts: tuple[Host, HostIoc, HostIoc]) -> None:
    host, ioc, other = busy_hosts
    spaces = ["/proc/self/ns/net", host.path, ioc.host.path, other.host.path]
    assert len(set(map(os.readlink, spaces))) == 4
    with clients(host, BY_BROADCAST, "NET:1") as programs:
        for program in programs:
            assert program.event() == ["update", 0]
            assert host_of(program) == ioc.address
            assert ask(program, "get NET:1 NET:2") == ["got", [0, 0]]
        other.command("dbpf NET:2 22")
        ioc.command("dbpf NET:1 11")
        for program in programs:
            assert program.event() == ["update", 11]
            assert ask(program, "get NET:2 NET:1") == ["got", [22, 11]]
        assert ioc.client_count() == other.client_count() == 2


def test_by_name_server(busy_hosts: tuple[Host, HostIoc, HostIoc]) -> None:
    """Of which one is not even there: its packets are lost."""
    host, ioc, other = busy_hosts
    servers = "10.77.0.99", ioc.host.address, other.host.address
    other.command("dbpf NET:2 23")
    with clients(host, by_name_server(*servers), "NET:2") as programs:
        for program in programs:
            assert program.event() == ["update", 23]
            assert host_of(program) == other.address
            number, value = ask(program, "get NET:2 NET:1")[1]
            assert number == 23
            assert value in (0, 11)
        assert ioc.client_count() == other.client_count() == 2


# -- Moving ----------------------------------------------------------------------------------------


@pytest.mark.soak
def test_ioc_that_moves(hosts: list[Host]) -> None:
    """It is stopped on one host and started on another: monitors follow it."""
    with clients(hosts[0], BY_BROADCAST) as programs:
        with HostIoc(hosts[1], 1) as ioc:
            for program in programs:
                assert program.event() == ["update", 1]
                assert host_of(program) == ioc.address
            ioc.stop()
            for program in programs:
                assert program.event() == ["lost", PV]
        with HostIoc(hosts[2], 2) as ioc:
            for program in programs:
                assert program.event() == ["update", 2]
                assert host_of(program) == ioc.address
            programs[0].tell("put 3")
            for program in programs:
                program.until(["update", 3])


# -- The cable -------------------------------------------------------------------------------------


def test_cable_that_is_out_for_a_moment(hosts: list[Host]) -> None:
    """Nobody needs to hear of it: what was said meanwhile comes when it is in again."""
    with (
        HostIoc(hosts[1], 1) as ioc,
        clients(hosts[0], BY_BROADCAST) as programs,
    ):
        for program in programs:
            assert program.event() == ["update", 1]
        hosts[1].plug(False)
        ioc.command(f"dbpf {PV} 2")
        for program in programs:  # nothing must come
            with pytest.raises(AssertionError, match="says nothing more"):
                program.event(0.2)
        hosts[1].plug(True)
        for program in programs:
            assert program.event() == ["update", 2]
            assert ask(program, f"get {PV}") == ["got", [2]]


@pytest.mark.soak
def test_cable_that_is_out_for_long(hosts: list[Host]) -> None:
    """The PV is said to be lost; what was written meanwhile comes when it is in again."""
    with (
        HostIoc(hosts[1], 1) as ioc,
        clients(hosts[0], {**BY_BROADCAST, "EPICS_CA_CONN_TMO": "2"}) as programs,
    ):
        for program in programs:
            assert program.event() == ["update", 1]
        hosts[1].plug(False)
        for program in programs:
            assert program.event() == ["lost", PV]
        ioc.command(f"dbpf {PV} 2")
        hosts[1].plug(True)
        for program in programs:
            assert program.event(60) == ["update", 2]
            assert ask(program, f"get {PV}") == ["got", [2]]
        ioc.command(f"dbpf {PV} 3")
        for program in programs:
            # The last value may come twice, as it was sent again and asked for anew.
            assert program.until(["update", 3])[:-1] in ([], [["update", 2]])
            assert host_of(program) == ioc.address


@pytest.mark.soak
def test_ioc_that_moves_while_its_cable_is_out(hosts: list[Host]) -> None:
    """Its host has died without a word, and another one has taken its place."""
    replacement = HostIoc(hosts[2], 7)
    with (
        HostIoc(hosts[1], 1),
        ending(replacement),
        clients(hosts[0], {**BY_BROADCAST, "EPICS_CA_CONN_TMO": "2"}) as programs,
    ):
        for program in programs:
            assert program.event() == ["update", 1]
        hosts[1].plug(False)
        for program in programs:
            assert program.event() == ["lost", PV]
        replacement.start()
        for program in programs:
            assert program.event(40) == ["update", 7]
            assert host_of(program) == replacement.address


# -- Name servers that are dead --------------------------------------------------------------------


@pytest.fixture(scope="module")
def here() -> Iterator[SoftIoc]:
    """An IOC on this host, where these tests can all run."""
    with SoftIoc(DATABASE, {"V": 1}) as ioc:
        yield ioc


@pytest.mark.parametrize("living", ["name server", "search"])
def test_dead_name_servers(here: SoftIoc, living: str) -> None:
    """One refuses connections, one accepts them and says nothing: what others have is found."""
    with Line(here.port) as mute:
        mute.mute()
        dead = [f"{HOST}:{free_port()}", f"{HOST}:{mute.port}"]
        if living == "search":
            environment = {
                **loopback_environment(here.port),
                "EPICS_CA_NAME_SERVERS": " ".join(dead),
            }
        else:
            environment = by_name_server(*dead, f"{HOST}:{here.port}")
        with clients(None, environment) as programs:
            for program in programs:
                assert program.event() == ["update", 1]
                assert ask(program, f"get {PV} NET:1") == ["got", [1, 0]]
            mute.wait(lambda: mute.muted >= 2)  # that they have tried


@pytest.mark.parametrize("kind", ["refuses", "mute"])
def test_no_name_server_but_a_dead_one(here: SoftIoc, kind: str) -> None:
    """What nobody has is not found, and the program can still end (see `clients`)."""
    with Line(here.port) as line:
        line.mute() if kind == "mute" else line.refuse()
        with clients(None, by_name_server(f"{HOST}:{line.port}")) as programs:
            if kind == "mute":
                line.wait(lambda: line.muted >= 2)
            for program in programs:  # nothing must come
                with pytest.raises(AssertionError, match="says nothing more"):
                    program.event(0.3)
