"""A fake libca, for what neither libca nor a server can be made to do at a chosen moment.

`FakeCA` replaces the functions of `aioca._ca.libca` that take a chid or return one. All other
modules call them through that module. It keeps account of channels and subscriptions, and it makes
callbacks only when the test says so. What a function returns can be scripted.

The context of libca is a real one, but no channel is ever created in it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from aioca import DBR_DOUBLE
from aioca._ca import libca, tokens
from aioca._channels.connection import Connection

HOST = "192.0.2.1:5064"  # an address for documentation; nothing is sent there


@dataclass
class CAChannel:
    """A channel of the fake libca; ``token`` is 0 if a test has made it itself."""

    chid: int
    name: str = ""
    token: int = 0
    priority: int = 0
    host: str = libca.NO_HOST


@dataclass
class PutCallback:
    """A put-callback that libca has accepted."""

    channel: CAChannel
    usr: int

    def complete(self) -> None:
        """Report its completion to the request."""
        owner = tokens.owner_of(self.usr >> tokens.KEY_SHIFT)
        assert owner is not None, f"{self.channel.name}: the token of the put was released"
        owner.arrive(self.usr >> tokens.DBR_BITS & tokens.INDEX_MASK, b"")


class FakeCA:
    """Replaces functions of libca for one test.

    Each function records its call, and then does one of these:

    - It returns its next scripted result, if there is one: see `script` and `always`.
    - It does what `FakeCA` has for it: a channel connects at once as a DBR_DOUBLE of one element,
      a put-callback is accepted, a clear removes.
    - It fails, if `FakeCA` has nothing for it.

    Attributes:
        lock: libca's callback lock. Each clear waits for it.
        channels: by chid, the channels that exist.
        subscriptions: by evid, the chid of each subscription that exists.
        puts: the put-callbacks that were accepted, in order.
        calls: the name of each function that was called with its arguments, in order.
        clearing_threads: the name of the thread of each clear.
        errors: clears of what did not exist.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.lock = threading.RLock()
        self.channels: dict[int, CAChannel] = {}
        self.subscriptions: dict[int, int] = {}
        self.puts: list[PutCallback] = []
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.clearing_threads: list[str] = []
        self.errors: list[str] = []
        self._scripts: dict[str, deque[Any]] = {}
        self._always: dict[str, Any] = {}
        self._next_chid = 1
        for name in (
            "create_channel", "clear_channel", "create_subscription", "clear_subscription",
            "put", "put_notify", "get_callback", "host_name", "read_access", "write_access",
            "field_type", "element_count", "puser",
        ):  # fmt: skip
            patch.setattr(libca, name, partial(self._call, name))

    # -- For tests ---------------------------------------------------------------------------------

    def script(self, name: str, *results: Any) -> None:
        """Give the next calls of a function these results, in order.

        An exception is raised. A function is called with the arguments, and its result returned.
        """
        self._scripts.setdefault(name, deque()).extend(results)

    def always(self, name: str, result: Any) -> None:
        """Give all further calls of a function this result, as in `script`."""
        self._always[name] = result

    def as_usual(self, name: str) -> None:
        """End what `script` and `always` have said of a function."""
        self._scripts.pop(name, None)
        self._always.pop(name, None)

    def count(self, name: str) -> int:
        """The number of calls of a function so far."""
        return sum(called == name for called, _ in self.calls)

    def connect(self, channel: CAChannel) -> None:
        """Report that a channel has connected."""
        channel.host = HOST
        self._owner(channel).connection_changed(
            channel.token >> tokens.KEY_SHIFT, True, DBR_DOUBLE, 1
        )

    def disconnect(self, channel: CAChannel, *, responds: bool = True) -> None:
        """Report that a channel has disconnected.

        Args:
            channel: the channel.
            responds: whether the server has closed the circuit. Otherwise it has not responded,
                and libca keeps the circuit.
        """
        if responds:
            channel.host = libca.NO_HOST
        self._owner(channel).connection_changed(channel.token >> tokens.KEY_SHIFT, False, -1, 0)

    def channel_of(self, chid: int | libca.Chid) -> CAChannel:
        return self.channels[chid if isinstance(chid, int) else chid.value]

    def left(self) -> list[CAChannel]:
        """The channels that this package has created and not cleared."""
        return [channel for channel in self.channels.values() if channel.token]

    # -- The functions -----------------------------------------------------------------------------

    def _call(self, name: str, *arguments: Any) -> Any:
        self.calls.append((name, arguments))
        if self._scripts.get(name):
            result = self._scripts[name].popleft()
        elif name in self._always:
            result = self._always[name]
        else:
            result = getattr(self, name, None)
            assert result is not None, f"the fake libca has no {name}"
        if isinstance(result, BaseException):
            raise result
        return result(*arguments) if callable(result) else result

    def create_channel(
        self, name: bytes, trampoline: object, token: int, priority: int
    ) -> tuple[int, int]:
        channel = CAChannel(self._next_chid, name.decode(), token, priority)
        self._next_chid += 1
        self.channels[channel.chid] = channel
        self.connect(channel)
        return libca.ECA_NORMAL, channel.chid

    def put_notify(
        self, dbr: int, count: int, chid: libca.Chid, data: object, trampoline: object,
        usr: libca.Usr,
    ) -> int:  # fmt: skip
        self.puts.append(PutCallback(self.channel_of(chid), usr.value))
        return libca.ECA_NORMAL

    def field_type(self, chid: int) -> int:
        return -1 if self.channel_of(chid).host == libca.NO_HOST else DBR_DOUBLE

    def element_count(self, chid: int) -> int:
        return int(self.channel_of(chid).host != libca.NO_HOST)

    def host_name(self, chid: int) -> str:
        return self.channel_of(chid).host

    def clear_subscription(self, evid: int) -> None:
        with self.lock:
            self.clearing_threads.append(threading.current_thread().name)
            if self.subscriptions.pop(evid, None) is None:
                self.errors.append(f"subscription {evid} is not there")
            time.sleep(0)

    def clear_channel(self, chid: int) -> None:
        with self.lock:
            self.clearing_threads.append(threading.current_thread().name)
            if self.channels.pop(chid, None) is None:
                self.errors.append(f"channel {chid} is not there")
            there = self.subscriptions.copy()  # a test adds subscriptions at the same time
            for evid in [evid for evid, of in there.items() if of == chid]:
                del self.subscriptions[evid]

    @staticmethod
    def _owner(channel: CAChannel) -> Connection:
        owner: Connection | None = tokens.owner_of(channel.token >> tokens.KEY_SHIFT)
        assert owner is not None, f"{channel.name}: its owner has released the token"
        return owner
