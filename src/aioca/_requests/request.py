"""The base of caget, caput, connect and cainfo: one request for one or many PVs.

A request visits its PVs once. It sends to the connected PVs at once, and to each other PV when that
PV connects. One task waits, once, for all outcomes. libca's threads store the replies in the
request; the last reply wakes the loop.

- ``results[i]`` is None until PV i has an outcome. libca's threads write to it in `arrive` only,
  the loop in `_settle` only, each at most once for each i.
- A long list is processed in parts; between two parts, the other tasks of the loop run.
- Nothing is sent after the deadline. A reply that arrived before the deadline counts, even if the
  loop was busy at that time.
- Every request ends by its deadline, by cancellation, by replies, or when its context closes.
  ``_finish`` runs in each case and leaves nothing behind that C could call.
- If the channel goes down just before an operation is sent, the operation waits for the channel
  to reconnect. An operation that was sent is never repeated.
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

# PVs that are processed between two checks of the clock. How many fit into one `TURN` depends on
# GIL contention.
PART = 250
# PVs of a list whose replies may confirm earlier writes. One PV of each server is enough.
_MAX_CONFIRMING_PVS = 32


class Request:
    """The base class of Get and Put; connect and cainfo use it as it is.

    Attributes:
        results: for each PV: None, the reply (bytes, or an ECA status), or a `Failure`.
    """

    doing = "connecting"
    part = PART
    sends = False  # whether it sends anything to connected PVs

    def __init__(self, context: LoopContext, channels: Sequence[Channel]) -> None:
        count = len(channels)
        if count > MAX_INDEX:
            raise ValueError(f"one call can have {MAX_INDEX} PVs at most, not {count}")
        self.channels = channels
        self.results: list[Any] = [None] * count
        self._context = context
        self._count = count
        self._arrived = 0  # number of replies; written by libca's threads
        self._awaited = count  # PVs that need a reply: those settled here are subtracted; loop only
        self._connecting: dict[Channel, list[int]] = {}
        self._turn_ends = context.portal.now() + TURN
        self._unconnected: set[int] | None = None  # after the end: the PVs that were not connected
        self._pending: PendingPuts | None = None  # after the end: put-callbacks in progress
        self._begun = 0  # number of PVs that were visited
        self._token = 0
        self._over = False
        self._deadline = math.inf
        self._after_write = context.writes.number  # the last write before this request
        self._late: set[int] = set()  # PVs that connected too late to send anything
        self._waiter = context.portal.waiter()
        self.suspended = False  # whether `run` has let other tasks run

    def __repr__(self) -> str:
        first = f" {self.channels[0].name!r}" if self.channels else ""
        return f"<{type(self).__name__}{first} of {self._count} PVs, {self._awaited} awaited>"

    async def run(self, deadline: float) -> None:
        """Send the requests and wait; afterwards `results` has the outcomes by the deadline."""
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
            # Flush once, at the end. Replies that arrive while we are still sending make this
            # thread and libca's thread contend for the GIL at every call.
            context.flush()
            # Wait even if all replies have arrived: a call that asks a server always lets other
            # tasks run. A call that asks no server does not suspend.
            if self._awaited > 0 and deadline > -math.inf:
                in_time = False
                if deadline > context.portal.now():
                    self.suspended = True
                    in_time = await self._waiter.wait(deadline)
                if not in_time:
                    await context.portal.catch_up()
                self._turn_ends = context.portal.now() + TURN
        finally:
            context.operations.pop(self, None)
            self._end()
            if context.writes:
                self._confirm_writes()

    def _confirm_writes(self) -> None:
        """Confirm earlier writes without wait: a reply shows that the server has received them."""
        circuits: set[object] = set()
        for channel, outcome in islice(
            zip(self.channels, self.results, strict=True), _MAX_CONFIRMING_PVS
        ):
            if self._is_reply(outcome) and (circuit := channel.circuit()) not in circuits:
                circuits.add(circuit)
                self._context.writes.confirm(circuit, self._after_write)

    def _is_reply(self, outcome: object) -> bool:
        """Whether this outcome is the reply of a server."""
        return False

    async def values(self) -> list[Any]:
        """Return the result of each PV, or a `Failure` in its place."""
        values: list[Any] = []
        for start in range(0, self._count, PART):
            await self.yield_turn()
            values += self._values_from(start, min(start + PART, self._count))
        return values

    def _values_from(self, start: int, stop: int) -> list[Any]:
        # A copy: libca's threads may still store replies that arrive after the deadline.
        outcomes = self.results[start:stop]
        return [
            success(self.channels[index].name)
            if outcome == ECA_NORMAL
            else self._failure(index, outcome)
            for index, outcome in enumerate(outcomes, start)
        ]

    def assume_done(self) -> None:
        """Set the outcome of every PV to success, without sending anything."""
        self.results = [libca.ECA_NORMAL] * self._count

    def _failure(self, index: int, outcome: int | Failure | None) -> Failure:
        """Explain why PV ``index`` failed, from its outcome."""
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
        """Return a text about a put-callback that may keep the server busy; may be empty."""
        if self._pending is None:
            self._pending = PendingPuts(self._context, self, self._begun_before())
        return self._pending.on_the_server_of(self.channels[index])

    def _begun_before(self) -> int | None:
        """The token of a put, which later put-callbacks cannot delay; None for other requests."""
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
        """Wait until the part that begins at ``start`` may be sent; false if it may not."""
        await self.yield_turn()
        return not self._over and not self._is_late()

    def _is_late(self) -> bool:
        """Whether the deadline has passed, so that nothing may be sent."""
        deadline = self._deadline  # -inf: send everything, but do not wait
        return self.sends and deadline > -math.inf and self._context.portal.now() >= deadline

    async def yield_turn(self) -> None:
        """Let other tasks run if this one has used up its turn."""
        portal = self._context.portal
        if portal.now() > self._turn_ends:
            await portal.yield_turn()
            self._turn_ends = portal.now() + TURN

    def _start(self, start: int, stop: int) -> None:
        """Send for the PVs from ``start`` to ``stop``, or wait for them to connect."""
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
        """Note that libca refused the request for PV ``index``, so nothing was sent."""
        if status == libca.ECA_DISCONN:  # the notification of the disconnection is still queued
            self._await_connection(index, channel)
        else:
            self._settle(index, status)

    def _request(self, index: int, channel: Channel) -> int:
        """Send the request; any status but ECA_NORMAL means that nothing was sent."""
        self._settle(index, libca.ECA_NORMAL)
        return libca.ECA_NORMAL

    def _settle(self, index: int, outcome: int | Failure) -> None:
        """Set an outcome that was found in this process."""
        self.results[index] = outcome
        self._awaited -= 1
        if self._arrived >= self._awaited:
            self._waiter.wake()

    def _await_connection(self, index: int, channel: Channel) -> None:
        if channel.closed:  # while other tasks ran
            self._settle_closed(index, channel)
            return
        self._connecting.setdefault(channel, []).append(index)
        channel.listen(self)

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._finish()

    def _finish(self) -> None:
        """Stop listening and release the token. `_failure` still needs `_connecting`."""
        self._stop_listening()
        self._release_token()

    def _stop_listening(self) -> None:
        for channel in self._connecting:
            channel.unlisten(self)

    def _release_token(self) -> None:
        if self._token:
            tokens.unregister(self._token)

    def channel_up(self, channel: Channel) -> None:
        """Send the requests that waited for this channel to connect."""
        channel.unlisten(self)
        indices = self._connecting.pop(channel, [])
        if self._is_late():
            self._late.update(indices)
            return
        for index in indices:
            self._ask(index, channel)
        self._context.flush_soon()

    def channel_down(self, channel: Channel) -> None:
        """Do nothing: unsent requests keep waiting, and libca reports the sent ones."""

    def channel_closed(self, channel: Channel) -> None:
        for index in self._connecting.pop(channel, ()):
            self._settle_closed(index, channel)

    def _settle_closed(self, index: int, channel: Channel) -> None:
        detail = f"{self.doing}: {CLOSED_HERE}"
        self._settle(index, Failure(channel.name, libca.ECA_DISCONN, detail))

    def context_closed(self) -> None:
        """End the request, because the run of its event loop ends."""
        for index, outcome in enumerate(self.results):
            if outcome is None:
                self._settle_closed(index, self.channels[index])
        self._connecting.clear()
        self._end()  # the task may never run again

    # -- On a thread of libca ----------------------------------------------------------------------

    def arrive(self, index: int, raw: Raw) -> None:
        """Store a reply; the last one wakes the loop."""
        self.results[index] = raw
        self._arrived += 1
        if self._arrived >= self._awaited:
            self._context.portal.post(self._waiter.wake_now)
