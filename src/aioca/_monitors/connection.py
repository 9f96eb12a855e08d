"""Watches of connections: they deliver the state of a channel instead of the values of its PV.

A watch is a monitor without a subscription of libca. The loop calls it for each change. It keeps
the latest state only, so a slow consumer needs no more memory, and gets the latest state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._channels.channel import Channel
from .._channels.context import LoopContext
from .callbacks import CallbackMonitor, Callee
from .monitor import Monitor
from .nothing import NOTHING
from .options import Options, check_options
from .stream import Stream, StreamMonitor

# Makes the object that is delivered; returns None if the state is about to change again.
Describe = Callable[[Channel], Any]


def latest_only() -> Options:
    """The options of all watches."""
    return check_options(None, 0, 0, None, False, None, False, None)


class States:
    """The states of one watched channel.

    Attributes:
        describe: see `Describe`.
        latest: the latest state; None before the first.
        shown: the state that was delivered last.
        waiting: whether ``latest`` waits to be delivered.
        dropped: how many states were replaced before they could be delivered.
    """

    __slots__ = ("describe", "dropped", "latest", "shown", "waiting")

    def __init__(self, describe: Describe) -> None:
        self.describe: Describe = describe
        self.latest: Any = None
        self.shown: Any = None
        self.waiting: bool = False
        self.dropped: int = 0

    def __repr__(self) -> str:
        return f"<States {self.latest!r}, {self.dropped} dropped>"


class Watching(Monitor):
    """What the watches have in common. Subclasses have the slot ``_states``."""

    __slots__ = ()

    _states: States

    @property
    def dropped(self) -> int:
        return self._states.dropped

    def start(self) -> None:
        """Watch the channel; the present state is delivered first."""
        if self.closed:  # closed before it was started
            return
        channel = self._channel = self.context.channel(self.name)
        self.opened = True
        self.context.watches.add(channel, self)
        self.context.post(self._look)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        if self._channel is not None:
            self.context.watches.remove(self._channel, self)
        self.on_closed()

    def access_changed(self) -> None:
        """Look at the state, unless libca has not reported the connection yet. On the loop."""
        if self._channel is not None and self._channel.connected:
            self._look()

    def _look(self) -> None:
        """Look at the state of the channel; deliver it if it has changed. On the loop."""
        if self.closed or self._channel is None:
            return
        states = self._states
        now = states.describe(self._channel)
        if now is None or (states.latest is not None and vars(now) == vars(states.latest)):
            return
        states.latest = now
        if states.waiting:
            states.dropped += 1
            return
        states.waiting = True
        self.receive(None)

    def take(self) -> Any:
        """Return the latest state, or NOTHING if that was delivered already."""
        states = self._states
        if not states.waiting:
            return NOTHING
        states.waiting = False
        if states.shown is not None and vars(states.latest) == vars(states.shown):
            return NOTHING  # it has changed, and changed back
        states.shown = states.latest
        return states.latest

    def channel_up(self, channel: Channel) -> None:
        self._look()

    def channel_down(self, channel: Channel) -> None:
        self._look()


class StreamWatch(Watching, StreamMonitor):
    """A watch whose states are iterated over."""

    __slots__ = ("_states",)

    def __init__(self, context: LoopContext, name: str, describe: Describe, stream: Stream) -> None:
        super().__init__(context, name, latest_only(), stream)
        self._states = States(describe)


class CallbackWatch(Watching, CallbackMonitor):
    """A watch whose states go to a callback."""

    __slots__ = ("_states",)

    def __init__(
        self, context: LoopContext, name: str, describe: Describe, callee: Callee, index: int | None
    ) -> None:
        super().__init__(context, name, latest_only(), callee, index)
        self._states = States(describe)

    def receive(self, item: Any) -> None:
        value = NOTHING if self._busy else self.take()
        if value is not NOTHING:
            self.deliver(value)


class WatchStream(Stream):
    """The queue of the watches of one block."""

    call = "watch_connection"
