"""Encode and decode the Channel Access messages that need no channel.

These are searches and their answers, beacons, and the messages between clients and the CA repeater.
Nothing here does I/O. Data from the network can be anything: `take` checks each length, and returns
complete messages only.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

VERSION = 0
SEARCH = 6
IS_UP = 13  # a beacon
NOT_FOUND = 14
REPEATER_CONFIRM = 17
CREATE_CHANNEL = 18
REPEATER_REGISTER = 24
CREATE_CHANNEL_FAILED = 26

MINOR = 13  # the minor version of our protocol, 4.13
DEFAULT_SERVER_PORT = 5064
DEFAULT_REPEATER_PORT = 5065
MAX_DATAGRAM_BYTES = 1024  # such a datagram is not fragmented on the way

_HEADER = struct.Struct(">HHHHII")
_LARGE = struct.Struct(">II")
_PAYLOAD_LIMIT = 0x10000  # bytes; all messages that are read here are shorter

_REPLY = 10  # search through TCP: a server without the PV replies, too (base: not through UDP)
_DO_NOT_REPLY = 5
_OWN_ADDRESS = 0xFFFFFFFF  # in an answer: the sender of the answer is the server


class ProtocolError(ValueError):
    """The received data are not Channel Access."""


@dataclass(frozen=True)
class Message:
    """A message: the fields of its header, and its payload."""

    command: int
    data_type: int = 0
    count: int = 0
    first: int = 0
    second: int = 0
    payload: bytes = b""

    def __bytes__(self) -> bytes:
        payload = self.payload + bytes(-len(self.payload) % 8)
        return (
            _HEADER.pack(
                self.command, len(payload), self.data_type, self.count, self.first, self.second
            )
            + payload
        )


def take(data: bytes) -> tuple[list[Message], bytes]:
    """Split off the complete messages at the beginning of `data`; returns them and the rest.

    Raises:
        ProtocolError: a message announces a longer payload than any message read here has.
    """
    messages: list[Message] = []
    at = 0
    while len(data) - at >= _HEADER.size:
        command, size, data_type, count, first, second = _HEADER.unpack_from(data, at)
        begin = at + _HEADER.size
        if size == 0xFFFF:
            if len(data) - begin < _LARGE.size:
                break
            size, count = _LARGE.unpack_from(data, begin)
            begin += _LARGE.size
        if size > _PAYLOAD_LIMIT:
            raise ProtocolError(f"a message of {size} bytes")
        if len(data) - begin < size:
            break
        at = begin + size
        messages.append(Message(command, data_type, count, first, second, data[begin:at]))
    return messages, data[at:]


# -- Searches --------------------------------------------------------------------------------------


def version(sequence: int = 0) -> bytes:
    """Return the message with which each datagram of a client and each circuit begins."""
    return bytes(Message(VERSION, 0, MINOR, sequence))


def search(pv: str, number: int, *, reply: bool) -> bytes:
    """Return the message that searches for a PV.

    Args:
        pv: the name of the PV.
        number: an integer that the answer contains.
        reply: whether a server without the PV shall reply, too.
    """
    kind = _REPLY if reply else _DO_NOT_REPLY
    return bytes(Message(SEARCH, kind, MINOR, number, number, pv.encode() + b"\0"))


def searches(pvs: list[str], numbers: list[int], *, reply: bool) -> list[bytes]:
    """Return the datagrams that search for PVs, as few as possible."""
    datagrams: list[bytes] = []
    packed = b""
    for pv, number in zip(pvs, numbers, strict=True):
        message = search(pv, number, reply=reply)
        if packed and len(packed) + len(message) > MAX_DATAGRAM_BYTES:
            datagrams.append(packed)
            packed = b""
        packed = (packed or version()) + message
    return [*datagrams, packed] if packed else datagrams


def create_channel(pv: str, number: int) -> bytes:
    """Return the request for a channel, for a circuit; the answer contains ``number``."""
    return bytes(Message(CREATE_CHANNEL, 0, 0, number, MINOR, pv.encode() + b"\0"))


@dataclass(frozen=True)
class SearchAnswer:
    """The answer of a server to a search.

    Attributes:
        number (int): the number of the search.
        server (tuple[str, int] | None): the address to connect to; None: no such PV.
        minor (int): the minor version x of its protocol 4.x; 0 if the answer has none.
    """

    number: int
    server: tuple[str, int] | None
    minor: int


def search_answers(messages: list[Message], source: str, circuit: int = 0) -> list[SearchAnswer]:
    """Return the answers in the messages from an address.

    Args:
        messages: the messages.
        source: the address, a dotted quad.
        circuit: the port of the server, for messages that came through TCP. Like libca, take this
            port for an answer without an address: a CA gateway then sends 0 as the port.
    """
    answers: list[SearchAnswer] = []
    minor = 0
    for message in messages:
        if message.command == VERSION:
            minor = message.count
        elif message.command == NOT_FOUND:
            answers.append(SearchAnswer(message.second, None, message.count or minor))
        elif message.command == SEARCH:
            if len(message.payload) >= 2:
                minor = int.from_bytes(message.payload[:2], "big")
            elsewhere = message.first not in (0, _OWN_ADDRESS)
            host = quad(message.first) if elsewhere else source
            port = message.data_type if elsewhere or not circuit else circuit
            if port:
                answers.append(SearchAnswer(message.second, (host, port), minor))
    return answers


def quad(address: int) -> str:
    """Return an IPv4 address as a dotted quad."""
    return ".".join(str(byte) for byte in address.to_bytes(4, "big"))


# -- Beacons and the repeater ----------------------------------------------------------------------


@dataclass(frozen=True)
class Beacon:
    """A beacon, by which a server announces itself.

    Attributes:
        server (tuple[str, int]): the address of the server.
        number (int): a count of the beacons of this server.
        minor (int): the minor version x of its protocol 4.x.
    """

    server: tuple[str, int]
    number: int
    minor: int


def beacons(messages: list[Message], source: str, default_port: int) -> list[Beacon]:
    """Return the beacons in the messages from an address."""
    return [
        Beacon(
            (
                # a repeater inserts the address of the server
                quad(message.second) if message.second else source,
                message.count or default_port,  # old servers leave it out
            ),
            message.first,
            message.data_type,
        )
        for message in messages
        if message.command == IS_UP
    ]


def register(address: str = "0.0.0.0") -> bytes:
    """Return the message that registers a client with the repeater."""
    return bytes(Message(REPEATER_REGISTER, second=_number(address)))


def confirm(address: str) -> bytes:
    """Return the repeater's confirmation of a registration."""
    return bytes(Message(REPEATER_CONFIRM, second=_number(address)))


def passed_on(messages: list[Message], source: str) -> bytes:
    """Return the part of a datagram that a repeater passes on to its clients: the beacons only.

    A client trusts its repeater: libca treats a search from the repeater as the answer of a server,
    at an address that does not exist.

    Args:
        messages: the messages of the datagram.
        source: the address of its sender, which is inserted in each beacon without an address.
    """
    return b"".join(
        bytes(
            Message(
                IS_UP, message.data_type, message.count, message.first,
                message.second or _number(source),
            )
        )
        for message in messages
        if message.command == IS_UP and message.count < 0x10000  # count: the server's port
    )  # fmt: skip


def _number(address: str) -> int:
    return int.from_bytes(bytes(int(byte) for byte in address.split(".")), "big")
