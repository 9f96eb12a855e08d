"""How it is known that what was written without wait has reached the server: a read behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from . import _libca


class Written(Protocol):
    """A channel that was written to: see `Channel`."""

    name: str
    native_type: int
    chid: Any
    unconfirmed: int
    barrier: Barrier | None


class Barrier:
    """A read behind what was written: its reply says that the server has received all before it."""

    def __init__(self, channel: Written, post: Callable[[Callable[[], object]], None]) -> None:
        self.name: str = channel.name
        self.answered: bool = False  # set by libca's thread
        self.wakes: list[Callable[[], None]] = []  # for who waits
        self._channel = channel
        self._post = post
        self._covered = channel.unconfirmed
        self._token = _libca.register(self)

    def ask(self) -> bool:
        dbr = self._channel.native_type
        with _libca.unblocked:
            status = _libca.get_callback(
                _libca.C_DBR[dbr], _libca.ONE, self._channel.chid, _libca.reply_trampoline,
                _libca.Usr(self._token + dbr),
            )  # fmt: skip
        if status != _libca.ECA_NORMAL:
            _libca.unregister(self._token)
        return bool(status == _libca.ECA_NORMAL)

    def arrive(self, index: int, raw: _libca.Raw) -> None:
        """On a thread of libca: a value; or an error, after which nothing is on its way either."""
        self.answered = True
        self._post(self.passed)

    def passed(self) -> None:
        """On the loop: nothing is to be waited for any more. Idempotent."""
        _libca.unregister(self._token)
        if self._channel.barrier is self:
            self._channel.barrier = None
            self._channel.unconfirmed -= self._covered
        for wake in self.wakes:
            wake()
        self.wakes.clear()
