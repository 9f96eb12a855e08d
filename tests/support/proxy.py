"""A proxy for Channel Access that has faults to order: `CaProxy`.

The proxy stands where clients search. It passes searches on to a server that they do not know of,
and rewrites the replies, so that their circuits lead through it: it is a `Line`.
"""

from __future__ import annotations

import selectors
import socket
import struct
from collections.abc import Callable
from typing import Any

from tests.support.line import CHUNK, Line
from tests.support.sockets import HOST, searched

# A message of Channel Access, as far as it matters here: its command, the size of its payload, the
# data type, the count, and two parameters.
_HEADER = struct.Struct(">HHHHII")
_SEARCH = 6
_FROM_HERE = 0xFFFFFFFF  # for the address of the server: the one that this comes from


class CaProxy(Line):
    """A `Line` that clients find by searching.

    Args:
        port: where they search, and where their circuits come in.
        server_port: where the server listens.
        passes: which names of PVs are looked for at the server; all of them by default.

    Attributes:
        routes: for PVs that are to have circuits of their own: the line that they are sent to.
        searches: how many searches were passed on.
    """

    def __init__(
        self, port: int, server_port: int, *, passes: Callable[[str], bool] = lambda name: True
    ) -> None:
        super().__init__(server_port, port)
        self.routes: dict[str, Line] = {}
        self.searches = 0
        self._passes = passes
        self._deaf = False
        self._udp = searched(port)
        # For each client its own socket to the server, by which replies find their way back; and
        # what it has searched for
        self._relays: dict[Any, socket.socket] = {}
        self._names: dict[tuple[Any, int], str] = {}

    def ignore_searches(self, on: bool = True) -> None:
        """Answer no searches."""
        self._order(lambda: setattr(self, "_deaf", on))

    def _close(self) -> None:
        for sock in (self._udp, *self._relays.values()):
            self._forget(sock)
        super()._close()

    def _interests(self) -> dict[socket.socket, int]:
        wanted = super()._interests()
        wanted.update(dict.fromkeys([self._udp, *self._relays.values()], selectors.EVENT_READ))
        return wanted

    def _happened(self, sock: socket.socket, events: int) -> None:
        if sock is self._udp:
            self._search(sock)
            return
        for client, relay in self._relays.items():
            if sock is relay:
                self._answer(client, relay)
                return
        super()._happened(sock, events)

    def _search(self, sock: socket.socket) -> None:
        try:
            datagram, client = sock.recvfrom(CHUNK)
        except OSError:  # an earlier answer has found nobody
            return
        if self._deaf:
            return
        out = bytearray()
        for command, fields, payload in _messages(datagram):
            if command == _SEARCH:
                name = payload.split(b"\0")[0].decode("utf-8", "replace")
                if not self._passes(name):
                    continue
                self.searches += 1
                self._names[client, fields[4]] = name
            out += _HEADER.pack(command, *fields) + payload
        relay = self._relays.get(client)
        if relay is None:
            relay = self._relays[client] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            relay.setblocking(False)
            relay.connect((HOST, self.server_port))
        _send(relay.send, out)

    def _answer(self, client: Any, relay: socket.socket) -> None:
        try:
            datagram = relay.recv(CHUNK)
        except OSError:  # no server is there
            return
        out = bytearray()
        for command, fields, payload in _messages(datagram):
            size, port, count, parameter, cid = fields
            if command == _SEARCH:
                port = self.routes.get(self._names.get((client, cid), ""), self).port
                parameter = _FROM_HERE
            out += _HEADER.pack(command, size, port, count, parameter, cid) + payload
        _send(lambda data: self._udp.sendto(data, client), out)


def _messages(datagram: bytes) -> list[tuple[int, tuple[int, ...], bytes]]:
    """The messages of a datagram: the command, the other fields of the header, the payload."""
    found = []
    at = 0
    while at + _HEADER.size <= len(datagram):
        command, *fields = _HEADER.unpack_from(datagram, at)
        at += _HEADER.size
        found.append((command, tuple(fields), datagram[at : at + fields[0]]))
        at += fields[0]
    return found


def _send(send: Callable[[bytes], int], data: bytearray) -> None:
    try:
        send(bytes(data))
    except OSError:  # nobody is there; a datagram may be lost
        pass
