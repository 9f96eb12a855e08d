"""The ports of soft IOCs."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from aioca.testing import SoftIocError, free_port, loopback_environment
from aioca.testing._ports import is_free
from tests.support.proc import alive
from tests.support.soft_iocs import ONE, MakeIoc, pid_of


def test_a_free_port_is_free_for_tcp_and_udp() -> None:
    for port in {free_port() for _ in range(20)}:
        assert 5000 < port < 65536
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        ):
            tcp.bind(("127.0.0.1", port))
            udp.bind(("127.0.0.1", port))


def test_a_free_port_is_none_that_a_client_gets() -> None:
    """Another program's client may open its socket before the IOC does."""
    if sys.platform == "linux":
        clients_first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        if clients_first >= 32768:  # the default has not been lowered
            assert all(free_port() < clients_first for _ in range(1000))


def test_ports_of_many_calls_differ() -> None:
    assert len({free_port() for _ in range(100)}) == 100


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["TCP", "UDP"])
def test_a_port_that_is_taken(own_ioc: MakeIoc, unique: str, kind: int) -> None:
    """free_port() does not return it; an IOC with this port fails at once."""
    ioc = own_ioc(ONE, {"P": unique})
    with socket.socket(socket.AF_INET, kind) as other:
        if kind == socket.SOCK_STREAM:  # TCP connections of other tests may not be closed yet
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", ioc.port))
        if kind == socket.SOCK_STREAM:
            other.listen()
        assert not is_free(ioc.port)
        with pytest.raises(SoftIocError, match=f"port {ioc.port} is used by another program"):
            ioc.start()
    assert ioc.process is None
    ioc.start()


def test_loopback_environment() -> None:
    one = loopback_environment(6000)
    assert one["EPICS_CA_ADDR_LIST"] == "127.0.0.1:6000"
    assert one["EPICS_CA_AUTO_ADDR_LIST"] == "NO"
    assert loopback_environment([6000, 6001])["EPICS_CA_ADDR_LIST"] == (
        "127.0.0.1:6000 127.0.0.1:6001"
    )
    assert loopback_environment(iter([6000])) == one


def test_the_port_stays_over_a_restart(own_ioc: MakeIoc, unique: str) -> None:
    ioc = own_ioc(ONE, {"P": unique})
    port = ioc.port
    ioc.start()
    first = pid_of(ioc)
    ioc.restart()
    assert pid_of(ioc) != first
    assert not alive(first)
    assert ioc.port == port
    assert (port, "127.0.0.1") in listening(pid_of(ioc))


def sockets_of(pid: int, kind: str) -> list[tuple[str, int, str]]:
    """Local address, local port and state of the sockets that a process holds."""
    inodes = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(fd)
        except FileNotFoundError:  # closed since the listing
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = []
    for line in Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[9] in inodes:
            address, port = fields[1].split(":")
            if kind.endswith("6"):
                host = address
            else:
                host = socket.inet_ntoa(int(address, 16).to_bytes(4, sys.byteorder))
            found.append((host, int(port, 16), fields[3]))
    return found


def listening(pid: int) -> list[tuple[int, str]]:
    return [(port, host) for host, port, state in sockets_of(pid, "tcp") if state == "0A"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is how the sockets are found")
def test_it_is_on_loopback_only(own_ioc: MakeIoc, unique: str) -> None:
    """Sockets that accept connections, searches or beacons are bound to 127.0.0.1."""
    ioc = own_ioc(ONE, {"P": unique})
    ioc.start()
    pid = pid_of(ioc)
    assert listening(pid) == [(ioc.port, "127.0.0.1")]
    assert sockets_of(pid, "tcp6") == []
    assert sockets_of(pid, "udp6") == []
    udp = sockets_of(pid, "udp")
    assert {host for host, port, _ in udp if port == ioc.port} == {"127.0.0.1"}
    # EPICS has sockets for sending beacons, which are bound to no address. The kernel chose their
    # port, which is not a known port of EPICS.
    known = {5064, 5065, 5075, 5076}
    assert not [entry for entry in udp if entry[1] in known and entry[0] != "127.0.0.1"]


def test_it_starts_no_repeater_and_no_other_process(own_ioc: MakeIoc, unique: str) -> None:
    ioc = own_ioc(ONE, {"P": unique})
    ioc.start()
    children = Path(f"/proc/{pid_of(ioc)}/task").glob("*/children")
    assert [file.read_text() for file in children if file.read_text()] == []
