"""Connect to one server, and see what it says.

Whether it is there, which PVs it has, and whether it makes a channel to one of them. Plain sockets
that wait in the calling thread.
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
    """What a server said on a circuit.

    Attributes:
        state (str): ``speaks`` Channel Access; ``silent``: it took the connection and said
            nothing; ``refused``; ``unanswered``: nothing at all came from there; ``strange``:
            it speaks something else; or why it cannot be reached.
        milliseconds (float): until it was connected.
        minor (int): which 4.x of the protocol it speaks.
        found (list[Found]): the PVs that it knows where to find.
        missing (list[str]): those that it says it does not have.
        channel (str): what came of the channel that it was asked for: ``made``, ``refused``, or
            empty, as long as it has not answered.
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
    """Connect to a server, see whether it speaks Channel Access, and ask it for PVs.

    Args:
        server: its address.
        pvs: names, or none.
        timeout: seconds for all of it.
        channel: the name of a PV to ask for a channel to.
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
    """Whether everything that was asked has been answered."""
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
    """Until all is said, it hangs up, or the time is over."""
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
            raise ProtocolError("no message at all")
        took = (time.perf_counter() - sent) * 1000
        for answer in search_answers(messages, server[0]):
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
