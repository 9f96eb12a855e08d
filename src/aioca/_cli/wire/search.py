"""Ask servers for PVs as libca does, but hear all of them: the first to answer is not the end.

Plain sockets that wait in the calling thread; no server is connected to: see `_conversation`. libca
is not used: it would keep only one answer, and say nothing about who is silent.
"""

from __future__ import annotations

import secrets
import selectors
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .protocol import ProtocolError, search_answers, searches, take, version

Host = tuple[str, int]  # a dotted quad and a port


def shown(server: Host) -> str:
    """An address as ``host:port``."""
    return f"{server[0]}:{server[1]}"


_TRIES = (0.0, 0.25, 0.5)  # of the window: datagrams get lost
_MOST_FOUND = 10_000  # more answers than that are an attack


@dataclass(frozen=True)
class Target:
    """Where to search: an address, and whether all of a network listen to it."""

    host: str
    port: int
    broadcast: bool = False

    @property
    def address(self) -> Host:
        """For a socket."""
        return (self.host, self.port)


@dataclass(frozen=True)
class Found:
    """A server has a PV.

    Attributes:
        pv (str): its name.
        server (Host): where it says to connect to.
        milliseconds (float): from the search to the answer.
        via (str): ``UDP``, or ``TCP host:port`` of the name server.
        minor (int): which 4.x of the protocol it speaks; 0 if it does not say.
    """

    pv: str
    server: Host
    milliseconds: float
    via: str
    minor: int


@dataclass
class Heard:
    """What came of a search.

    Attributes:
        found (list[Found]): each server once for each PV, in order of their answers.
        states (dict[Target, str]): ``answered``, ``silent``, ``refused`` (nobody listens at that
            port), or why nothing can be sent there.
        strange (int): datagrams that were no Channel Access.
    """

    found: list[Found] = field(default_factory=list[Found])
    states: dict[Target, str] = field(default_factory=dict[Target, str])
    strange: int = 0


class _UdpSearch:
    """One search under way.

    What answers comes to one socket that is not connected, since a server with several addresses
    may answer from another one. Each target that is a single host has a connected socket besides:
    only to those does the system say that nobody listens.
    """

    def __init__(self, pvs: Sequence[str], targets: Iterable[Target]) -> None:
        self.pvs = list(pvs)
        self.heard = Heard(states=dict.fromkeys(targets, "silent"))
        self._first_number = secrets.randbits(30)
        self._sent_at: list[float] = []
        self._seen: set[tuple[str, Host]] = set()
        self._selector = selectors.DefaultSelector()
        self._main = self._socket(None)
        self._single = {t: self._socket(t) for t in self.heard.states if not t.broadcast}

    def _socket(self, target: Target | None) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ, target)
        if target is None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        return sock

    def close(self) -> None:
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def send(self) -> None:
        """Send the searches once more; with none, what is heard by nobody but tells if they are."""
        first = self._first_number + len(self._sent_at) * len(self.pvs)
        self._sent_at.append(time.perf_counter())
        numbers = [(first + n) % 2**32 for n in range(len(self.pvs))]
        for datagram in searches(self.pvs, numbers, reply=False) or [version()]:
            for target in self.heard.states:
                self._send_to(target, datagram)

    def _send_to(self, target: Target, datagram: bytes) -> None:
        try:
            self._main.sendto(datagram, target.address)
            if (single := self._single.get(target)) is not None:
                single.connect(target.address)
                single.send(version())
        except ConnectionRefusedError:
            self.heard.states[target] = "refused"
        except (OSError, OverflowError) as error:
            if not isinstance(error, BlockingIOError):
                self.heard.states[target] = getattr(error, "strerror", None) or str(error)

    def receive(self, until: float) -> None:
        """Take what comes, until a time of `time.perf_counter`."""
        while (left := until - time.perf_counter()) > 0:
            for key, _ in self._selector.select(left):
                sock: socket.socket = key.fileobj  # type: ignore[assignment]
                try:
                    data, source = sock.recvfrom(65536)
                except ConnectionRefusedError:
                    if key.data is not None:
                        self.heard.states[key.data] = "refused"
                except OSError:
                    pass  # an error that is told of an earlier datagram
                else:
                    self._take(data, source, time.perf_counter())

    def _take(self, data: bytes, source: Host, now: float) -> None:
        try:
            messages, rest = take(data)
        except ProtocolError:
            messages, rest = [], data
        self.heard.strange += bool(rest)
        for answer in search_answers(messages, source[0]):
            sent: int = (answer.number - self._first_number) % 2**32
            turn, which = divmod(sent, len(self.pvs) or 1)
            if answer.server is None or turn >= len(self._sent_at) or not self.pvs:
                continue
            pv = self.pvs[which]
            for target in self.heard.states:
                if target.address == source:
                    self.heard.states[target] = "answered"
            if (pv, answer.server) not in self._seen and len(self._seen) < _MOST_FOUND:
                self._seen.add((pv, answer.server))
                took = (now - self._sent_at[turn]) * 1000
                self.heard.found.append(Found(pv, answer.server, took, "UDP", answer.minor))


def udp_search(pvs: Sequence[str], targets: Iterable[Target], window: float) -> Heard:
    """Search for PVs, and listen for all of a time, so that duplicates are heard as well.

    Args:
        pvs: their names; with none it is only found out whether somebody listens.
        targets: where to search.
        window: seconds.
    """
    under_way = _UdpSearch(pvs, targets)
    try:
        begin = time.perf_counter()
        for turn, part in enumerate(_TRIES):
            under_way.send()
            later = _TRIES[turn + 1] if turn + 1 < len(_TRIES) else 1.0
            under_way.receive(begin + max(part, later) * window)
        return under_way.heard
    finally:
        under_way.close()
