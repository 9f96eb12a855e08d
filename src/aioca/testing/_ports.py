"""Where soft IOCs of tests listen and their clients search: ports of 127.0.0.1."""

from __future__ import annotations

import ipaddress
import itertools
import os
import random
import socket
import sys
from collections.abc import Iterable

# Below what the kernels of Linux (32768), macOS and Windows give to clients: a socket that some
# client opens would take the port between here and the start of the IOC. Processes that run at
# the same time, such as those of pytest-xdist, take theirs from different parts.
_FIRST, _PART, _PARTS = 20000, 512, 24
_turn = itertools.count(random.SystemRandom().randrange(_PART))


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now, for TCP and for UDP; each call gives another."""
    first = _FIRST + os.getpid() % _PARTS * _PART
    for _ in range(_PART):
        port = first + next(_turn) % _PART
        if is_free(port):
            return port
    raise OSError(f"no port from {first} to {first + _PART - 1} is free for both TCP and UDP")


def is_free(port: int) -> bool:
    """Whether nobody uses a port of 127.0.0.1."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def loopback_environment(ports: int | Iterable[int]) -> dict[str, str]:
    """Settings with which a client searches 127.0.0.1 at these ports and nowhere else.

    Args:
        ports: the port of one `SoftIoc`, or those of several.

    Returns:
        dict[str, str]: for ``os.environ``, before the first use of Channel Access in a process.
    """
    ports = [ports] if isinstance(ports, int) else list(ports)
    return {
        "EPICS_CA_ADDR_LIST": " ".join(f"127.0.0.1:{port}" for port in ports),
        "EPICS_CA_AUTO_ADDR_LIST": "NO",
        "EPICS_CA_NAME_SERVERS": "",
    }


class Loopback:
    """Confines Channel Access of the process to 127.0.0.1; has the ports that it searches there.

    libca reads the list of addresses once in a process, so there is a fixed number of ports,
    which one IOC after the other is given.

    Args:
        count: how many IOCs can run at a time.
        servers: further servers to search: ``host`` or ``host:port`` of this machine.

    Raises:
        ValueError: one of them is on another machine.
    """

    def __init__(self, count: int, servers: Iterable[str] = ()) -> None:
        self._servers = [_checked(server) for server in servers]
        self._kept: list[socket.socket] = []
        self._ports = [self._keep_port() for _ in range(count)]
        self._free = list(self._ports)
        self._before: dict[str, str] | None = None

    def confine(self) -> None:
        """Set the environment, whatever it was; to come before the first use of libca."""
        self._before = _epics_settings()
        self._replace_settings(self.environment())

    def check(self) -> None:
        """See that nothing has set another environment since.

        Raises:
            RuntimeError: something has.
        """
        for name in ("EPICS_CA_ADDR_LIST", "EPICS_CA_AUTO_ADDR_LIST", "EPICS_CA_NAME_SERVERS"):
            found = os.environ.get(name)
            if found != self.environment()[name]:
                raise RuntimeError(
                    f"{name} has been set to {found!r} after Channel Access was confined to this"
                    " machine for the tests; as it could reach real IOCs, it is not used"
                )

    def environment(self) -> dict[str, str]:
        """With what clients search here only, and servers offer themselves here only."""
        environment = loopback_environment(self._ports)
        addresses = [environment["EPICS_CA_ADDR_LIST"], *self._servers]
        return {
            **environment,
            "EPICS_CA_ADDR_LIST": " ".join(addresses),
            "EPICS_CAS_INTF_ADDR_LIST": "127.0.0.1",
            "EPICS_CAS_BEACON_ADDR_LIST": "127.0.0.1",
            "EPICS_CAS_AUTO_BEACON_ADDR_LIST": "NO",
        }

    def release(self) -> None:
        """Let the ports go, and have the environment as it was."""
        for held in self._kept:
            held.close()
        if self._before is not None:
            self._replace_settings(self._before)

    def take(self) -> int | None:
        """A port for an IOC; None if all are taken."""
        return self._free.pop(0) if self._free else None

    def give_back(self, port: int) -> None:
        """Its IOC has ended for good."""
        self._free.append(port)

    def _keep_port(self) -> int:
        """A port that no other program is given by the kernel as long as we run."""
        for _ in range(100):
            port = free_port()
            if sys.platform != "linux":
                return port
            # On Linux this does not keep the IOC from listening there: it allows reuse, too.
            held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                held.bind(("127.0.0.1", port))
            except OSError:
                held.close()
                continue
            self._kept.append(held)
            return port
        raise OSError("no port could be kept")

    @staticmethod
    def _replace_settings(settings: dict[str, str]) -> None:
        for name in _epics_settings():
            del os.environ[name]
        os.environ.update(settings)


def _epics_settings() -> dict[str, str]:
    return {name: text for name, text in os.environ.items() if name.startswith("EPICS_CA")}


def _checked(server: str) -> str:
    host = server.rpartition(":")[0] if ":" in server else server
    try:
        is_here = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_here = False
    if not is_here:
        raise ValueError(f"{server!r} is not on this machine: 127.0.0.1 or 127.0.0.1:PORT")
    return server
