"""Where the servers and proxies of the tests listen: on this host only."""

from __future__ import annotations

import socket

HOST = "127.0.0.1"


def listening(port: int, receive_buffer: int | None = None) -> socket.socket:
    """A socket that accepts connections at a port; at a free one for 0.

    An earlier one at the same port may have left connections that are still closing.

    Args:
        receive_buffer: of the connections that are accepted, in bytes.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.setblocking(False)
    sock.bind((HOST, port))
    sock.listen(64)
    return sock


def searched(port: int) -> socket.socket:
    """A socket for datagrams, at the port where clients search."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((HOST, port))
    return sock
