"""The machine behind caget, caput, connect and cainfo: one request for one or for many PVs.

A request goes over its PVs once: what is connected is asked for at once, the rest as it
connects. One task waits, once, for all of it. Replies are stored by libca's thread straight
into the request; the loop is woken when the last one is there, not before.

- ``results[i]`` is None until PV i has an outcome. libca's thread writes to it in `arrive` only,
  the loop in `_settle` only, each at most once for each i.
- Every request ends by its deadline, by cancellation, by replies, or by the closing of its context:
  ``finish`` runs for all of these and leaves nothing behind that C could call.
- An operation that could not be sent, as the channel went down just then, waits for it to
  come back. One that was sent is never repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import _libca
from ._channel import Channel
from ._context import Context
from ._environment import searched
from ._errors import Failure

CLOSED_HERE = "closed by this program meanwhile"


class Request:
    """What connect, get and put have in common.

    Attributes:
        results: per PV: None, what arrived (bytes, or an ECA status), or a `Failure`.
    """

    doing = "connecting"

    def __init__(self, context: Context, channels: Sequence[Channel]) -> None:
        count = len(channels)
        if count > _libca.MAX_INDEX:
            raise ValueError(f"{count} PVs in one call; {_libca.MAX_INDEX} is the most")
        self.channels = channels
        self.results: list[Any] = [None] * count
        self._context = context
        self._count = count
        self._arrived = 0  # counted by libca's thread
        self._settled = 0  # counted by the loop
        self._connecting: dict[Channel, list[int]] = {}
        self._unconnected: set[int] | None = None  # when it is over: who was still connecting
        self._token = 0
        self._over = False
        self._waiter = context.portal.waiter()

    async def run(self, deadline: float) -> None:
        """Do it all; afterwards `results` has what came of it by the deadline."""
        context = self._context
        context.operations[self] = None
        self._token = _libca.register(self)
        try:
            self._start()
            # Wait also if the replies were faster than we: a call that asks a server always lets
            # the other tasks run. One that did not have to ask does not suspend.
            if self._settled < self._count and deadline > context.portal.now():
                await self._waiter.wait(deadline)
        finally:
            context.operations.pop(self, None)
            self._end()

    def assume_done(self) -> None:
        """Succeed without doing anything."""
        self.results = [_libca.ECA_NORMAL] * self._count

    def failure(self, index: int) -> Failure | None:
        """Why PV ``index`` failed; None if it did not."""
        outcome = self.results[index]
        name = self.channels[index].name
        if outcome is None:
            if self._unconnected is None:
                self._unconnected = {i for waiting in self._connecting.values() for i in waiting}
            connecting = index in self._unconnected
            detail = self._why_not_connected(index) if connecting else self._why_no_reply()
            return Failure(name, _libca.ECA_TIMEOUT, detail)
        if isinstance(outcome, Failure):
            return outcome
        if type(outcome) is int and outcome != _libca.ECA_NORMAL:
            return Failure(name, outcome, self._why_status(outcome))
        return None

    # -- Why ---------------------------------------------------------------------------------------

    def _why_not_connected(self, index: int) -> str:
        if self.channels[index].ever_connected:
            return "connecting: its server was lost and is not back"
        return f"connecting: no server has answered for this name; searched {searched()}"

    def _why_no_reply(self) -> str:
        return f"{self.doing}: connected, but the server has not replied"

    def _why_status(self, status: int) -> str:
        if status == _libca.ECA_DISCONN:
            return f"{self.doing}: the server was lost before it replied"
        return self.doing

    # -- On the loop -------------------------------------------------------------------------------

    def _start(self) -> None:
        for index, channel in enumerate(self.channels):
            if channel.connected:
                status = self._request(index, channel)
                if status != _libca.ECA_NORMAL:
                    self._not_sent(index, channel, status)
            else:
                self._await_connection(index, channel)
        self._context.flush()

    def _not_sent(self, index: int, channel: Channel, status: int) -> None:
        """Nothing was sent for PV ``index``: libca has refused it."""
        if status == _libca.ECA_DISCONN:  # the channel went down, and we have not heard of it yet
            self._await_connection(index, channel)
        else:
            self._settle(index, status)

    def _request(self, index: int, channel: Channel) -> int:
        """Send the request; a status other than ECA_NORMAL says that nothing was sent."""
        self._settle(index, _libca.ECA_NORMAL)
        return _libca.ECA_NORMAL

    def _settle(self, index: int, outcome: int | Failure) -> None:
        """An outcome that was found on this side."""
        self.results[index] = outcome
        self._settled += 1
        if self._complete():
            self._waiter.wake()

    def _complete(self) -> bool:
        return self._arrived + self._settled >= self._count

    def _await_connection(self, index: int, channel: Channel) -> None:
        self._connecting.setdefault(channel, []).append(index)
        channel.listeners[self] = None

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._finish()

    def _finish(self) -> None:
        """Leave nothing behind. The indices in `_connecting` stay for `failure`."""
        self._stop_listening()
        self._release_token()

    def _stop_listening(self) -> None:
        for channel in self._connecting:
            channel.listeners.pop(self, None)

    def _release_token(self) -> None:
        if self._token:
            _libca.unregister(self._token)

    def channel_up(self, channel: Channel) -> None:
        channel.listeners.pop(self, None)
        for index in self._connecting.pop(channel, ()):
            status = self._request(index, channel)
            if status != _libca.ECA_NORMAL:
                self._not_sent(index, channel, status)
        self._context.flush_soon()

    def channel_down(self, channel: Channel) -> None:
        """Nothing to do: what is waiting waits on, what was sent hears from libca."""

    def channel_closed(self, channel: Channel) -> None:
        for index in self._connecting.pop(channel, ()):
            self._settle(
                index, Failure(channel.name, _libca.ECA_DISCONN, f"{self.doing}: {CLOSED_HERE}")
            )

    def context_closed(self) -> None:
        for index, outcome in enumerate(self.results):
            if outcome is None:
                name = self.channels[index].name
                self._settle(
                    index, Failure(name, _libca.ECA_DISCONN, f"{self.doing}: {CLOSED_HERE}")
                )
        self._connecting.clear()
        self._end()  # the task may never run again

    # -- On a thread of libca ----------------------------------------------------------------------

    def arrive(self, index: int, dbr: int, raw: _libca.Raw) -> None:
        self.results[index] = raw
        self._arrived += 1
        if self._arrived + self._settled >= self._count:
            self._context.portal.post(self._waiter.wake)

    def connection_changed(self, up: bool, native_type: int, native_count: int) -> None:
        """Never called: a request's token is given to no channel."""

    def exception(self, status: int, op: int, context: str) -> None:
        """Never called: a request's token is given to no channel."""


class Get(Request):
    """Values; `values` decodes them."""

    doing = "reading"

    def __init__(
        self,
        context: Context,
        channels: Sequence[Channel],
        code: int | None,
        format: int,
        count: int,
    ) -> None:
        super().__init__(context, channels)
        self._code = code
        self._format = format
        self._wanted = count
        self._readers: list[Any] = [None] * len(channels)

    def _request(self, index: int, channel: Channel) -> int:
        reader = channel.reader(self._code, self._format)
        self._readers[index] = reader
        return _libca.get(
            reader.dbr, channel.request_count(self._wanted), channel.chid, self._token + index
        )

    def arrive(self, index: int, dbr: int, raw: _libca.Raw) -> None:
        if dbr != self._readers[index].dbr and type(raw) is not int:
            raw = _libca.ECA_BADTYPE
        super().arrive(index, dbr, raw)

    def value(self, index: int) -> Any:
        """The value of PV ``index``, or the `Failure` in its place."""
        raw = self.results[index]
        if type(raw) is bytes or type(raw) is bytearray:
            try:
                return self._readers[index].decode(raw)
            except Exception as error:  # whatever a server may have sent
                name = self.channels[index].name
                return Failure(name, _libca.ECA_BADTYPE, f"reading: not understood: {error!r}")
        return self.failure(index)
