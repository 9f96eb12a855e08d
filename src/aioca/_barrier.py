"""How it is known that what was written without wait has reached the server: a read behind it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from . import _libca, _tokens
from ._tokens import Raw
from ._trampolines import reply_trampoline

logger = logging.getLogger("aioca")

_DELIVERY = 1.0  # seconds that the end of a run waits at most for what was written without wait


class Written(Protocol):
    """A channel that was written to: see `Channel`."""

    name: str
    connected: bool
    native_type: int
    chid: Any
    unconfirmed: int
    barrier: Barrier | None


class Barrier:
    """A read behind what was written: its reply says that the server has received all before it."""

    def __init__(self, channel: Written, post: Callable[[Callable[[], object]], None]) -> None:
        self.name = channel.name
        self.answered = False  # set by libca's thread
        self.wakes: list[Callable[[], None]] = []  # for who waits
        self._channel = channel
        self._post = post
        self._covered = channel.unconfirmed
        self._token = _tokens.register(self)

    def ask(self) -> bool:
        dbr = self._channel.native_type
        with _libca.unblocked:
            status = _libca.get_callback(
                _libca.C_DBR[dbr], _libca.ONE, self._channel.chid, reply_trampoline,
                _libca.Usr(self._token + dbr),
            )  # fmt: skip
        if status != _libca.ECA_NORMAL:
            _tokens.unregister(self._token)
        return bool(status == _libca.ECA_NORMAL)

    def arrive(self, index: int, raw: Raw) -> None:
        """On a thread of libca: a value; or an error, after which nothing is on its way either."""
        self.answered = True
        self._post(self.passed)

    def passed(self) -> None:
        """On the loop: nothing is to be waited for any more. Idempotent."""
        _tokens.unregister(self._token)
        if self._channel.barrier is self:
            self._channel.barrier = None
            self._channel.unconfirmed -= self._covered
        for wake in self.wakes:
            wake()
        self.wakes.clear()


def wait_until_received(
    channels: Iterable[Written],
    post: Callable[[Callable[[], object]], None],
    flush: Callable[[], None],
) -> None:
    """Wait, for a bounded time, until the servers have what was written without wait."""
    barriers: dict[str, Barrier] = {}  # one for each circuit, which keeps the order
    for channel in channels:
        if channel.unconfirmed and channel.connected:
            host = _libca.host_name(channel.chid)
            if host not in barriers and (barrier := Barrier(channel, post)).ask():
                barriers[host] = barrier
    if not barriers:
        return
    flush()
    give_up = time.monotonic() + _DELIVERY
    late = list(barriers.values())
    while late and time.monotonic() < give_up:
        time.sleep(0.0002)
        late = [barrier for barrier in late if not barrier.answered]
    for barrier in late:
        logger.warning(
            "%s: the run has ended, and the server has not confirmed that it has received what"
            " was written without wait", barrier.name,
        )  # fmt: skip
    for barrier in barriers.values():
        barrier.passed()
