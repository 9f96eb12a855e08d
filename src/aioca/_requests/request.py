"""The base of caget, caput, connect and cainfo: one request for one or many PVs.

A request visits its PVs once. It sends to the connected PVs at once, and to each other PV when that
PV connects. One task waits, once, for all outcomes. libca's threads store the replies in the
request; the last outcome wakes the task.

- ``results[i]`` is None until PV i has an outcome. libca's threads write to it in `arrive` only,
  the loop in `_settle` only, each at most once for each i. Then they count it: the counter gives
  each caller another number, so exactly one of them sees that all PVs have an outcome.
- A long list is processed in parts; between two parts, the other tasks of the loop run.
- Nothing is sent after the deadline. A reply that arrived before the deadline counts, even if the
  loop was busy at that time.
- Every request ends by its deadline, by cancellation, by replies, or when its context closes.
  ``_close`` runs in each case and leaves nothing behind that C could call.
- If the channel goes down just before an operation is sent, the operation waits for the channel
  to reconnect. An operation that was sent is never repeated.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from .._ca import libca, tokens
from .._ca.libca import ECA_NORMAL
from .._ca.tokens import KEY_SHIFT, MAX_INDEX, Raw
from .._channels import explain
from .._channels.channel import Channel
from .._channels.context import LoopContext
from .._errors import Failure, success
from .._portal.interface import TURN_SECONDS
from .failures import Failures, closed_here

# The PVs of one part of a list: those that are processed between two checks of the clock. How many
# fit into `TURN_SECONDS` depends on GIL contention.
PVS_PER_PART = 250


class Request:
    """The base class of Get and Put; connect and cainfo use it as it is.

    A subclass sends in `send_one` and makes values in `values_from`.

    Attributes:
        doing: the operation, for the texts of errors.
        values_part: the PVs whose values are made between two checks of the clock.
        sends: whether it sends anything to connected PVs, which it must not do after the deadline.
        waits_for_room: whether `room_for` must be awaited before a part is sent.
        channels: the channels of the PVs.
        context: the context of the event loop.
        results: for each PV: None, the reply (bytes, or an ECA status), or a `Failure`.
        begun: the number of PVs that were visited.
        connecting: the channels that the request waits for, each with the index of its PV.
        again: further indices of such channels, of PVs that come more than once.
        late: the indices of the PVs that connected too late to send anything.
        suspended: whether `run` has let other tasks run.
    """

    doing: str = "connecting"
    values_part: int = PVS_PER_PART
    sends: bool = False
    waits_for_room: bool = False

    def __init__(self, context: LoopContext, channels: Sequence[Channel]) -> None:
        count = len(channels)
        if count > MAX_INDEX:
            raise ValueError(f"one call can have {MAX_INDEX} PVs at most, not {count}")
        self.context: LoopContext = context
        self.channels: Sequence[Channel] = channels
        self.results: list[Any] = [None] * count
        self.begun: int = 0
        self.connecting: dict[Channel, int] = {}
        self.again: dict[Channel, list[int]] = {}
        self.late: set[int] = set()
        self.suspended: bool = False
        self._count = count
        self._count_outcome = itertools.count(1).__next__  # atomic, with and without a GIL
        self._settled_here = 0  # outcomes that were found on the loop
        self._token = 0
        self._over = False
        self._deadline = math.inf
        self._turn_ends = context.portal.now() + TURN_SECONDS
        self._after_write = context.writes.number  # the last write before this request
        self._waiter = context.portal.waiter()
        self._failures: Failures | None = None  # made when the first failure is explained

    def __repr__(self) -> str:
        first = f" {self.channels[0].name!r}" if self.channels else ""
        waiting = self.results.count(None)
        return f"<{type(self).__name__}{first} of {self._count} PVs, {waiting} without an outcome>"

    async def run(self, deadline: float) -> None:
        """Send the requests and wait; afterwards `results` has the outcomes by the deadline."""
        context = self.context
        now = context.portal.now
        begun_at = now()
        self._deadline = deadline
        context.operations[self] = None
        self._token = tokens.enter(self) << KEY_SHIFT  # as `tokens.register`
        try:
            for start in range(0, self._count, PVS_PER_PART):
                if now() > self._turn_ends:
                    await self.yield_turn()
                stop = min(start + PVS_PER_PART, self._count)
                if self.waits_for_room and not await self.room_for(start, stop, deadline):
                    break
                # The deadline -inf means: send everything, but do not wait
                if self._over or (self.sends and -math.inf < deadline <= now()):
                    break
                self.begun = stop
                libca.unblocked(self.send, start, stop)
            # Wait even if all replies have arrived: a call that asks a server always lets other
            # tasks run. A call that asks no server does not suspend. Flush once, at the end.
            if self._settled_here == self._count or deadline == -math.inf:
                context.flush()
            else:
                context.flushes.for_call(begun_at)
                in_time = False
                if deadline > now():
                    self.suspended = True
                    in_time = await self._waiter.wait(deadline)
                if not in_time:
                    await context.portal.catch_up()
                self._turn_ends = now() + TURN_SECONDS
        finally:
            context.operations.pop(self, None)
            self._close()
            if context.writes.unconfirmed:
                self._confirm_writes()

    async def yield_turn(self) -> None:
        """Let other tasks run, if this one has used up its turn."""
        portal = self.context.portal
        if portal.now() > self._turn_ends:
            await portal.yield_turn()
            self._turn_ends = portal.now() + TURN_SECONDS

    # -- What a kind of request does ---------------------------------------------------------------

    async def room_for(self, start: int, stop: int, deadline: float) -> bool:
        """Wait until the PVs from ``start`` to ``stop`` may be sent; false if they may not."""
        return True

    def send(self, start: int, stop: int) -> None:
        """Send for the PVs from ``start`` to ``stop``, or wait for them to connect."""
        for index in range(start, stop):
            channel = self.channels[index]
            if channel.connected:
                self.try_to_send(index, channel)
            else:
                self.await_connection(index, channel)

    def send_one(self, index: int, channel: Channel) -> int:
        """Send for one PV; any status but ECA_NORMAL means that nothing was sent."""
        self._settle(index, ECA_NORMAL)
        return ECA_NORMAL

    def is_reply(self, outcome: object) -> bool:
        """Whether this outcome is the reply of a server."""
        return False

    def is_write_under_way(self, index: int) -> bool:
        """Whether a put-callback for PV ``index`` was sent, and has not completed."""
        return False

    def values_from(self, start: int, stop: int) -> list[Any]:
        """Return the values of the PVs from ``start`` to ``stop``, or a `Failure` in its place."""
        # A copy: libca's threads may still store replies that arrive after the deadline.
        outcomes = self.results[start:stop]
        if outcomes.count(ECA_NORMAL) == len(outcomes):
            return [success(channel.name) for channel in self.channels[start:stop]]
        return [
            success(self.channels[index].name)
            if outcome == ECA_NORMAL
            else self.failure(index, outcome)
            for index, outcome in enumerate(outcomes, start)
        ]

    def explain(self, status: int) -> str:
        """Explain an ECA status."""
        return explain.status(self.doing, status)

    def why_waiting(self, index: int, stage: str) -> str:
        """Explain why PV ``index`` is still in a stage, if this kind of request can; else ''."""
        return ""

    def put_token(self) -> int | None:
        """The token of a put, which later put-callbacks cannot delay; None for other requests."""
        return None

    # -- On the loop -------------------------------------------------------------------------------

    async def values(self) -> list[Any]:
        """Return the value of each PV, or a `Failure` in its place."""
        values: list[Any] = []
        for start in range(0, self._count, self.values_part):
            await self.yield_turn()
            values += self.values_from(start, min(start + self.values_part, self._count))
        return values

    def failure(self, index: int, outcome: int | Failure | None) -> Failure:
        """Explain why PV ``index`` failed, from its outcome. After the end of the request."""
        if self._failures is None:
            self._failures = Failures(self)
        return self._failures.of(index, outcome)

    def assume_done(self) -> None:
        """Set the outcome of every PV to success, without sending anything."""
        self.results = [ECA_NORMAL] * self._count

    def try_to_send(self, index: int, channel: Channel) -> None:
        """Send for one PV, or note why nothing was sent."""
        status = self.send_one(index, channel)
        if status != ECA_NORMAL:
            self.not_sent(index, channel, status)

    def not_sent(self, index: int, channel: Channel, status: int) -> None:
        """Note that libca refused the request for PV ``index``, so nothing was sent."""
        if status == libca.ECA_DISCONN:  # the notification of the disconnection is still queued
            self.await_connection(index, channel)
        else:
            self._settle(index, status)

    def await_connection(self, index: int, channel: Channel) -> None:
        """Send for one PV when its channel connects."""
        if channel.closed:  # while other tasks ran
            self._settle(index, closed_here(self, channel))
            return
        if self.connecting.setdefault(channel, index) == index:
            channel.listen(self)
        else:
            self.again.setdefault(channel, []).append(index)

    def _settle(self, index: int, outcome: int | Failure) -> None:
        """Set an outcome that was found in this process."""
        self.results[index] = outcome
        self._settled_here += 1
        if self._count_outcome() == self._count:
            self._waiter.wake()

    def _confirm_writes(self) -> None:
        """Confirm earlier writes without wait: a reply shows that the server has received them."""
        outcomes = zip(self.channels, self.results, strict=True)
        self.context.writes.confirm_by_replies(outcomes, self.is_reply, self._after_write)

    def _close(self) -> None:
        """Stop listening and forget the token. Idempotent. Errors still need ``connecting``."""
        if not self._over:
            self._over = True
            for channel in self.connecting:
                channel.unlisten(self)
            tokens.owners.pop(self._token >> KEY_SHIFT, None)  # as `tokens.unregister`

    # -- As a listener of channels, and as an operation of the context ----------------------------

    def channel_up(self, channel: Channel) -> None:
        """Send the requests that waited for this channel to connect."""
        channel.unlisten(self)
        indices = self._no_longer_connecting(channel)
        if not self.sends:
            for index in indices:
                self._settle(index, ECA_NORMAL)
        elif -math.inf < self._deadline <= self.context.portal.now():
            self.late.update(indices)
        else:
            libca.unblocked(self._send_waiting, indices, channel)
            self.context.flushes.soon()

    def _send_waiting(self, indices: Sequence[int], channel: Channel) -> None:
        for index in indices:
            self.try_to_send(index, channel)

    def channel_down(self, channel: Channel) -> None:
        """Do nothing: unsent requests keep waiting, and libca reports the sent ones."""

    def channel_closed(self, channel: Channel) -> None:
        """End the requests that waited for this channel."""
        for index in self._no_longer_connecting(channel):
            self._settle(index, closed_here(self, channel))

    def _no_longer_connecting(self, channel: Channel) -> list[int]:
        """Return the indices of the PVs that waited for this channel."""
        index = self.connecting.pop(channel, None)
        return [] if index is None else [index, *self.again.pop(channel, ())]

    def context_closed(self) -> None:
        """End the request, because the run of its event loop ends."""
        for index, outcome in enumerate(self.results):
            if outcome is None:
                was_sent = self.is_write_under_way(index)
                self._settle(index, closed_here(self, self.channels[index], was_sent=was_sent))
        self.connecting.clear()
        self.again.clear()
        self._close()  # the task may never run again

    # -- On a thread of libca ----------------------------------------------------------------------

    def arrive(self, index: int, raw: Raw) -> None:
        """Store a reply; the last one wakes the loop."""
        self.results[index] = raw
        if self._count_outcome() == self._count:
            self.wake_from_libca()

    def wake_from_libca(self) -> None:
        """Wake the loop: all PVs have an outcome."""
        self.context.portal.post(self._waiter.wake_now)
