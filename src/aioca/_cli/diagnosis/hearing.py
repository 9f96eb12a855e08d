"""Listen for the beacons of servers, through the CA repeater of this host."""

from __future__ import annotations

import socket
import time

from ..wire.protocol import ProtocolError, beacons, take
from ..wire.repeater import registered
from ..wire.search import Host

_REGISTER_SECONDS = 2.0
_ATTEMPT_SECONDS = 0.2


def listen(
    servers: set[Host], repeater_port: int, default_port: int, seconds: float
) -> set[Host] | None:
    """Return those of the servers of which a beacon has arrived; None without a repeater.

    Blocks until all have been heard, or `seconds` have passed.

    Args:
        servers: the addresses of the servers.
        repeater_port: the port of the repeater.
        default_port: the port of servers whose beacons have none.
        seconds: how long to listen.
    """
    heard: set[Host] = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("", 0))
        if not _register(sock, repeater_port):
            return None
        until = time.monotonic() + seconds
        while heard != servers and (left := until - time.monotonic()) > 0:
            sock.settimeout(left)
            try:
                data, source = sock.recvfrom(65536)
                messages, _ = take(data)
            except (TimeoutError, ConnectionError, ProtocolError):
                continue
            found = {beacon.server for beacon in beacons(messages, source[0], default_port)}
            heard |= found & servers
    return heard


def _register(sock: socket.socket, port: int) -> bool:
    until = time.monotonic() + _REGISTER_SECONDS
    while time.monotonic() < until:
        begin = time.monotonic()
        if registered(sock, port, _ATTEMPT_SECONDS):
            return True
        # A refusal comes at once: wait for the rest of the attempt.
        time.sleep(max(0.0, _ATTEMPT_SECONDS - (time.monotonic() - begin)))
    return False
