"""A Channel Access server that says what it is told to, however wrong: `HostileServer`.

It speaks just enough of the protocol to be taken for a server, on 127.0.0.1 only, in a thread of
its own. Each request is answered as a server would, unless a test has set another answer::

    with HostileServer(port) as server:
        server.add("PV", DBR_DOUBLE, count=1)
        server.on[READ_NOTIFY] = lambda request: reply(request, payload(6, 1.5), status=0)

What a test sets is called on the server's thread with a `Request`, and returns the bytes to send
(none for no answer), or `NORMAL`. It can send to the circuit by itself, in whatever pieces, or
close it.

The numbers here are those of the protocol, as it is described for servers and clients of EPICS.
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple

from aioca._ca.libca import VALUE_OFFSET
from tests.support.sockets import listening, searched

VERSION, EVENT_ADD, EVENT_CANCEL, READ, WRITE = 0, 1, 2, 3, 4
SEARCH, EVENTS_OFF, EVENTS_ON, READ_SYNC, ERROR, CLEAR_CHANNEL = 6, 8, 9, 10, 11, 12
READ_NOTIFY, CREATE_CHAN, WRITE_NOTIFY, CLIENT_NAME, HOST_NAME = 15, 18, 19, 20, 21
ACCESS_RIGHTS, ECHO, CREATE_CH_FAIL, SERVER_DISCONN = 22, 23, 26, 27

MINOR_VERSION = 13
ECA_NORMAL = 1
READ_ACCESS, WRITE_ACCESS = 1, 2

_HEADER = struct.Struct(">HHHHII")
_EXTENSION = struct.Struct(">II")
_CODES = ("40s", "h", "f", "H", "B", "i", "d")
_BROADCAST = 0xFFFFFFFF  # instead of an address: the one that the reply comes from


def message(
    command: int,
    body: bytes = b"",
    *,
    type: int = 0,
    count: int = 0,
    cid: int = 0,
    available: int = 0,
    size: int | None = None,
    extended: bool | None = None,
) -> bytes:
    """One message, with the names that the fields of a header have in EPICS.

    Args:
        body: is padded to a multiple of 8, as it has to be, if no size is given.
        size: of the body, as the header tells it; else the true one.
        extended: whether the header has 32 bits for size and count; else if they need them.
    """
    if size is None:
        body += bytes(-len(body) % 8)
        size = len(body)
    if extended or (extended is None and (size >= 0xFFFF or count > 0xFFFF)):
        header = _HEADER.pack(command, 0xFFFF, type, 0, cid, available)
        return header + _EXTENSION.pack(size, count) + body
    return _HEADER.pack(command, size, type, count, cid, available) + body


def values(dbr: int, value: Any) -> bytes:
    """A value, or a list of them, as a DBR type has it on the network."""
    many = value if isinstance(value, (list, tuple)) else [value]
    code = _CODES[dbr % 7] if dbr < 35 else "40s"
    return (
        struct.pack(f">{len(many) if code != '40s' else ''}{code}", *many)
        if (code != "40s")
        else b"".join(item.ljust(40, b"\0") for item in many)
    )


def payload(dbr: int, value: Any, before: bytes = b"") -> bytes:
    """The body of a value: what comes ``before`` it (alarm, time stamp, limits), and the value."""
    return before.ljust(VALUE_OFFSET[dbr], b"\0") + values(dbr, value)


def stamp(seconds: int, nanoseconds: int, status: int = 0, severity: int = 0) -> bytes:
    """What comes before a DBR_TIME value."""
    return struct.pack(">HHII", status, severity, seconds, nanoseconds)


class Pv(NamedTuple):
    """A PV that the server has."""

    name: str
    type: int
    count: int  # type: ignore[assignment]  # hides a method of tuple that nobody wants here
    value: Any
    rights: int


class Circuit:
    """The connection of one client."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.received = bytearray()
        self.channels: dict[int, Pv] = {}  # by sid, which is the client's cid here
        self.monitors: dict[int, Request] = {}  # by the id that the client has given
        self._lock = threading.Lock()

    def send(self, data: bytes, pieces: int | None = None) -> bool:
        """Send it, in pieces of so many bytes; false if the client is gone. On any thread."""
        step = pieces or len(data) or 1
        try:
            with self._lock:
                for start in range(0, len(data), step):
                    self.socket.sendall(data[start : start + step])
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Hang up: the client gets what was sent before, and then the end. On any thread."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the client was faster


class Request(NamedTuple):
    """What a client has sent; a search, which comes as a datagram, has no circuit."""

    command: int
    type: int
    count: int  # type: ignore[assignment]  # likewise
    cid: int
    available: int
    body: bytes
    circuit: Any

    @property
    def pv(self) -> Pv | None:
        """What it is about, where that is a channel."""
        return self.circuit.channels.get(self.cid) if self.circuit is not None else None

    @property
    def text(self) -> str:
        return self.body.split(b"\0", 1)[0].decode("utf-8", "replace")


def reply(request: Request, body: bytes = b"", **fields: Any) -> bytes:
    """The answer to a request, with the fields of the request but for those that are given.

    ``status`` is the ECA status in an answer to a read or a write.
    """
    status = fields.pop("status", ECA_NORMAL)
    given = {"type": request.type, "count": request.count, "available": request.available}
    return message(
        fields.pop("command", request.command), body, **{**given, "cid": status, **fields}
    )


NORMAL: Any = None
Answer = Callable[[Request], bytes | None]


class HostileServer:
    """The server; a context manager.

    Attributes:
        port: where it listens, for searches (UDP) and connections (TCP).
        on: by command, what to do instead of what a server does. For `SEARCH` the request has no
            circuit.
        requests: all that have come.
        circuits: those that are open.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.on: dict[int, Answer] = {}
        self.pvs: dict[str, Pv] = {}
        self.pvs_for: Callable[[str], Pv | None] = self.pvs.get
        self.requests: list[Request] = []
        self.circuits: list[Circuit] = []
        self.error: BaseException | None = None
        self._changed = threading.Condition()
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="HostileServer", daemon=True)

    def __enter__(self) -> HostileServer:
        self._udp, self._tcp = searched(self.port), listening(self.port)
        for sock, ready in (
            (self._udp, self._datagram),
            (self._tcp, self._accept),
            (self._woken, None),
        ):
            self._selector.register(sock, selectors.EVENT_READ, ready)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._wake.close()
        self._thread.join(10)
        for circuit in self.circuits:
            circuit.socket.close()
        for sock in (self._udp, self._tcp, self._woken):
            sock.close()
        self._selector.close()
        if self.error is not None and error is None:
            raise self.error

    # -- For tests, on any thread ------------------------------------------------------------------

    def add(
        self,
        name: str,
        type: int,
        count: int = 1,
        value: Any = None,
        rights: int = READ_ACCESS | WRITE_ACCESS,
    ) -> str:
        """Have a PV. Its value is what a well-behaved answer brings."""
        if value is None:
            value = (b"" if type == 0 else 0,) * count
        elif not isinstance(value, (list, tuple)):
            value = (value,)
        self.pvs[name] = Pv(name, type, count, value, rights)
        return name

    def behave(self) -> None:
        """Answer as a server does from now on."""
        self.on.clear()

    def monitors(self, name: str) -> list[Request]:
        """The requests of the monitors of this PV that are open."""
        return [
            monitor
            for circuit in tuple(self.circuits)
            for monitor in tuple(circuit.monitors.values())
            if (pv := monitor.pv) is not None and pv.name == name
        ]

    def update(self, name: str, value: Any) -> int:
        """Send a new value to all monitors of this PV; how many there are."""
        pv = self.pvs[name]
        self.pvs[name] = pv._replace(value=value if isinstance(value, (list, tuple)) else (value,))
        monitors = self.monitors(name)
        for monitor in monitors:
            monitor.circuit.send(self._value(monitor, self.pvs[name]))
        return len(monitors)

    def wait_for(self, condition: Callable[[], Any], timeout: float = 10.0) -> Any:
        """Block until it is true, looking after every request and every connection."""
        with self._changed:
            self._changed.wait_for(condition, timeout)
            found = condition()
        assert found, [request[:5] for request in self.requests[-20:]]
        return found

    def seen(self, command: int, name: str | None = None) -> list[Request]:
        """The requests of this kind that have come, for this PV."""
        return [
            request
            for request in tuple(self.requests)
            if request.command == command
            and (name is None or (request.pv and request.pv.name == name) or request.text == name)
        ]

    def answer(self, request: Request) -> bytes:
        """What a well-behaved server would send."""
        command, circuit = request.command, request.circuit
        if command == CREATE_CHAN:
            pv = self.pvs_for(request.text)
            if pv is None:
                return message(CREATE_CH_FAIL, cid=request.cid)
            circuit.channels[request.cid] = pv
            return message(
                ACCESS_RIGHTS, cid=request.cid, available=pv.rights
            ) + message(
                CREATE_CHAN, type=pv.type, count=pv.count, cid=request.cid, available=request.cid
            )  # fmt: skip
        if command in (EVENT_ADD, READ_NOTIFY):
            pv = request.pv
            if pv is None:
                return b""
            if command == EVENT_ADD:
                circuit.monitors[request.available] = request
            return self._value(request, self.pvs.get(pv.name, pv))
        if command == EVENT_CANCEL:
            circuit.monitors.pop(request.available, None)
            return reply(request, command=EVENT_ADD, cid=request.cid)
        if command == WRITE_NOTIFY:
            return reply(request)
        if command == CLEAR_CHANNEL:
            circuit.channels.pop(request.cid, None)
            return reply(request, cid=request.cid)
        if command in (ECHO, READ_SYNC):
            return message(ECHO)
        return b""

    # -- On its own thread -------------------------------------------------------------------------

    def _value(self, request: Request, pv: Pv) -> bytes:
        value = list(pv.value)[: request.count or pv.count]
        if request.type % 7 == 0:  # whatever the PV has, as text
            value = [v if isinstance(v, bytes) else str(v).encode() for v in value]
        return reply(request, payload(request.type, value), count=len(value))

    def _run(self) -> None:
        try:
            while True:
                for key, _ in self._selector.select():
                    if key.data is None:
                        return
                    key.data()
        except BaseException as error:  # for who ends it
            self.error = error

    def _took(self, request: Request) -> bytes:
        """Note what has come; the answer to it."""
        answer = self.on.get(request.command)
        data = answer(request) if answer is not None else NORMAL
        if data is None:  # NORMAL
            data = self.answer(request) if request.command != SEARCH else self._found(request)
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        return data

    def _found(self, request: Request) -> bytes:
        if self.pvs_for(request.text) is None:
            return b""
        body = struct.pack(">H", MINOR_VERSION)
        return message(SEARCH, body, type=self.port, cid=_BROADCAST, available=request.cid)

    def _datagram(self) -> None:
        try:
            data, client = self._udp.recvfrom(65536)
        except OSError:  # of an earlier answer to a client that has gone
            return
        answers = b""
        sequence = b""
        for request in _parsed(bytearray(data), None):
            if request.command == VERSION and request.type & 1:
                sequence = message(VERSION, type=1, count=MINOR_VERSION, cid=request.cid)
            elif request.command == SEARCH:
                answers += self._took(request)
        if answers:
            self._udp.sendto(sequence + answers, client)

    def _accept(self) -> None:
        try:
            connection, _ = self._tcp.accept()
        except OSError:  # gone already
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(20)  # a client that takes nothing must not hold up the test for ever
        circuit = Circuit(connection)
        with self._changed:
            self.circuits.append(circuit)
            self._changed.notify_all()
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._readable(circuit))
        circuit.send(message(VERSION, count=MINOR_VERSION))

    def _readable(self, circuit: Circuit) -> None:
        try:
            data = circuit.socket.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(circuit.socket)
            circuit.socket.close()
            with self._changed:
                self.circuits.remove(circuit)
                self._changed.notify_all()
            return
        circuit.received += data
        for request in _parsed(circuit.received, circuit):
            answer = self._took(request)
            if answer:
                circuit.send(answer)


def _parsed(data: bytearray, circuit: Any) -> Sequence[Request]:
    """The whole messages at the beginning of it, which are taken away."""
    found = []
    while len(data) >= _HEADER.size:
        command, size, type, count, cid, available = _HEADER.unpack_from(data)
        start = _HEADER.size
        if size == 0xFFFF:
            if len(data) < start + _EXTENSION.size:
                break
            size, count = _EXTENSION.unpack_from(data, start)
            start += _EXTENSION.size
        if len(data) < start + size:
            break
        body = bytes(data[start : start + size])
        found.append(Request(command, type, count, cid, available, body, circuit))
        del data[: start + size]
    return found
