"""Channel Access messages, as far as one can see servers without being connected to them.

Bytes to messages and back: searches and their answers, beacons, what clients and the CA repeater
say to each other. Nothing here talks to anybody. What comes from a network may be anything:
`take` never believes a length, and gives what is whole.
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

MINOR = 13  # the protocol that we speak: 4.13
DEFAULT_SERVER_PORT = 5064
DEFAULT_REPEATER_PORT = 5065
LONGEST_NAME = 991  # bytes; with longer ones libca blocks all of its searches
MOST_BYTES = 1024  # of a datagram that is sure to get through in one piece

_HEADER = struct.Struct(">HHHHII")
_LARGE = struct.Struct(">II")
_PAYLOAD_LIMIT = 0x10000  # nothing that is read here is as long as that

_REPLY = 10  # search through TCP: who does not have the PV says so (by UDP, EPICS base does not)
_DO_NOT_REPLY = 5
_OWN_ADDRESS = 0xFFFFFFFF  # in an answer: the server is who sent it


class ProtocolError(ValueError):
    """What came is not Channel Access."""


@dataclass(frozen=True)
class Message:
    """A message: its header's fields by what they are, and the bytes that followed."""

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
    """The whole messages at the beginning of some bytes, and what follows them.

    Raises:
        ProtocolError: a message announces more than any that this program is sent.
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
    """What every datagram of a client and every circuit begins with."""
    return bytes(Message(VERSION, 0, MINOR, sequence))


def search(pv: str, number: int, *, reply: bool) -> bytes:
    """Ask for a PV.

    Args:
        pv: its name.
        number: comes back with the answer.
        reply: whether who does not have it is to say so.
    """
    kind = _REPLY if reply else _DO_NOT_REPLY
    return bytes(Message(SEARCH, kind, MINOR, number, number, pv.encode() + b"\0"))


def searches(pvs: list[str], numbers: list[int], *, reply: bool) -> list[bytes]:
    """Ask for PVs, in as few datagrams as they fit in."""
    datagrams: list[bytes] = []
    packed = b""
    for pv, number in zip(pvs, numbers, strict=True):
        message = search(pv, number, reply=reply)
        if packed and len(packed) + len(message) > MOST_BYTES:
            datagrams.append(packed)
            packed = b""
        packed = (packed or version()) + message
    return [*datagrams, packed] if packed else datagrams


def create_channel(pv: str, number: int) -> bytes:
    """Ask a server for a channel, on a circuit; ``number`` comes back with the answer."""
    return bytes(Message(CREATE_CHANNEL, 0, 0, number, MINOR, pv.encode() + b"\0"))


@dataclass(frozen=True)
class SearchAnswer:
    """What a server says to a search.

    Attributes:
        number (int): the one of the search.
        server (tuple[str, int] | None): where to connect to; None: it does not have the PV.
        minor (int): which 4.x of the protocol it speaks, 0 if it does not say.
    """

    number: int
    server: tuple[str, int] | None
    minor: int


def search_answers(messages: list[Message], source: str) -> list[SearchAnswer]:
    """The answers in what came from an address (a dotted quad)."""
    answers: list[SearchAnswer] = []
    minor = 0
    for message in messages:
        if message.command == VERSION:
            minor = message.count
        elif message.command == NOT_FOUND:
            answers.append(SearchAnswer(message.second, None, message.count or minor))
        elif message.command == SEARCH and message.data_type:  # which is the port of the server
            if len(message.payload) >= 2:
                minor = int.from_bytes(message.payload[:2], "big")
            elsewhere = message.first not in (0, _OWN_ADDRESS)
            host = quad(message.first) if elsewhere else source
            answers.append(SearchAnswer(message.second, (host, message.data_type), minor))
    return answers


def quad(address: int) -> str:
    """An IPv4 address as people write it."""
    return ".".join(str(byte) for byte in address.to_bytes(4, "big"))


# -- Beacons and the repeater ----------------------------------------------------------------------


@dataclass(frozen=True)
class Beacon:
    """A server says that it is there.

    Attributes:
        server (tuple[str, int]): its address.
        number (int): one more with each, of the beacons of one server.
        minor (int): which 4.x of the protocol it speaks.
    """

    server: tuple[str, int]
    number: int
    minor: int


def beacons(messages: list[Message], source: str, default_port: int) -> list[Beacon]:
    """The beacons in what came from an address."""
    return [
        Beacon(
            (
                # a repeater puts in whom it came from
                quad(message.second) if message.second else source,
                message.count or default_port,  # servers of old times leave it out
            ),
            message.first,
            message.data_type,
        )
        for message in messages
        if message.command == IS_UP
    ]


def register(address: str = "0.0.0.0") -> bytes:
    """Ask the repeater for all that it gets."""
    return bytes(Message(REPEATER_REGISTER, second=_number(address)))


def confirm(address: str) -> bytes:
    """What the repeater says to that."""
    return bytes(Message(REPEATER_CONFIRM, second=_number(address)))


def passed_on(messages: list[Message], source: str) -> bytes:
    """What a repeater has to tell its clients of a datagram: its beacons, and nothing else.

    A client believes what comes from its repeater. A search is an answer to it, from a server at
    an address that nobody has.

    Args:
        messages: of the datagram.
        source: the address that it came from. Clients get it with each beacon that has none.
    """
    return b"".join(
        bytes(
            Message(
                IS_UP, message.data_type, message.count, message.first,
                message.second or _number(source),
            )
        )
        for message in messages
        if message.command == IS_UP and message.count < 0x10000  # which is a port
    )  # fmt: skip


def _number(address: str) -> int:
    return int.from_bytes(bytes(int(byte) for byte in address.split(".")), "big")
