"""Search for PVs through UDP like libca, but collect the answers of all servers.

libca is not used: it keeps only the first answer, and does not report which addresses are silent.
The sockets block the calling thread. For TCP, see `diagnosis.conversation`.
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
    """Return an address as ``host:port``."""
    return f"{server[0]}:{server[1]}"


_SEND_TIMES = (0.0, 0.25, 0.5)  # as parts of the window; repeated, because datagrams get lost
_MAX_FOUND = 10_000  # answers; bounds the memory in case of an attack


@dataclass(frozen=True)
class Target:
    """An address to search; `broadcast`: all hosts of a network receive the search."""

    host: str
    port: int
    broadcast: bool = False

    @property
    def address(self) -> Host:
        """The address in the form that sockets use."""
        return (self.host, self.port)


@dataclass(frozen=True)
class Found:
    """An answer: a server has a PV.

    Attributes:
        pv (str): the name of the PV.
        server (Host): the address to connect to.
        milliseconds (float): the time from the search to the answer.
        via (str): ``UDP``, or ``TCP host:port`` of the name server.
        minor (int): the minor version x of its protocol 4.x; 0 if the answer has none.
    """

    pv: str
    server: Host
    milliseconds: float
    via: str
    minor: int


@dataclass
class Heard:
    """The results of a search.

    Attributes:
        found (list[Found]): each server once for each PV, in the order of their answers.
        states (dict[Target, str]): ``answered``, ``silent``, ``refused`` (nothing listens at that
            port), or the error of the operating system.
        strange (int): the number of datagrams that were not Channel Access.
    """

    found: list[Found] = field(default_factory=list[Found])
    states: dict[Target, str] = field(default_factory=dict[Target, str])
    strange: int = 0


class _UdpSearch:
    """One search.

    All answers come to one unconnected socket, because a server with several addresses may answer
    from another address. Each target that is a single host also has a connected socket: only on
    those does the system report that nothing listens at the port.
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
        """Send the searches once; without PVs, a version message, which tests for listeners."""
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
        """Receive answers until a time of `time.perf_counter`. Blocks."""
        while (left := until - time.perf_counter()) > 0:
            for key, _ in self._selector.select(left):
                sock: socket.socket = key.fileobj  # type: ignore[assignment]
                try:
                    data, source = sock.recvfrom(65536)
                except ConnectionRefusedError:
                    if key.data is not None:
                        self.heard.states[key.data] = "refused"
                except OSError:
                    pass  # the error of an earlier datagram
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
            if (pv, answer.server) not in self._seen and len(self._seen) < _MAX_FOUND:
                self._seen.add((pv, answer.server))
                took = (now - self._sent_at[turn]) * 1000
                self.heard.found.append(Found(pv, answer.server, took, "UDP", answer.minor))


def udp_search(pvs: Sequence[str], targets: Iterable[Target], window: float) -> Heard:
    """Search for PVs, and listen for the whole window, to find all servers that have a PV. Blocks.

    Args:
        pvs: the names of the PVs; without any, the search only finds ports where nothing listens.
        targets: the addresses to search.
        window: the time to listen, in seconds.
    """
    under_way = _UdpSearch(pvs, targets)
    try:
        begin = time.perf_counter()
        for turn, part in enumerate(_SEND_TIMES):
            under_way.send()
            later = _SEND_TIMES[turn + 1] if turn + 1 < len(_SEND_TIMES) else 1.0
            under_way.receive(begin + max(part, later) * window)
        return under_way.heard
    finally:
        under_way.close()
