"""Connect to one server through TCP, and record its replies.

The replies tell whether the server speaks Channel Access, which PVs it has, and whether it makes a
channel to one of them. The sockets block the calling thread. libca is not used.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from ..wire.protocol import (
    CREATE_CHANNEL,
    CREATE_CHANNEL_FAILED,
    VERSION,
    ProtocolError,
    SearchAnswer,
    create_channel,
    search,
    search_answers,
    take,
    version,
)
from ..wire.search import Found, Host


@dataclass
class Conversation:
    """The replies of a server on a circuit.

    Attributes:
        state (str): ``speaks``: it speaks Channel Access; ``silent``: it accepted the connection
            and sent nothing; ``refused``: it refused the connection; ``unanswered``: nothing came
            from its host; ``strange``: it speaks another protocol. Otherwise the error of the
            operating system.
        milliseconds (float): the time until the connection was made.
        minor (int): the minor version x of its protocol 4.x.
        found (list[Found]): the PVs that it has, or whose server it names.
        missing (list[str]): the PVs that it reported not to have.
        channel (str): the reply to the request for a channel: ``made``, ``refused``, or empty
            until a reply comes.
    """

    state: str = "silent"
    milliseconds: float = 0.0
    minor: int = 0
    found: list[Found] = field(default_factory=list[Found])
    missing: list[str] = field(default_factory=list[str])
    channel: str = ""


def converse(
    server: Host, pvs: Sequence[str], timeout: float, channel: str | None = None
) -> Conversation:
    """Connect to a server, check that it speaks Channel Access, and ask it for PVs.

    Blocks until all replies have come, the server closes the connection, or `timeout` has passed.
    Failures are recorded in `Conversation.state`, not raised.

    Args:
        server: the address of the server.
        pvs: the names of the PVs; may be empty.
        timeout: seconds for the whole conversation.
        channel: the name of a PV to which a channel is requested, or None.
    """
    said = Conversation()
    begin = time.perf_counter()
    try:
        with socket.create_connection(server, timeout) as circuit:
            said.milliseconds = (time.perf_counter() - begin) * 1000
            asked = b"".join(search(pv, n, reply=True) for n, pv in enumerate(pvs))
            if channel is not None:
                asked += create_channel(channel, 0)
            sent = time.perf_counter()
            circuit.sendall(version() + asked)
            is_over = partial(_is_over, said, len(pvs), channel is not None)
            _listen(circuit, server, list(pvs), said, sent, begin + timeout, is_over)
    except ConnectionRefusedError:
        said.state = "refused"
    except ProtocolError:
        said.state = "strange"
    except TimeoutError:
        if not said.milliseconds:
            said.state = "unanswered"
    except (OSError, OverflowError) as error:
        if said.state == "silent":
            said.state = getattr(error, "strerror", None) or str(error)
    return said


_CHANNEL_ANSWERS = {CREATE_CHANNEL: "made", CREATE_CHANNEL_FAILED: "refused"}


def _is_over(said: Conversation, pvs: int, channel: bool) -> bool:
    """Whether the server has answered every request."""
    answers = len(said.found) + len(said.missing)
    return said.state == "speaks" and answers >= pvs and (bool(said.channel) or not channel)


def _listen(
    circuit: socket.socket,
    server: Host,
    pvs: list[str],
    said: Conversation,
    sent: float,
    until: float,
    is_over: Callable[[], bool],
) -> None:
    """Receive until `is_over()`, the server closes the connection, or the time `until`."""
    rest = b""
    while not is_over():
        left = until - time.perf_counter()
        if left <= 0:
            return
        circuit.settimeout(left)
        data = circuit.recv(65536)
        if not data:
            return
        messages, rest = take(rest + data)
        for message in messages:
            if message.command == VERSION and message.count:
                said.state, said.minor = "speaks", message.count
            elif message.command in _CHANNEL_ANSWERS and message.first == 0:
                said.channel = _CHANNEL_ANSWERS[message.command]
        if not messages and len(rest) > 16 and said.state != "speaks":
            raise ProtocolError("not a Channel Access message")
        took = (time.perf_counter() - sent) * 1000
        for answer in search_answers(messages, *server):
            if answer.number < len(pvs):
                _note(said, pvs[answer.number], answer, took, server)


def _note(said: Conversation, pv: str, answer: SearchAnswer, took: float, server: Host) -> None:
    if pv in said.missing or any(found.pv == pv for found in said.found):
        return
    if answer.server is None:
        said.missing.append(pv)
    else:
        via = f"TCP {server[0]}:{server[1]}"
        said.found.append(Found(pv, answer.server, took, via, answer.minor or said.minor))
