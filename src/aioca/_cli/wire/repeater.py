"""The CA repeater: one process on a host receives beacons, and passes them on to all clients.

Servers send beacons to one UDP port of each host. Only one process can bind that port: the
repeater. Clients register with the repeater. The protocol has no message to unregister; the
repeater notices that a client has ended when the client's port refuses a datagram.

Only beacons are passed on. libca treats a search request from its repeater as the answer of a
server: it would report that connected PVs are on several servers, and connect to addresses that do
not exist. (The repeater of EPICS base passes on every message.)

libca's `ca_repeater()` is not used, because it never returns, does not report whether it has
started, and would add a call into C. This repeater serves clients of libca and of any other
implementation.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from ..._ports import bind_error
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

_EMPTY_MESSAGE = bytes(Message(0))  # clients ignore it; a closed port refuses it
_MAX_CLIENTS = 1000  # each needs a socket


class Repeater:
    """A CA repeater. All methods are called in one thread.

    Args:
        port: its UDP port.
        log: is called with a line for each client that registers or is gone.

    Raises:
        OSError: another program holds the port (``EADDRINUSE``), or it cannot be bound.
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
        """Close the port and the sockets of the clients. May be called again."""
        self._socket.close()
        for client in list(self._clients):
            self._clients.pop(client).close()

    def serve(self) -> None:
        """Receive and pass on beacons. Blocks, and never returns."""
        while True:
            try:
                data, source = self._socket.recvfrom(65536)
            except ConnectionError:
                continue  # on Windows: an earlier datagram to a client that has ended
            self.take(data, source)

    def take(self, data: bytes, source: Host) -> None:
        """Handle one datagram: register its sender, or pass on its beacons."""
        try:
            messages, rest = take(data)
        except ProtocolError:
            return
        if rest:
            return
        if not data or messages[0].command == REPEATER_REGISTER:  # old clients send no data
            self._register(source)
        if beacons := passed_on(messages, source[0]):
            self._pass_on(beacons, source)

    def _register(self, client: Host) -> None:
        if client not in self._clients:
            full = len(self._clients) >= _MAX_CLIENTS
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
            self._log(f"{client[0]}:{client[1]} has registered")
            # Finds clients that have ended; without beacons, their sockets would accumulate.
            self._pass_on(_EMPTY_MESSAGE, client)
        self._send(client, confirm(client[0]))

    def _pass_on(self, data: bytes, source: Host) -> None:
        for client in list(self._clients):
            if client != source:
                self._send(client, data)

    def _send(self, client: Host, data: bytes) -> None:
        for _ in range(2):  # the error can belong to the previous datagram
            try:
                self._clients[client].send(data)
                return
            except ConnectionRefusedError:
                if not bind_error(*client, socket.SOCK_DGRAM, reuse=False):
                    break  # the port is free, so the client has ended
            except OSError:
                return  # the buffer is full: this datagram is lost
        else:
            return
        self._clients.pop(client).close()
        self._log(f"{client[0]}:{client[1]} is gone")


def _ignore(_line: str) -> None:
    """Log nothing."""


def _is_of_this_host(address: str) -> bool:
    """Whether an address is one of this host; other hosts have repeaters of their own."""
    if address.startswith("127."):
        return True
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((address, 9))  # sends nothing, but selects the local address
        except OSError:
            return False
        return bool(sock.getsockname()[0] == address)


# -- For its clients -------------------------------------------------------------------------------


def repeater_runs(port: int, timeout: float = 1.0) -> bool | None:
    """Whether a CA repeater runs on this host. Blocks for up to `timeout` seconds.

    The test does not bind the port: a repeater that starts at that moment would find it in use, and
    end.

    Returns:
        bool | None: None if a program that does not answer like a repeater holds the port.
    """
    with _client() as sock, _client() as knocking:
        try:
            # Only a connected socket gets the error that nothing listens at the port.
            knocking.connect(("127.0.0.1", port))
            knocking.send(_EMPTY_MESSAGE)
            knocking.send(_EMPTY_MESSAGE)
        except ConnectionRefusedError:
            return False
        except OSError:
            return None
        if registered(sock, port, timeout):
            return True
        try:
            knocking.send(_EMPTY_MESSAGE)
        except ConnectionRefusedError:
            return False
        except OSError:
            pass
        return None


def _client() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def registered(sock: socket.socket, port: int, timeout: float) -> bool:
    """Register an unconnected socket, and wait for the confirmation; returns whether it came.

    Blocks for up to `timeout` seconds. The confirmation comes from another port than the one that
    the registration was sent to. Other messages that arrive before it are discarded.
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
        pass  # no confirmation in time, or the port refused the registration
    return False
