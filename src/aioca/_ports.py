"""Probe whether a port is free: for the soft IOCs of tests, `aioca ioc` and the repeater."""

from __future__ import annotations

import socket


def bind_error(host: str, port: int, kind: socket.SocketKind, *, reuse: bool) -> OSError | None:
    """Bind a socket to a port of this host, and close it. Sends nothing.

    Args:
        host: the address; empty for all of this host.
        port: the port.
        kind: ``socket.SOCK_STREAM`` for TCP, ``socket.SOCK_DGRAM`` for UDP.
        reuse: whether to set SO_REUSEADDR, with which TCP connections that were closed a short time
            ago do not matter.

    Returns:
        OSError | None: why the port is not free; None if it is.
    """
    with socket.socket(socket.AF_INET, kind) as sock:
        if reuse:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            return error
    return None
