"""The request of caput.

- A put-callback occupies its channel until the server reports completion, even if the call has
  ended before: see `Channel.put_owner`. A second put-callback uses a second channel.
- So the token of a put outlives its call. It is forgotten when the last completion has arrived, or
  when the channel has been cleared.
- `PutCallbackLimit` limits the number of put-callbacks in progress to what a server can take.
- A write that was sent is never repeated. If its outcome is not known, the error says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._ca import libca, tokens
from .._ca.callbacks import reply_trampoline
from .._ca.libca import ECA_NORMAL
from .._ca.tokens import INDEX_ONE, Raw
from .._channels import explain
from .._channels.channel import Channel
from .._channels.context import LoopContext
from .._channels.put_limit import PutCallbackLimit
from .._errors import CAError, CAValueError, Failure
from .._values.encode import encode
from .failures import CONNECTING, REPLY, SENDING
from .request import PVS_PER_PART, Request

# When a PV has more bytes than this written without wait and not confirmed by the server, the next
# write waits for the confirmation. libca itself sets no limit here: see decision 6.
_MAX_UNCONFIRMED_BYTES = 1 << 20


class Put(Request):
    """Writes to one or many PVs, with or without put-callback."""

    doing = "writing"
    sends = True
    waits_for_room = True

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
        self._type_changes = context.type_changes  # as `check` encodes the values
        # For each PV, the bytes that `check` has encoded, and their DBR type, or type and count if
        # that is not 1. No tuple for each: Python's garbage collector would visit all of them.
        self._data: list[Any] = [None] * len(channels)
        self._types: list[int | tuple[int, int]] = [0] * len(channels)
        self._chid, self._usr = libca.Chid(), libca.Usr()
        # For each PV, the channel of its put-callback
        self._sent_on: list[Channel | None] = [None] * len(channels)
        self._borrowed: dict[int, Channel] = {}  # the second channels in use, by index of the PV
        self._second: set[int] = set()  # indices of the PVs that needed a second channel
        self._held_up = False  # waiting for the confirmation of earlier writes
        # Counts the put-callbacks of this request, and of the whole event loop
        self._own = PutCallbackLimit()
        self._all: PutCallbackLimit = context.put_limit

    async def check(self) -> dict[int, Failure]:
        """Encode the values of connected PVs before anything is sent.

        Returns:
            The failures, by the index of the PV.
        """
        failures: dict[int, Failure] = {}
        code = self._code
        for index, (channel, value) in enumerate(zip(self.channels, self._values, strict=True)):
            if not index % PVS_PER_PART:
                await self.yield_turn()
            if channel.connected:
                try:
                    dbr, count, self._data[index] = encode(
                        channel.name, value, code, channel.native_type, channel.native_count
                    )
                    self._types[index] = dbr if count == 1 else (dbr, count)
                except CAValueError as error:
                    failures[index] = _local_failure(error)
        return failures

    # -- Sending -----------------------------------------------------------------------------------

    async def room_for(self, start: int, stop: int, deadline: float) -> bool:
        portal = self.context.portal
        if self._notify:
            if not self._all.has_room(stop - start):
                self.context.flush()
                await self._all.room(stop - start, portal, deadline)
                return portal.now() < deadline
        else:
            for channel in self.channels[start:stop]:
                full = channel.unconfirmed > _MAX_UNCONFIRMED_BYTES
                if full and not await self._confirmed(channel, deadline):
                    return False
        return True

    async def _confirmed(self, channel: Channel, deadline: float) -> bool:
        """Wait until the server has confirmed earlier writes; false at the deadline or the end."""
        confirmation = channel.request_confirmation()
        if confirmation is None:  # this PV cannot be read, so its writes cannot be confirmed
            return True
        self._held_up = True
        self.context.flush()
        waiter = self.context.portal.waiter()
        confirmation.wakes.append(waiter.wake)
        if not await waiter.wait(deadline):
            return False
        self._held_up = False
        return not self._over

    def send_one(self, index: int, channel: Channel) -> int:
        if self._notify and channel.put_owner is not None:
            try:
                channel = channel.borrow_put_channel()
            except CAError as error:  # libca creates no second channel
                self._settle(index, Failure(channel.name, error.errorcode, error._detail))
                return ECA_NORMAL
            self._borrowed[index] = channel
            self._second.add(index)
            if not channel.connected:
                self.await_connection(index, channel)
                return ECA_NORMAL
        data, kind = self._data[index], self._types[index]
        self._data[index] = None
        dbr, count = (kind, 1) if isinstance(kind, int) else kind
        if data is None or self.context.type_changes != self._type_changes:
            try:
                dbr, count, data = encode(
                    channel.name, self._values[index], self._code,
                    channel.native_type, channel.native_count,
                )  # fmt: skip
            except CAValueError as error:
                self._settle(index, _local_failure(error))
                return ECA_NORMAL
        if self._notify:
            return self._put_notify(index, channel, dbr, count, data)
        self._chid.value = channel.chid
        status = libca.put(dbr, count, self._chid, data)
        if status == ECA_NORMAL:
            channel.note_write(libca.VALUE_SIZE[dbr] * count)
            self._settle(index, status)
        return status

    def _put_notify(self, index: int, channel: Channel, dbr: int, count: int, data: Any) -> int:
        """Send a put-callback; any status but ECA_NORMAL means that nothing was sent."""
        self._sent_on[index] = channel
        channel.put_owner = self  # first: libca may call back before put_notify returns
        self._own.begun += 1
        self._all.begun += 1
        self._chid.value = channel.chid
        self._usr.value = self._token + index * INDEX_ONE
        status = libca.put_notify(dbr, count, self._chid, data, reply_trampoline, self._usr)
        if status != ECA_NORMAL:
            channel.put_owner = self._sent_on[index] = None
            self._own.begun -= 1
            self._all.begun -= 1
            if status == libca.ECA_DISCONN:  # the channel, perhaps a second one, has just gone down
                self.await_connection(index, channel)
                return ECA_NORMAL
            self._release_put_channel(index)
        return status

    # -- The end of a put-callback, and of the request ---------------------------------------------

    def arrive(self, index: int, raw: Raw) -> None:
        """Store the completion of one put-callback. On a thread of libca."""
        self._sent_on[index].put_owner = None  # type: ignore[union-attr]
        self._own.completed += 1
        self._all.completed += 1
        # As `Request.arrive`, which would be another call for each put
        self.results[index] = ECA_NORMAL if raw == b"" else raw
        if self._count_outcome() == self._count:
            self.wake_from_libca()
        if self._over:
            self._forget_token()

    def put_abandoned(self, channel: Channel) -> None:
        """Give up the put-callback on a channel that was cleared. On the loop."""
        self._own.begun -= 1
        self._all.begun -= 1
        if self._over:
            self._forget_token()
            return
        for index, sent_on in enumerate(self._sent_on):
            if sent_on is channel and self.results[index] is None:
                self._settle(index, libca.ECA_DISCONN)

    def _close(self) -> None:
        if self._over:
            return
        self._over = True
        for channel in self.connecting:  # first: closing a second channel would notify this request
            channel.unlisten(self)
        for index in tuple(self._borrowed):
            self._release_put_channel(index)
        self._forget_token()

    def _release_put_channel(self, index: int) -> None:
        put_channel = self._borrowed.pop(index, None)
        if put_channel is not None:
            # If its put-callback is in progress, the channel is cleared: the server cancels it.
            self.channels[index].release_put_channel(put_channel)

    def _forget_token(self) -> None:
        """Forget the token if no put-callback of this request is in progress. On any thread."""
        if self._token and self._own.under_way() <= 0:
            tokens.unregister(self._token)

    # -- Results -----------------------------------------------------------------------------------

    def is_reply(self, outcome: object) -> bool:
        return self._notify and outcome == ECA_NORMAL

    def is_write_under_way(self, index: int) -> bool:
        return self._sent_on[index] is not None

    def explain(self, status: int) -> str:
        return explain.put_status(status)

    def why_waiting(self, index: int, stage: str) -> str:
        if stage == CONNECTING and index in self._second:
            return (
                "connecting a second channel: an earlier write to this PV is still being processed"
            )
        if stage == SENDING and self._held_up:
            return "writing: not sent; the server has not confirmed earlier writes"
        if stage == REPLY:
            return (
                f"writing: sent, but the server has not reported its completion; {explain.UNKNOWN}"
            )
        return ""

    def put_token(self) -> int | None:
        return self._token if self._notify else None


def _local_failure(error: CAValueError) -> Failure:
    return Failure(error.name, error.errorcode, error._detail, local=True)
