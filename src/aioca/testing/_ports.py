"""The ports of 127.0.0.1 where soft IOCs for tests listen and their clients search.

Invariant: with the settings of this module, nothing is sent to another machine.
"""

from __future__ import annotations

import ipaddress
import itertools
import os
import random
import socket
import sys
from collections.abc import Iterable

from .._ports import bind_error

# These ports are below those that the kernels of Linux (32768 and up), macOS and Windows give to
# clients. Otherwise a client's socket could take the port before the IOC has started. Processes
# that run at the same time, such as those of pytest-xdist, use different ranges.
_FIRST_PORT = 20000
_RANGE_SIZE = 512  # ports
_RANGES = 24  # the last one ends at 32287
_turn = itertools.count(random.SystemRandom().randrange(_RANGE_SIZE))


def free_port() -> int:
    """A port of 127.0.0.1 that is free for TCP and UDP now; another one for each call."""
    first = _FIRST_PORT + os.getpid() % _RANGES * _RANGE_SIZE
    for _ in range(_RANGE_SIZE):
        port = first + next(_turn) % _RANGE_SIZE
        if is_free(port):
            return port
    raise OSError(f"no port from {first} to {first + _RANGE_SIZE - 1} is free for both TCP and UDP")


def is_free(port: int) -> bool:
    """Whether a port of 127.0.0.1 is free for TCP and UDP."""
    return not any(
        bind_error("127.0.0.1", port, kind, reuse=False)
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
    )


def loopback_environment(ports: int | Iterable[int]) -> dict[str, str]:
    """Environment variables with which a client searches 127.0.0.1 at these ports only.

    Args:
        ports: the port of one `SoftIoc`, or the ports of several.

    Returns:
        dict[str, str]: the variables. Set them in ``os.environ`` before the process first uses
        Channel Access.
    """
    ports = [ports] if isinstance(ports, int) else list(ports)
    return {
        "EPICS_CA_ADDR_LIST": " ".join(f"127.0.0.1:{port}" for port in ports),
        "EPICS_CA_AUTO_ADDR_LIST": "NO",
        "EPICS_CA_NAME_SERVERS": "",
    }


class Loopback:
    """Confines Channel Access of this process to 127.0.0.1, and owns the ports that it searches.

    libca reads the list of addresses once in a process. So the number of ports is fixed, and
    successive IOCs use them in turn.

    Args:
        count: how many IOCs can run at a time.
        servers: further servers to search: ``host`` or ``host:port`` of this machine.

    Raises:
        ValueError: a server is on another machine.
    """

    def __init__(self, count: int, servers: Iterable[str] = ()) -> None:
        self._servers = [_checked(server) for server in servers]
        self._kept: list[socket.socket] = []
        self._ports = [self._keep_port() for _ in range(count)]
        self._free = list(self._ports)
        self._before: dict[str, str] | None = None

    def confine(self) -> None:
        """Replace all ``EPICS_CA*`` variables. Call this before the first use of libca."""
        self._before = _epics_settings()
        self._replace_settings(self.environment())

    def check(self) -> None:
        """Check that the environment is still as `confine` has set it.

        Raises:
            RuntimeError: the addresses to search have been changed.
        """
        for name in ("EPICS_CA_ADDR_LIST", "EPICS_CA_AUTO_ADDR_LIST", "EPICS_CA_NAME_SERVERS"):
            found = os.environ.get(name)
            if found != self.environment()[name]:
                raise RuntimeError(
                    f"{name} has been set to {found!r} after Channel Access was confined to this"
                    " machine for the tests; as it could reach real IOCs, it is not used"
                )

    def environment(self) -> dict[str, str]:
        """The variables with which clients and servers use this machine only."""
        environment = loopback_environment(self._ports)
        addresses = [environment["EPICS_CA_ADDR_LIST"], *self._servers]
        return {
            **environment,
            "EPICS_CA_ADDR_LIST": " ".join(addresses),
            "EPICS_CAS_INTF_ADDR_LIST": "127.0.0.1",
            "EPICS_CAS_BEACON_ADDR_LIST": "127.0.0.1",
            "EPICS_CAS_AUTO_BEACON_ADDR_LIST": "NO",
        }

    def close(self) -> None:
        """Release all ports and restore the environment."""
        for held in self._kept:
            held.close()
        if self._before is not None:
            self._replace_settings(self._before)

    def take(self) -> int | None:
        """Reserve a port for an IOC and return it; None if all ports are in use."""
        return self._free.pop(0) if self._free else None

    def release(self, port: int) -> None:
        """Make a port available for another IOC."""
        self._free.append(port)

    def _keep_port(self) -> int:
        """Find a port and hold it, so that the kernel gives it to no other program."""
        for _ in range(100):
            port = free_port()
            if sys.platform != "linux":
                return port
            # On Linux the IOC can still listen on the held port, as both set SO_REUSEADDR.
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
