"""Confirms writes without wait: shows that a server has received them.

libca does not report the outcome of a write without wait. But a server answers the requests of one
circuit in order. So the reply to any request that was sent after a write confirms the write. If no
such reply is expected, a read is sent for this purpose (`WriteConfirmation`).

Invariants: the records of unconfirmed writes change on the loop's thread only. A reply confirms
only writes on the same circuit that were passed to libca before its request.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING

from .._ca import libca, tokens
from .._ca.callbacks import reply_trampoline
from .._ca.tokens import Raw

if TYPE_CHECKING:
    from .channel import Channel
    from .connection import Circuit

logger = logging.getLogger("aioca")

# Before all channels are closed, at most this long is waited for writes to be confirmed.
_MAX_CONFIRM_SECONDS = 1.0
# Between two checks of the replies: about one round trip in a local network.
_POLL_SECONDS = 0.0002
# The warning about unconfirmed writes names at most this many PVs, to stay readable.
_MAX_NAMES = 5
# PVs of a list whose replies may confirm earlier writes. One PV of each server is enough.
_MAX_CONFIRMING_PVS = 32


class UnconfirmedWrites:
    """The channels of one loop with writes that no server has confirmed. All on the loop's thread.

    Attributes:
        number: the number of writes without wait so far.
        unconfirmed: by circuit, and then by channel: the number of the last write.
    """

    def __init__(self) -> None:
        self.number: int = 0
        self.unconfirmed: dict[Circuit | None, dict[Channel, int]] = {}

    def __repr__(self) -> str:
        circuits = self.unconfirmed.copy().values()  # the loop may add some
        return f"<UnconfirmedWrites {sum(map(len, circuits))} channels>"

    def add(self, channel: Channel, circuit: Circuit | None) -> None:
        """Note that a write to this channel, on this circuit, was passed to libca."""
        self.number += 1
        try:
            self.unconfirmed[circuit][channel] = self.number
        except KeyError:
            self.unconfirmed[circuit] = {channel: self.number}

    def confirm_by_replies(
        self,
        outcomes: Iterable[tuple[Channel, object]],
        is_reply: Callable[[object], bool],
        number: int,
    ) -> None:
        """Remove the writes up to ``number`` on the circuits of the channels that replied."""
        circuits: set[Circuit | None] = set()
        for channel, outcome in islice(outcomes, _MAX_CONFIRMING_PVS):
            if is_reply(outcome) and (circuit := channel.circuit()) not in circuits:
                circuits.add(circuit)
                self.confirm(circuit, number)

    def confirm(self, circuit: Circuit | None, number: int) -> None:
        """Remove the writes up to ``number`` on this circuit: the server has received them."""
        channels = self.unconfirmed.get(circuit)
        if channels is None:
            return
        later: dict[Channel, int] = {}
        for channel, last in channels.items():
            if last > number:
                later[channel] = last
            else:
                channel.unconfirmed = 0
        if later:
            self.unconfirmed[circuit] = later
        else:
            del self.unconfirmed[circuit]

    def forget(self, channel: Channel) -> None:
        """Remove the writes of a channel that is being closed."""
        for circuit, channels in tuple(self.unconfirmed.items()):
            channels.pop(channel, None)
            if not channels:
                del self.unconfirmed[circuit]

    def wait_until_received(
        self, post: Callable[[Callable[[], object]], None], flush: Callable[[], None]
    ) -> None:
        """Wait until the servers have confirmed all writes, for `_MAX_CONFIRM_SECONDS` at most.

        Blocks the loop's thread, before all channels are closed: at the end of the run, or by
        `purge_channel_caches`. Logs the PVs whose writes are unconfirmed.

        This polls, because the loop does not run the jobs that `WriteConfirmation.arrive` posts,
        and there is one read for each circuit: no single event is set when all have been answered.
        """
        reads: list[tuple[WriteConfirmation, list[str]]] = []
        for circuit, channels in self.unconfirmed.items():
            for channel in channels:
                if channel.connected and channel.circuit() == circuit:
                    read = WriteConfirmation(channel, self, post)
                    if read.ask():
                        reads.append((read, [channel.name for channel in channels]))
                        break
        if not reads:
            return
        flush()
        give_up = time.monotonic() + _MAX_CONFIRM_SECONDS
        late = reads
        while late and time.monotonic() < give_up:
            time.sleep(_POLL_SECONDS)
            late = [(read, names) for read, names in late if not read.answered]
        for _, names in late:
            others = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
            logger.warning(
                "%s%s: the channels are being closed, and the server has not confirmed that it has"
                " received what was written without wait",
                ", ".join(islice(names, _MAX_NAMES)), others,
            )  # fmt: skip
        for read, _ in reads:
            read.close()


class WriteConfirmation:
    """A read of one element, sent after writes: its reply confirms all writes before it.

    Attributes:
        answered: whether the reply has arrived; set on a libca thread.
        wakes: functions to call on the loop when the read has ended, with a reply or without.
    """

    def __init__(
        self,
        channel: Channel,
        writes: UnconfirmedWrites,
        post: Callable[[Callable[[], object]], None],
    ) -> None:
        self.answered: bool = False
        self.wakes: list[Callable[[], None]] = []
        self._channel = channel
        self._writes = writes
        self._post = post
        self._circuit = channel.circuit()
        self._number = writes.number
        self._covered = channel.unconfirmed
        self._sent = False
        self._token = tokens.register(self)

    def __repr__(self) -> str:
        state = "answered" if self.answered else "waiting"
        return f"<WriteConfirmation {self._channel.name!r} {state}>"

    def ask(self) -> bool:
        """Pass the read to libca. On the loop; does not wait.

        Returns:
            False if libca refuses the read, as for a PV that cannot be read.
        """
        libca.unblocked(self._send)
        if not self._sent:
            tokens.unregister(self._token)
        return self._sent

    def _send(self) -> None:
        dbr = self._channel.native_type
        status = libca.get_callback(
            libca.C_DBR[dbr], libca.ONE, libca.Chid(self._channel.chid), reply_trampoline,
            libca.Usr(self._token + dbr),
        )  # fmt: skip
        self._sent = status == libca.ECA_NORMAL

    def arrive(self, index: int, raw: Raw) -> None:
        """Note the reply: a value, or an error, after which no writes are in transit either.

        On a libca thread.
        """
        self.answered = True
        self._post(self._confirmed)

    def _confirmed(self) -> None:
        """Remove the writes that the reply confirms, and end the read; portal job."""
        channel = self._channel
        if channel.confirmation is self:
            # Some bytes remain unconfirmed if there were more writes after the read.
            channel.unconfirmed = max(0, channel.unconfirmed - self._covered)
        self._writes.confirm(self._circuit, self._number)
        self.close()

    def close(self) -> None:
        """End the read, with or without a reply, and call ``wakes``. On the loop. Idempotent."""
        tokens.unregister(self._token)
        if self._channel.confirmation is self:
            self._channel.confirmation = None
        for wake in self.wakes:
            wake()
        self.wakes.clear()
