"""The listeners of a channel: who is told of the changes of its connection."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .._monitors.subscription import ChannelSubscription
    from .channel import Channel

logger = logging.getLogger("aioca")


class Listener(Protocol):
    """Receives the changes of a channel's connection. Called on the loop's thread."""

    def channel_up(self, channel: Channel) -> None: ...
    def channel_down(self, channel: Channel) -> None: ...
    def channel_closed(self, channel: Channel) -> None: ...


class Listened:
    """Has listeners and monitors. The base of a channel.

    Attributes:
        name: the name of the PV.

    Most channels have one listener or one monitor at a time. That one is stored without a container
    of its own: a process may have very many channels.
    """

    __slots__ = ("_listeners", "_monitors", "name")

    def __init__(self, name: str) -> None:
        self.name: str = name
        self._listeners: Listener | dict[Listener, None] | None = None  # a dict: fast removal
        self._monitors: ChannelSubscription | tuple[ChannelSubscription, ...] = ()

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """The operations that wait for the channel to connect, in order."""
        listeners = self._listeners
        if listeners is None:
            return ()
        return tuple(listeners) if isinstance(listeners, dict) else (listeners,)

    @property
    def monitors(self) -> tuple[ChannelSubscription, ...]:
        """The monitors that follow the channel, in order. Any thread."""
        monitors = self._monitors
        return monitors if isinstance(monitors, tuple) else (monitors,)

    def listen(self, listener: Listener) -> None:
        """Call a listener for each further change. On the loop."""
        listeners = self._listeners
        if listeners is None or listeners is listener:
            self._listeners = listener
        elif isinstance(listeners, dict):
            listeners[listener] = None
        else:
            self._listeners = {listeners: None, listener: None}

    def unlisten(self, listener: Listener) -> None:
        """Stop calling a listener. On the loop; does nothing if it is not registered."""
        listeners = self._listeners
        if isinstance(listeners, dict):
            listeners.pop(listener, None)
            if not listeners:
                self._listeners = None
        elif listeners is listener:
            self._listeners = None

    def add_monitor(self, monitor: ChannelSubscription) -> None:
        """Have a monitor follow the channel. On the loop."""
        monitors = self.monitors
        # A new tuple, because a libca thread may be iterating over the last one
        self._monitors = (*monitors, monitor) if monitors else monitor

    def remove_monitor(self, monitor: ChannelSubscription) -> None:
        """Remove a monitor. On the loop; does nothing if it does not follow the channel."""
        monitors = self._monitors
        if monitors is monitor:
            self._monitors = ()
        elif isinstance(monitors, tuple) and monitor in monitors:
            index = monitors.index(monitor)
            self._monitors = monitors[:index] + monitors[index + 1 :]

    def take_all(self) -> list[Listener]:
        """Remove all listeners and monitors, and return them."""
        concerned = [*self.listeners, *self.monitors]
        self._listeners = None
        self._monitors = ()
        return concerned

    def tell(self, listeners: Iterable[Listener], news: Callable[[Listener], None]) -> None:
        """Call ``news`` for each listener. An exception does not stop the others.

        It is logged. KeyboardInterrupt and SystemExit are raised when all others were told: a
        notebook goes on after Ctrl-C.
        """
        others = iter(listeners)
        try:
            for listener in others:
                try:
                    news(listener)
                except Exception:  # go on: the others must be called, the channel be cleared
                    logger.exception("%s: a job of aioca failed; please report this", self.name)
        except BaseException:
            self.tell(others, news)
            raise
