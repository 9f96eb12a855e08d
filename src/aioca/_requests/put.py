"""The request behind caput.

- A put-callback that is under way occupies its channel until the server reports its end, also when
  nobody waits for it any more: `Channel.put_owner`. Another one goes through a spare channel.
- So the token of a put outlives its call, until the last of its completions has come or its channel
  has been cleared.
- No more of them are under way than a server can take: see `PutCallbackLimit`.
- What was sent is never repeated, and what is not known to have been done is said to be unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._ca import libca
from .._ca.callbacks import reply_trampoline
from .._ca.tokens import INDEX_ONE, Raw
from .._channels import explain
from .._channels.channel import Channel
from .._channels.context import LoopContext
from .._channels.put_limit import PutCallbackLimit
from .._errors import CAValueError, Failure
from .._values.encode import encode
from .request import PART, Request

# Bytes that one PV may have been sent without wait while the server has not said that it has them.
_UNCONFIRMED = 1 << 20


class Put(Request):
    """Writes, with or without waiting for their processing to end."""

    doing = "writing"
    part = 500
    sends = True

    def __init__(
        self,
        context: LoopContext,
        channels: Sequence[Channel],
        values: Sequence[Any],
        code: int | None,
        wait: bool,
    ) -> None:
        super().__init__(context, channels)
        self._values = values
        self._code = code
        self._notify = wait
        self._encoded: dict[int, Any] = {}
        self._usr = libca.Usr()
        # Where each put-callback is under way
        self._sent_on: list[Channel | None] = [None] * len(channels)
        self._borrowed: dict[int, Channel] = {}  # the spare channels that we have
        self._second: set[int] = set()  # who needed one
        self._held_up = False  # by what was written before
        # Its put-callbacks, and those of the whole loop
        self._own = PutCallbackLimit()
        self._all: PutCallbackLimit = context.put_limit

    async def check(self) -> list[Failure]:
        """Encode what can be before anything is sent, and say what cannot be sent."""
        failures: list[Failure] = []
        for index, channel in enumerate(self.channels):
            if not index % PART:
                await self.yield_turn()
            if channel.connected:
                try:
                    self._encoded[index] = self._encode(index, channel)
                except CAValueError as error:
                    failures.append(_local_failure(error))
        return failures

    def _encode(self, index: int, channel: Channel) -> Any:
        return encode(
            channel.name, self._values[index], self._code,
            channel.native_type, channel.native_count,
        )  # fmt: skip

    async def _turn(self, start: int, deadline: float) -> bool:
        await self.yield_turn()  # first: the room that there is then must be used at once
        portal = self._context.portal
        stop = min(start + self.part, len(self.channels))
        if self._notify:
            if not self._all.has_room(stop - start):
                self._context.flush()
                await self._all.room(stop - start, portal, deadline)
                return not self._over and portal.now() < deadline
        else:
            for index in range(start, stop):
                if self.channels[index].unconfirmed > _UNCONFIRMED and not await self._taken(
                    self.channels[index], deadline
                ):
                    return False
        return not self._over and not self._is_late()

    async def _taken(self, channel: Channel, deadline: float) -> bool:
        """Wait until the server has received what was written before; false if it has not."""
        confirmation = channel.request_confirmation()
        if confirmation is None:  # a PV that cannot be read
            return True
        self._held_up = True
        self._context.flush()
        waiter = self._context.portal.waiter()
        confirmation.wakes.append(waiter.wake)
        if not await waiter.wait(deadline):
            return False
        self._held_up = False
        return not self._over

    def _request(self, index: int, channel: Channel) -> int:
        if self._notify and channel.put_owner is not None:
            channel = channel.spare()
            self._borrowed[index] = channel
            self._second.add(index)
            if not channel.connected:
                self._await_connection(index, channel)
                return libca.ECA_NORMAL
        encoded = self._encoded.pop(index, None)
        if encoded is None:
            try:
                encoded = self._encode(index, channel)
            except CAValueError as error:
                self._settle(index, _local_failure(error))
                return libca.ECA_NORMAL
        dbr, count, data = encoded
        if not self._notify:
            status = libca.put(dbr, count, channel.chid, data)
            if status == libca.ECA_NORMAL:
                channel.note_write(libca.VALUE_SIZE[dbr] * count)
                self._settle(index, status)
            return status
        self._sent_on[index] = channel
        channel.put_owner = self  # first: the callback may come before the call is back
        self._own.begun += 1
        self._all.begun += 1
        self._usr.value = self._token + index * INDEX_ONE
        status = libca.put_notify(dbr, count, channel.chid, data, reply_trampoline, self._usr)
        if status != libca.ECA_NORMAL:
            channel.put_owner = self._sent_on[index] = None
            self._own.begun -= 1
            self._all.begun -= 1
            if status == libca.ECA_DISCONN:  # it went down just now; it may be a spare of ours
                self._await_connection(index, channel)
                return libca.ECA_NORMAL
            self._release_put_channel(index)
        return status

    def arrive(self, index: int, raw: Raw) -> None:
        self._sent_on[index].put_owner = None  # type: ignore[union-attr]
        self._own.completed += 1
        self._all.completed += 1
        super().arrive(index, libca.ECA_NORMAL if raw == b"" else raw)
        if self._over:
            self._release_token()

    def _is_reply(self, outcome: object) -> bool:
        return self._notify and outcome == libca.ECA_NORMAL

    def _finish(self) -> None:
        self._stop_listening()  # first: a spare that is closed would tell us
        for index in tuple(self._borrowed):
            self._release_put_channel(index)
        self._release_token()

    def _release_put_channel(self, index: int) -> None:
        spare = self._borrowed.pop(index, None)
        if spare is not None:
            # One whose put is still under way is cleared, and the server cancels the put.
            self.channels[index].release_put_channel(spare)

    def put_abandoned(self, channel: Channel) -> None:
        self._own.begun -= 1
        self._all.begun -= 1
        if self._over:
            self._release_token()
            return
        for index, sent_on in enumerate(self._sent_on):
            if sent_on is channel and self.results[index] is None:
                self._settle(index, libca.ECA_DISCONN)

    def _release_token(self) -> None:
        """Done with when no put-callback of ours can come any more; any thread."""
        if self._own.under_way() <= 0:
            super()._release_token()

    def _why_not_connected(self, index: int) -> str:
        if index in self._second:
            return (
                "connecting a second channel: an earlier write to this PV is still being processed"
            )
        return super()._why_not_connected(index)

    def _why_not_begun(self) -> str:
        if self._held_up:
            return "writing: not sent; the server has not confirmed earlier writes"
        return super()._why_not_begun()

    def _begun_before(self) -> int | None:
        return self._token if self._notify else None

    def _why_no_reply(self, index: int) -> str:
        return f"writing: sent, but the server has not reported its completion; {explain.UNKNOWN}"

    def _why_status(self, status: int) -> str:
        return explain.put_status(status)


def _local_failure(error: CAValueError) -> Failure:
    return Failure(error.name, error.errorcode, error._detail, local=True)
