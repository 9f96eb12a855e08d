"""The ports of the soft IOCs of this test process.

libca reads the addresses to search once in a process. So the ports of all IOCs are chosen when this
module is imported, and `conftest` calls `search_at_these_ports` before libca is used. `PORTS[0]` is
for the shared IOC. The other ports are for tests that kill, pause or restart an IOC of their own
(fixture `own_ioc`).
"""

from __future__ import annotations

import os
import random
import re
import socket
from pathlib import Path

from aioca.testing import loopback_environment
from aioca.testing._ports import is_free

RECORDS = Path(__file__).with_name("records.db")
ACCESS_SECURITY = Path(__file__).with_name("records.acf")


def _ports(count: int) -> list[int]:
    """Free ports, outside of the ranges of `free_port` and of client sockets.

    Each test process has a range of its own.
    """
    worker = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "gw0")))
    first = 10_000 + 1_000 * worker % 10_000
    some = range(first, first + 1_000)
    ports: list[int] = []
    while len(ports) < count:
        port = random.choice(some)
        if port not in ports and is_free(port):
            ports.append(port)
    return ports


def hold(port: int) -> socket.socket | None:
    """Bind a UDP port of loopback; None if it is in use."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        sock.close()
        return None
    return sock


PORTS = _ports(6)


def search_at_these_ports() -> None:
    """Have this process, and the processes that it starts, search at `PORTS` and nowhere else."""
    for name in [name for name in os.environ if name.startswith("EPICS_CA")]:
        del os.environ[name]
    os.environ.update(loopback_environment(PORTS))
