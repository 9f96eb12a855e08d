"""The request of caget.

- ``_readers[i]`` is the reader with which PV i was requested; it decodes the reply.
- A value that cannot be decoded is a `Failure` of that PV, not an exception of the call.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import compress, repeat
from typing import Any

import numpy as np

from .._ca import libca
from .._ca.callbacks import reply_trampoline
from .._ca.libca import ECA_NORMAL
from .._ca.tokens import INDEX_ONE
from .._channels import explain
from .._channels.channel import Channel
from .._channels.context import LoopContext
from .._errors import Failure
from .._values.decode import request_kind, why_unreadable
from .failures import REPLY
from .replies import Replies, replies
from .request import Request

# A list of at least so many PVs has a C callback of its own; its numbers are decoded together.
_MIN_LIST = 16


class Get(Request):
    """Reads of one or many PVs. `values` decodes the replies."""

    doing = "reading"
    sends = True

    def __init__(
        self,
        context: LoopContext,
        channels: Sequence[Channel],
        code: int | None,
        format: int,
        count: int,
    ) -> None:
        super().__init__(context, channels)
        self._key = request_kind(code, format)
        self._wanted = count
        self._readers: list[Any] = [None] * len(channels)
        self._chid, self._usr = libca.Chid(), libca.Usr()
        self._replies: Replies | None = None

    def send(self, start: int, stop: int) -> None:
        # Tricks ``get_send``, ``scalar_key`` and ``c_objects`` of the benchmark: row get_list
        indices: Sequence[int] = range(start, stop)
        if len(indices) >= _MIN_LIST:
            indices = self._send_scalars(indices)
        readers, key, chid, usr = self._readers, self._key, self._chid, self._usr
        for index in indices:  # the same as `try_to_send` for each PV, inlined
            channel = self.channels[index]
            if channel.scalar_key is key:
                readers[index] = reader = channel.last_reader
                shape = reader.shape
                chid.value = channel.chid
                usr.value = self._token + index * INDEX_ONE + shape.dbr
                status = libca.get_callback(shape.c_dbr, libca.ONE, chid, reply_trampoline, usr)
                if status != ECA_NORMAL:
                    self.not_sent(index, channel, status)
            elif channel.connected:
                self.try_to_send(index, channel)
            else:
                self.await_connection(index, channel)

    def _send_scalars(self, indices: Sequence[int]) -> Sequence[int]:
        """Send for the PVs of one element whose reader is the right one; return the others.

        A list spends most of its time here.
        """
        key, start, stop = self._key, indices[0], indices[-1] + 1
        channels = self.channels[start:stop]
        others: Sequence[int] = ()
        readers = [channel.last_reader for channel in channels if channel.scalar_key is key]
        if len(readers) == len(channels):
            self._readers[start:stop] = readers
        else:
            ready = [channel.scalar_key is key for channel in channels]
            others = [index for index, is_ready in zip(indices, ready, strict=True) if not is_ready]
            indices, channels = list(compress(indices, ready)), list(compress(channels, ready))
            readers = [channel.last_reader for channel in channels]
            if not channels:
                return others
            for index, reader in zip(indices, readers, strict=True):
                self._readers[index] = reader
        usrs = np.array(indices, np.uint64) * INDEX_ONE + self._token
        shape = readers[0].shape
        if len({reader.shape for reader in readers}) == 1:
            c_dbrs: Iterable[Any] = repeat(shape.c_dbr)
            usrs += shape.dbr
        else:
            c_dbrs = [reader.shape.c_dbr for reader in readers]
            usrs += np.array([reader.shape.dbr for reader in readers], np.uint64)
        chids = [channel.chid for channel in channels]
        statuses = libca.get_scalars(c_dbrs, chids, self._trampoline_of_list(), usrs)
        if statuses.count(ECA_NORMAL) < len(chids):
            for index, channel, status in zip(indices, channels, statuses, strict=True):
                if status != ECA_NORMAL:
                    self.not_sent(index, channel, status)
        return others

    def _trampoline_of_list(self) -> libca.Trampoline:
        if self._replies is None:
            self._replies = replies()
            if self._replies is None:
                return reply_trampoline
            self._replies.serve(
                self._token, self.results, self._count_outcome, self.wake_from_libca
            )
        return self._replies.trampoline

    def _close(self) -> None:
        super()._close()
        used, self._replies = self._replies, None
        if used is not None:
            used.release()

    def send_one(self, index: int, channel: Channel) -> int:
        reader = channel.reader(self._key)
        self._readers[index] = reader
        self._chid.value = channel.chid
        self._usr.value = self._token + index * INDEX_ONE + reader.shape.dbr
        return libca.get_callback(  # type: ignore[no-any-return]
            reader.shape.c_dbr, libca.c_count(channel.request_count(self._wanted)), self._chid,
            reply_trampoline, self._usr,
        )  # fmt: skip

    def is_reply(self, outcome: object) -> bool:
        return isinstance(outcome, (bytes, bytearray))

    def values_from(self, start: int, stop: int) -> list[Any]:
        # Trick ``get_decode`` of the benchmark: row get_mixed
        outcomes, readers = self.results[start:stop], self._readers[start:stop]
        values: list[Any] = []
        if len(outcomes) >= _MIN_LIST and (values := _numbers(outcomes, readers)):
            return values
        append = values.append
        for index, (raw, reader) in enumerate(zip(outcomes, readers, strict=True), start):
            if type(raw) is bytes and reader.shape.unpack is not None:  # as in `_decode._number`
                shape = reader.shape
                try:
                    (number,) = shape.unpack(raw)
                except struct.error:
                    append(self._value(index, raw))  # a value or the Failure
                    continue
                value = shape.kind(number)
                value._reader = reader
                value._raw = raw
                append(value)
            else:
                append(self._value(index, raw))
        return values

    def _value(self, index: int, raw: Any) -> Any:
        if type(raw) is bytes or type(raw) is bytearray:
            try:
                return self._readers[index].decode(raw)
            except Exception as error:  # a server may send anything
                name = self.channels[index].name
                status, why = why_unreadable(error)
                return Failure(name, status, f"reading: {why}")
        return self.failure(index, raw)

    def why_waiting(self, index: int, stage: str) -> str:
        if stage != REPLY:
            return ""
        channel, reader = self.channels[index], self._readers[index]
        count = channel.request_count(self._wanted) or channel.native_count
        dropped = explain.may_be_dropped(reader.shape.dbr, count, self.context.ca_context.settings)
        if not dropped:
            return ""
        return f"reading: no reply has come; libca may have dropped it: {dropped}"


def _numbers(outcomes: list[Any], readers: list[Any]) -> list[Any]:
    """Decode a list of single numbers that have one shape; return [] for any other list.

    Trick ``get_decode_many`` of the benchmark: row get_list.
    """
    kinds: set[type] = set(map(type, outcomes))
    if kinds != {bytes}:
        return []
    shapes = {reader.shape for reader in readers}
    shape = shapes.pop()
    if shapes or shape.cells is None or set(map(len, outcomes)) != {shape.cells.itemsize}:
        return []
    cells: Any = np.frombuffer(b"".join(outcomes), shape.cells)
    values: list[Any] = list(map(shape.kind, cells["value"].tolist()))
    value: Any
    for value, value._reader, value._raw in zip(values, readers, outcomes, strict=True):  # noqa: B007
        pass
    return values
