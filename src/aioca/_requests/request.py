"""The machine behind caget, caput, connect and cainfo: one request for one or for many PVs.

A request goes over its PVs once: what is connected is asked for at once, the rest as it
connects. One task waits, once, for all of it. Replies are stored by libca's thread straight
into the request; the loop is woken when the last one is there, not before.

- ``results[i]`` is None until PV i has an outcome. libca's thread writes to it in `arrive` only,
  the loop in `_settle` only, each at most once for each i.
- A long list is worked on in parts, between which the other tasks of the loop get their turn.
- Nothing is sent after the deadline; what came before it counts, though the loop was busy then.
- Every request ends by its deadline, by cancellation, by replies, or by the closing of its context:
  ``finish`` runs for all of these and leaves nothing behind that C could call.
- An operation that could not be sent, as the channel went down just then, waits for it to
  come back. One that was sent is never repeated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from typing import Any

from .._ca import libca, tokens
from .._ca.libca import ECA_NORMAL
from .._ca.tokens import MAX_INDEX, Raw
from .._channels import explain
from .._channels.channel import Channel
from .._channels.context import LoopContext
from .._errors import Failure, success
from .._portal.interface import TURN
from .pending_puts import PendingPuts

CLOSED_HERE = "this program closed the channel"

# PVs that are worked on between looks at the clock. How many fit into one `TURN` depends on how
# libca's threads want the GIL meanwhile.
PART = 250
# PVs of a list that are looked at for what their replies confirm. One of each server will do.
_LOOK_AT = 32


class Request:
    """What connect, get and put have in common.

    Attributes:
        results: per PV: None, what arrived (bytes, or an ECA status), or a `Failure`.
    """

    doing = "connecting"
    part = PART
    sends = False  # anything to the servers once it is connected

    def __init__(self, context: LoopContext, channels: Sequence[Channel]) -> None:
        count = len(channels)
        if count > MAX_INDEX:
            raise ValueError(f"one call can have {MAX_INDEX} PVs at most, not {count}")
        self.channels = channels
        self.results: list[Any] = [None] * count
        self._context = context
        self._count = count
        self._arrived = 0  # counted by libca's thread
        self._awaited = count  # counted by the loop: less those settled on this side
        self._connecting: dict[Channel, list[int]] = {}
        self._turn_ends = context.portal.now() + TURN
        self._unconnected: set[int] | None = None  # when it is over: who was still connecting
        self._pending: PendingPuts | None = None  # likewise: what servers were busy with
        self._begun = 0  # how many of them have had their turn
        self._token = 0
        self._over = False
        self._deadline = math.inf
        self._after_write = context.writes.number  # sent before anything of this request
        self._late: set[int] = set()  # who has connected, but too late to send anything
        self._waiter = context.portal.waiter()
        self.suspended = False  # whether `run` has let the other tasks run

    async def run(self, deadline: float) -> None:
        """Do it all; afterwards `results` has what came of it by the deadline."""
        context = self._context
        self._deadline = deadline
        context.operations[self] = None
        self._token = tokens.register(self)
        try:
            for start in range(0, self._count, self.part):
                if not await self._turn(start, deadline):
                    break
                self._begun = min(start + self.part, self._count)
                with libca.unblocked:
                    self._start(start, self._begun)
            # Not before: replies that come while we are still asking have libca's thread and this
            # one take the GIL from each other at every call.
            context.flush()
            # Wait also if the replies were faster than we: a call that asks a server always lets
            # the other tasks run. One that did not have to ask does not suspend.
            if self._awaited > 0 and deadline > context.portal.now():
                self.suspended = True
                if not await self._waiter.wait(deadline):
                    await context.portal.catch_up()
                self._turn_ends = context.portal.now() + TURN
        finally:
            context.operations.pop(self, None)
            self._end()
            if context.writes:
                self._confirm_writes()

    def _confirm_writes(self) -> None:
        """A server's reply confirms what was written without wait before this request."""
        circuits: set[object] = set()
        for channel, outcome in islice(zip(self.channels, self.results, strict=True), _LOOK_AT):
            if self._is_reply(outcome) and (circuit := channel.circuit()) not in circuits:
                circuits.add(circuit)
                self._context.writes.confirm(circuit, self._after_write)

    def _is_reply(self, outcome: object) -> bool:
        """Whether this outcome is a server's answer to what was sent."""
        return False

    async def values(self) -> list[Any]:
        """What is to be returned for each PV, or a `Failure` in its place."""
        values: list[Any] = []
        for start in range(0, self._count, PART):
            await self.yield_turn()
            values += self._values_from(start, min(start + PART, self._count))
        return values

    def _values_from(self, start: int, stop: int) -> list[Any]:
        # A copy: what comes after the deadline may still be stored while we are looking.
        outcomes = self.results[start:stop]
        return [
            success(self.channels[index].name)
            if outcome == ECA_NORMAL
            else self._failure(index, outcome)
            for index, outcome in enumerate(outcomes, start)
        ]

    def assume_done(self) -> None:
        """Succeed without doing anything."""
        self.results = [libca.ECA_NORMAL] * self._count

    def _failure(self, index: int, outcome: int | Failure | None) -> Failure:
        """Why PV ``index`` failed, of which this is the outcome."""
        name = self.channels[index].name
        if outcome is None:
            if self._unconnected is None:
                self._unconnected = {i for waiting in self._connecting.values() for i in waiting}
            if index in self._late:
                detail = self._why_too_late()
            elif index in self._unconnected:
                detail = self._why_not_connected(index)
            elif index >= self._begun:
                detail = self._why_not_begun()
            else:
                detail = self._why_no_reply(index)
            return Failure(name, libca.ECA_TIMEOUT, detail + self._meanwhile(index))
        if isinstance(outcome, Failure):
            return outcome
        return Failure(name, outcome, self._why_status(outcome))

    # -- Why ---------------------------------------------------------------------------------------

    def _why_not_connected(self, index: int) -> str:
        return self.channels[index].why_not_connected()

    def _meanwhile(self, index: int) -> str:
        """What else its server may be busy with."""
        if self._pending is None:
            self._pending = PendingPuts(self._context, self, self._begun_before())
        return self._pending.on_the_server_of(self.channels[index])

    def _begun_before(self) -> int | None:
        """The token of a put, which later ones cannot hold up."""
        return None

    def _why_not_begun(self) -> str:
        return f"{self.doing}: not sent; the deadline passed before the request could be sent"

    def _why_too_late(self) -> str:
        return (
            f"{self.doing}: not sent; the PV connected, but the event loop was busy until the"
            " deadline had passed"
        )

    def _why_no_reply(self, index: int) -> str:
        return f"{self.doing}: connected, but the server has not replied"

    def _why_status(self, status: int) -> str:
        return explain.status(self.doing, status)

    # -- On the loop -------------------------------------------------------------------------------

    async def _turn(self, start: int, deadline: float) -> bool:
        """Wait until it is time for the part that begins there; false if that time has not come."""
        await self.yield_turn()
        return not self._over and not self._is_late()

    def _is_late(self) -> bool:
        """Whether nothing may be sent any more."""
        deadline = self._deadline  # -inf: without any waiting, however long the list
        return self.sends and deadline > -math.inf and self._context.portal.now() >= deadline

    async def yield_turn(self) -> None:
        """Let the other tasks run if this one has had its time."""
        portal = self._context.portal
        if portal.now() > self._turn_ends:
            await portal.yield_turn()
            self._turn_ends = portal.now() + TURN

    def _start(self, start: int, stop: int) -> None:
        """Ask for the PVs from ``start`` to ``stop``, or wait for them to connect."""
        for index in range(start, stop):
            channel = self.channels[index]
            if channel.connected:
                self._ask(index, channel)
            else:
                self._await_connection(index, channel)

    def _ask(self, index: int, channel: Channel) -> None:
        status = self._request(index, channel)
        if status != libca.ECA_NORMAL:
            self._not_sent(index, channel, status)

    def _not_sent(self, index: int, channel: Channel, status: int) -> None:
        """Nothing was sent for PV ``index``: libca has refused it."""
        if status == libca.ECA_DISCONN:  # the channel went down, and we have not heard of it yet
            self._await_connection(index, channel)
        else:
            self._settle(index, status)

    def _request(self, index: int, channel: Channel) -> int:
        """Send the request; a status other than ECA_NORMAL says that nothing was sent."""
        self._settle(index, libca.ECA_NORMAL)
        return libca.ECA_NORMAL

    def _settle(self, index: int, outcome: int | Failure) -> None:
        """An outcome that was found on this side."""
        self.results[index] = outcome
        self._awaited -= 1
        if self._arrived >= self._awaited:
            self._waiter.wake()

    def _await_connection(self, index: int, channel: Channel) -> None:
        if channel.closed:  # while we were giving others their turn
            self._settle_closed(index, channel)
            return
        self._connecting.setdefault(channel, []).append(index)
        channel.listen(self)

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._finish()

    def _finish(self) -> None:
        """Leave nothing behind. The indices in `_connecting` stay for `_failure`."""
        self._stop_listening()
        self._release_token()

    def _stop_listening(self) -> None:
        for channel in self._connecting:
            channel.unlisten(self)

    def _release_token(self) -> None:
        if self._token:
            tokens.unregister(self._token)

    def channel_up(self, channel: Channel) -> None:
        channel.unlisten(self)
        indices = self._connecting.pop(channel, [])
        if self._is_late():
            self._late.update(indices)
            return
        for index in indices:
            self._ask(index, channel)
        self._context.flush_soon()

    def channel_down(self, channel: Channel) -> None:
        """Nothing to do: what is waiting waits on, what was sent hears from libca."""

    def channel_closed(self, channel: Channel) -> None:
        for index in self._connecting.pop(channel, ()):
            self._settle_closed(index, channel)

    def _settle_closed(self, index: int, channel: Channel) -> None:
        detail = f"{self.doing}: {CLOSED_HERE}"
        self._settle(index, Failure(channel.name, libca.ECA_DISCONN, detail))

    def context_closed(self) -> None:
        for index, outcome in enumerate(self.results):
            if outcome is None:
                self._settle_closed(index, self.channels[index])
        self._connecting.clear()
        self._end()  # the task may never run again

    # -- On a thread of libca ----------------------------------------------------------------------

    def arrive(self, index: int, raw: Raw) -> None:
        self.results[index] = raw
        self._arrived += 1
        if self._arrived >= self._awaited:
            self._context.portal.post(self._waiter.wake_now)
