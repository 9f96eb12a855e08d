"""The CA repeater: one process of a host hears the beacons of servers, and tells all clients.

Servers send beacons to one UDP port of each host, which one process only can have. The others
register with it, and it passes the beacons on to all of them. There is no protocol to leave by; a
client that has ended is noticed when its port refuses what is sent to it.

Nothing but beacons is passed on. libca takes a search request that comes from its repeater for the
answer of a server: it would report that connected PVs are on several servers, and connect to
addresses that nobody has. (The repeater of EPICS base passes on whatever comes.)

It is written here rather than called in libca (`ca_repeater()`): that one never returns, cannot
be told apart from one that has failed to start, and would be one more reason to call into C. It
serves libca's clients, whoever started it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from .protocol import (
    REPEATER_CONFIRM,
    REPEATER_REGISTER,
    Message,
    ProtocolError,
    confirm,
    passed_on,
    register,
    take,
)
from .search import Host

_NOTHING = bytes(Message(0))  # which clients ignore: to see whether they are there
_MOST_CLIENTS = 1000  # each has a socket


class Repeater:
    """A CA repeater.

    Args:
        port: its UDP port.
        log: gets a line for each client that comes or goes.

    Raises:
        OSError: somebody else has the port (``EADDRINUSE``), or there is no such port.
    """

    def __init__(self, port: int, log: Callable[[str], None] | None = None) -> None:
        self._log: Callable[[str], None] = log or _ignore
        self._clients: dict[Host, socket.socket] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind(("", port))
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        """Give back the port. Idempotent."""
        self._socket.close()
        for client in list(self._clients):
            self._clients.pop(client).close()

    def serve(self) -> None:
        """Pass on the beacons that come, for ever."""
        while True:
            try:
                data, source = self._socket.recvfrom(65536)
            except ConnectionError:
                continue  # Windows tells here of what was sent to a client that is gone
            self.take(data, source)

    def take(self, data: bytes, source: Host) -> None:
        """One datagram."""
        try:
            messages, rest = take(data)
        except ProtocolError:
            return
        if rest:
            return
        if not data or messages[0].command == REPEATER_REGISTER:  # without data: in old times
            self._register(source)
        if beacons := passed_on(messages, source[0]):
            self._pass_on(beacons, source)

    def _register(self, client: Host) -> None:
        if client not in self._clients:
            full = len(self._clients) >= _MOST_CLIENTS
            if full or not client[1] or not _is_of_this_host(client[0]):
                return
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)
            try:
                sock.connect(client)
            except OSError:
                sock.close()
                return
            self._clients[client] = sock
            self._log(f"{client[0]}:{client[1]} has come")
            # Where there are no beacons, the sockets of those who left would pile up.
            self._pass_on(_NOTHING, client)
        self._send(client, confirm(client[0]))

    def _pass_on(self, data: bytes, source: Host) -> None:
        for client in list(self._clients):
            if client != source:
                self._send(client, data)

    def _send(self, client: Host, data: bytes) -> None:
        for _ in range(2):  # an error may be that of what was sent before
            try:
                self._clients[client].send(data)
                return
            except ConnectionRefusedError:
                if _is_free(client):
                    break
            except OSError:
                return  # too much at once: it is lost, as datagrams are
        else:
            return
        self._clients.pop(client).close()
        self._log(f"{client[0]}:{client[1]} has gone")


def _ignore(_line: str) -> None:
    """For those who want no log."""


def _is_of_this_host(address: str) -> bool:
    """Whether an address is one of ours: clients of other hosts have a repeater there."""
    if address.startswith("127."):
        return True
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((address, 9))  # which sends nothing, but chooses from where it would
        except OSError:
            return False
        return bool(sock.getsockname()[0] == address)


def _is_free(address: Host) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(address)
        except OSError:
            return False
    return True


# -- For its clients -------------------------------------------------------------------------------


def repeater_runs(port: int, timeout: float = 1.0) -> bool | None:
    """Whether a CA repeater runs on this host.

    The port is not tried by taking it: one that starts at that moment would think it is not needed.

    Returns:
        bool | None: None if its port is held by something that does not answer as one.
    """
    with _client() as sock, _client() as knocking:
        try:
            # Only a connected socket is told that nobody has the port.
            knocking.connect(("127.0.0.1", port))
            knocking.send(_NOTHING)
            knocking.send(_NOTHING)
        except ConnectionRefusedError:
            return False
        except OSError:
            return None
        if registered(sock, port, timeout):
            return True
        try:
            knocking.send(_NOTHING)
        except ConnectionRefusedError:
            return False
        except OSError:
            pass
        return None


def _client() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def registered(sock: socket.socket, port: int, timeout: float) -> bool:
    """Register a socket, which is not connected, and wait for the confirmation.

    It comes from another port than the one that was written to. What else comes is lost.
    """
    until = time.monotonic() + timeout
    try:
        sock.sendto(register(), ("127.0.0.1", port))
        while (left := until - time.monotonic()) > 0:
            sock.settimeout(left)
            try:
                messages, _ = take(sock.recv(65536))
            except ProtocolError:
                continue
            if any(message.command == REPEATER_CONFIRM for message in messages):
                return True
    except OSError:
        pass  # in time there was nothing
    return False
