"""The broadcast addresses of this host's interfaces, which libca searches automatically.

They are read with ioctl calls, on Linux with 64 bits only.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Any

_GET_LIST, _GET_FLAGS, _GET_PEER, _GET_BROADCAST = 0x8912, 0x8913, 0x8917, 0x8919
_UP, _BROADCAST, _LOOPBACK, _POINT_TO_POINT = 1, 2, 8, 16
_IFREQ_BYTES = 40  # the size of a `struct ifreq` if pointers have 8 bytes
_ADDRESS = slice(20, 24)  # of the IPv4 address in it: after name (16), family (2) and port (2)


@dataclass(frozen=True)
class Broadcast:
    """An interface, and the broadcast address of its network."""

    interface: str
    address: str


def broadcasts() -> list[Broadcast] | None:
    """List the broadcast addresses, and the peers of point-to-point links. Does not block or raise.

    Returns:
        list[Broadcast] | None: those of the interfaces that are up, without loopback, like libca;
            None if they cannot be known (on systems other than Linux with 64 bits).
    """
    try:
        import fcntl
    except ImportError:
        return None
    found: list[Broadcast] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            for entry in _entries(sock, fcntl):
                flags = struct.unpack_from("H", fcntl.ioctl(sock, _GET_FLAGS, entry), 16)[0]
                if not flags & _UP or flags & _LOOPBACK:
                    continue
                if flags & _BROADCAST:
                    answer = fcntl.ioctl(sock, _GET_BROADCAST, entry)
                elif flags & _POINT_TO_POINT:
                    answer = fcntl.ioctl(sock, _GET_PEER, entry)
                else:
                    continue
                name = entry[:16].partition(b"\0")[0].decode(errors="replace")
                found.append(Broadcast(name, socket.inet_ntoa(answer[_ADDRESS])))
        except OSError:
            return None
    return found


def _entries(sock: socket.socket, fcntl: Any) -> list[bytes]:
    """Return the `struct ifreq` of each IPv4 address of this host; raises OSError."""
    import array
    import sys

    if sys.platform != "linux" or struct.calcsize("P") != 8:
        raise OSError("not known here")
    room = array.array("B", bytes(_IFREQ_BYTES * 256))
    address, size = room.buffer_info()
    asked = struct.pack("iP", size, address)
    answer: bytes = fcntl.ioctl(sock, _GET_LIST, asked)
    filled = struct.unpack("iP", answer)[0]
    return [room[at : at + _IFREQ_BYTES].tobytes() for at in range(0, filled, _IFREQ_BYTES)]
