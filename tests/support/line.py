"""A line to a server that has faults to order: `Line`.

What it does to circuits, tests can tell it at any moment, and they can wait for what has happened
(`Line.until`).

- One thread for each `Line` does all the forwarding. It holds the lock while it works, so what a
  test has ordered is in force when the call returns: not a byte more passes a line that stalls.
- A line that stalls does not read either: its peers find out by their sockets' buffers, which are
  small, as they would with a host that hangs.
"""

from __future__ import annotations

import enum
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import anyio.to_thread

from tests.support.sockets import HOST, listening

CHUNK = 1 << 16  # bytes that are read at once
_BUFFER = 1 << 16  # of the sockets, in bytes; the kernel takes twice as much


class Way(enum.Flag):
    """A direction."""

    TO_CLIENT = enum.auto()
    TO_SERVER = enum.auto()
    BOTH = TO_CLIENT | TO_SERVER


class _Pipe:
    """One direction of a circuit."""

    def __init__(self, way: Way, source: socket.socket, target: socket.socket) -> None:
        self.way = way
        self.source = source
        self.target = target
        self.chunks: deque[tuple[float, memoryview]] = deque()  # when they are due, and they
        self.held = 0  # bytes in them
        self.ended = False  # the source has nothing more to say
        self.full = False  # the target takes nothing just now


class _Circuit:
    """A connection of a client, and the one that was made for it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.pipes = (
            _Pipe(Way.TO_SERVER, client, server),
            _Pipe(Way.TO_CLIENT, server, client),
        )


class _Trigger:
    """What is to be done when so many more bytes have passed."""

    def __init__(self, way: Way, left: int, action: Callable[[], None]) -> None:
        self.way = way
        self.left = left
        self.action = action


class Line:
    """A TCP port whose circuits lead to a server on this host, as faithfully as it is told.

    Args:
        server_port: where that server listens.
        port: where this listens; a free port by default.

    Attributes:
        opened: how many circuits there have been; those that were refused do not count.
        muted: how many connections were accepted while mute.
        cuts: how often all circuits were cut, by `cut` or `cut_after`.
        forwarded: bytes so far, by direction.
        stalled: the directions in which nothing passes.
    """

    def __init__(self, server_port: int, port: int = 0) -> None:
        self.server_port = server_port
        self.opened = self.muted = self.cuts = 0
        self.forwarded = {Way.TO_CLIENT: 0, Way.TO_SERVER: 0}
        self.stalled = Way(0)
        self._delay = 0.0
        self._trickling = False
        self._is_mute = False
        self._closing = False
        self._circuits: list[_Circuit] = []
        self._mute_ones: list[socket.socket] = []
        self._leaving: list[socket.socket] = []  # closed by us, and not yet by the client
        self._triggers: list[_Trigger] = []
        self._changed = threading.Condition()
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        for end in (self._wake, self._woken):
            end.setblocking(False)
        self._listener: socket.socket | None = listening(port, _BUFFER)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name=f"proxy {self.port}", daemon=True)

    def __enter__(self) -> Any:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close everything."""
        self._order(lambda: setattr(self, "_closing", True))
        self._thread.join(10)
        assert not self._thread.is_alive()

    # -- Orders ------------------------------------------------------------------------------------

    def stall(self, way: Way = Way.BOTH) -> None:
        """Let nothing pass any more; the sockets stay open."""

        def do() -> None:
            self.stalled |= way

        self._order(do)

    def resume(self, way: Way = Way.BOTH) -> None:
        """Let pass what has been held up by `stall`, and all that comes."""

        def do() -> None:
            self.stalled &= ~way

        self._order(do)

    def stall_after(self, count: int, way: Way) -> None:
        """`stall` this direction when ``count`` more bytes have passed there."""

        def stall() -> None:
            self.stalled |= way

        self._order(lambda: self._triggers.append(_Trigger(way, count, stall)))

    def cut(self, *, reset: bool = True) -> None:
        """Close all circuits; with RST, by which what is under way is lost, or with FIN."""
        self._order(lambda: self._cut(reset))

    def cut_after(self, count: int, way: Way, *, reset: bool = True) -> None:
        """`cut` when ``count`` more bytes have passed in this direction."""
        self._order(lambda: self._triggers.append(_Trigger(way, count, lambda: self._cut(reset))))

    def delay(self, seconds: float) -> None:
        """Hold each chunk that comes from now on for some time."""
        self._order(lambda: setattr(self, "_delay", seconds))

    def trickle(self, on: bool = True) -> None:
        """Send each byte by itself."""
        self._order(lambda: setattr(self, "_trickling", on))

    def mute(self, on: bool = True) -> None:
        """Accept connections from now on, and say nothing to them, until they are cut."""
        self._order(lambda: setattr(self, "_is_mute", on))

    def refuse(self, on: bool = True) -> None:
        """Do not listen any more; or again. What has been accepted is left alone."""

        def do() -> None:
            if on and self._listener is not None:
                self._forget(self._listener)
                self._listener = None
            elif not on and self._listener is None:
                self._listener = listening(self.port, _BUFFER)

        self._order(do)

    # -- Events ------------------------------------------------------------------------------------

    @property
    def circuits(self) -> int:
        """How many circuits are open."""
        return len(self._circuits)

    def wait(self, condition: Callable[[], bool], timeout: float = 10.0) -> None:
        """Wait until something is so: looked at whenever something has happened here."""
        with self._changed:
            assert self._changed.wait_for(condition, timeout), self._state()

    async def until(self, condition: Callable[[], bool], timeout: float = 10.0) -> None:
        """`wait`, on an event loop."""
        await anyio.to_thread.run_sync(self.wait, condition, timeout)

    def _state(self) -> str:
        return (
            f"port {self.port}: {self.circuits} circuits of {self.opened}, {self.muted} muted,"
            f" {self.cuts} cuts, {self.forwarded}, stalled: {self.stalled}"
        )

    # -- On any thread, with the lock --------------------------------------------------------------

    def _order(self, do: Callable[[], None]) -> None:
        with (
            self._changed
        ):  # to the end: once it is told to close, the thread closes this socket too
            do()
            self._changed.notify_all()
            try:
                self._wake.send(b"!")
            except BlockingIOError:
                pass  # it will wake

    def _cut(self, reset: bool) -> None:
        self.cuts += 1
        clients = [circuit.client for circuit in self._circuits] + self._mute_ones
        for server in [circuit.server for circuit in self._circuits]:
            self._forget(server)
        self._circuits.clear()
        self._mute_ones.clear()
        for client in clients:
            self._hang_up(client, reset)

    def _hang_up(self, client: socket.socket, reset: bool) -> None:
        if not reset:
            try:
                client.shutdown(socket.SHUT_WR)
            except OSError:
                reset = True
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._forget(client)
        else:
            # Closing it with something unread would be a RST after all.
            self._leaving.append(client)

    def _watched(self, sock: socket.socket) -> bool:
        return sock.fileno() >= 0 and sock in self._selector.get_map()

    def _forget(self, sock: socket.socket) -> None:
        if self._watched(sock):
            self._selector.unregister(sock)
        sock.close()

    # -- The thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._closing:
                    self._close()
                    return
                now = time.monotonic()
                self._pump_all(now)
                self._watch(self._interests())
                timeout = self._timeout(now)
                self._changed.notify_all()
            ready = self._selector.select(timeout)
            with self._changed:
                for key, events in ready:
                    sock: socket.socket = key.fileobj  # type: ignore[assignment]
                    if self._watched(sock):  # else one before it has closed it
                        self._happened(sock, events)

    def _close(self) -> None:
        self._cut(reset=True)
        others = [self._wake, self._woken, *self._leaving]
        for sock in others if self._listener is None else [*others, self._listener]:
            self._forget(sock)
        self._selector.close()

    def _interests(self) -> dict[socket.socket, int]:
        """Which sockets to look at, and for what."""
        read, write = selectors.EVENT_READ, selectors.EVENT_WRITE
        wanted: dict[socket.socket, int] = dict.fromkeys([self._woken, *self._leaving], read)
        if self._listener is not None:
            wanted[self._listener] = read
        for circuit in self._circuits:
            for pipe in circuit.pipes:
                if pipe.way in self.stalled:
                    continue
                if not pipe.ended and pipe.held < CHUNK:
                    wanted[pipe.source] = wanted.get(pipe.source, 0) | read
                if pipe.full:
                    wanted[pipe.target] = wanted.get(pipe.target, 0) | write
        return wanted

    def _watch(self, wanted: Mapping[socket.socket, int]) -> None:
        for key in [*self._selector.get_map().values()]:
            events = wanted.get(key.fileobj, 0)  # type: ignore[call-overload]
            if not events:
                self._selector.unregister(key.fileobj)
            elif events != key.events:
                self._selector.modify(key.fileobj, events)
        for sock, events in wanted.items():
            if not self._watched(sock):
                self._selector.register(sock, events)

    def _timeout(self, now: float) -> float | None:
        """Seconds until there is something to do that no socket tells of."""
        due = [
            pipe.chunks[0][0]
            for circuit in self._circuits
            for pipe in circuit.pipes
            if pipe.chunks and not pipe.full and pipe.way not in self.stalled
        ]
        return max(0.0, min(due) - now) if due else None

    def _happened(self, sock: socket.socket, events: int) -> None:
        if sock is self._woken:
            sock.recv(1 << 16)
        elif sock is self._listener:
            self._accept(sock)
        elif sock in self._leaving:
            self._drain(sock)
        else:
            for circuit in [*self._circuits]:
                for pipe in circuit.pipes:
                    if sock is pipe.target and events & selectors.EVENT_WRITE:
                        pipe.full = False
                    if sock is pipe.source and events & selectors.EVENT_READ:
                        self._read(circuit, pipe)

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except OSError:  # gone already
            return
        if self._is_mute:
            self.muted += 1
            self._mute_ones.append(client)
            return
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        try:
            server.connect((HOST, self.server_port))
        except OSError:
            server.close()
            self._hang_up(client, reset=True)
            return
        for sock in (client, server):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        self.opened += 1
        self._circuits.append(_Circuit(client, server))

    def _drain(self, sock: socket.socket) -> None:
        try:
            if sock.recv(CHUNK):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._leaving.remove(sock)
        self._forget(sock)

    def _read(self, circuit: _Circuit, pipe: _Pipe) -> None:
        try:
            data = pipe.source.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self._close_circuit(circuit, reset=True)
            return
        if data:
            pipe.chunks.append((time.monotonic() + self._delay, memoryview(data)))
            pipe.held += len(data)
        else:
            pipe.ended = True

    def _close_circuit(self, circuit: _Circuit, reset: bool) -> None:
        """One of its peers has closed it: so do we."""
        self._circuits.remove(circuit)
        self._forget(circuit.server)
        self._hang_up(circuit.client, reset)

    def _pump_all(self, now: float) -> None:
        for circuit in [*self._circuits]:
            for pipe in circuit.pipes:
                self._pump(circuit, pipe, now)
                if circuit in self._circuits and pipe.ended and not pipe.chunks:
                    self._close_circuit(circuit, reset=False)

    def _pump(self, circuit: _Circuit, pipe: _Pipe, now: float) -> None:
        """Pass on what may pass now."""
        while (
            circuit in self._circuits
            and pipe.chunks
            and not pipe.full
            and pipe.way not in self.stalled
        ):
            due, data = pipe.chunks[0]
            if due > now:
                return
            size = 1 if self._trickling else len(data)
            mine = [trigger for trigger in self._triggers if trigger.way is pipe.way]
            size = min([size, *(trigger.left for trigger in mine)])
            sent = 0
            if size:
                try:
                    sent = pipe.target.send(data[:size])
                except BlockingIOError:
                    pipe.full = True
                    return
                except OSError:
                    self._close_circuit(circuit, reset=True)
                    return
                self.forwarded[pipe.way] += sent
                pipe.held -= sent
                if sent < len(data):
                    pipe.chunks[0] = due, data[sent:]
                else:
                    pipe.chunks.popleft()
            for trigger in mine:
                trigger.left -= sent
                if not trigger.left:
                    self._triggers.remove(trigger)
                    trigger.action()
            if self._trickling:
                return
