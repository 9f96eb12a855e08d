"""The request of caget.

- ``_readers[i]`` is the reader with which PV i was requested; it decodes the reply.
- A value that cannot be decoded is a `Failure` of that PV, not an exception of the call.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

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
from .request import Request


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
        self._usr = libca.Usr()

    def send(self, start: int, stop: int) -> None:
        # The same as `try_to_send` for each PV, inlined: a long list spends most of its time here.
        # Tricks ``get_send``, ``scalar_key`` and ``c_objects`` of the benchmark: row get_list.
        readers, key, usr = self._readers, self._key, self._usr
        get, one, trampoline = libca.get_callback, libca.ONE, reply_trampoline
        token = self._token + start * INDEX_ONE
        for index, channel in enumerate(self.channels[start:stop], start):
            if channel.scalar_key is key:
                readers[index] = reader = channel.last_reader
                shape = reader.shape
                usr.value = token + shape.dbr
                status = get(shape.c_dbr, one, channel.chid, trampoline, usr)
                if status != ECA_NORMAL:
                    self.not_sent(index, channel, status)
            elif channel.connected:
                self.try_to_send(index, channel)
            else:
                self.await_connection(index, channel)
            token += INDEX_ONE

    def send_one(self, index: int, channel: Channel) -> int:
        reader = channel.reader(self._key)
        self._readers[index] = reader
        self._usr.value = self._token + index * INDEX_ONE + reader.shape.dbr
        return libca.get_callback(  # type: ignore[no-any-return]
            reader.shape.c_dbr, libca.c_count(channel.request_count(self._wanted)), channel.chid,
            reply_trampoline, self._usr,
        )  # fmt: skip

    def is_reply(self, outcome: object) -> bool:
        return isinstance(outcome, (bytes, bytearray))

    def values_from(self, start: int, stop: int) -> list[Any]:
        # Trick ``get_decode`` of the benchmark: row get_list
        values: list[Any] = []
        append = values.append
        pairs = zip(self.results[start:stop], self._readers[start:stop], strict=True)
        for index, (raw, reader) in enumerate(pairs, start):
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
