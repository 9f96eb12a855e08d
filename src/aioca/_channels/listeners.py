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
        listeners: the operations that wait for the channel to connect.
        monitors: the monitors that follow the channel.
    """

    __slots__ = ("listeners", "monitors", "name")

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.listeners: dict[Listener, None] | None = None  # a dict: ordered, with fast removal
        self.monitors: tuple[ChannelSubscription, ...] = ()

    def listen(self, listener: Listener) -> None:
        """Call a listener for each further change. On the loop."""
        if self.listeners is None:
            self.listeners = {}
        self.listeners[listener] = None

    def unlisten(self, listener: Listener) -> None:
        """Stop calling a listener. On the loop; does nothing if it is not registered."""
        if self.listeners is not None:
            self.listeners.pop(listener, None)
            if not self.listeners:
                self.listeners = None

    def add_monitor(self, monitor: ChannelSubscription) -> None:
        """Have a monitor follow the channel. On the loop."""
        # Replace the tuple, because a libca thread may be iterating over it.
        self.monitors = (*self.monitors, monitor)

    def remove_monitor(self, monitor: ChannelSubscription) -> None:
        """Remove a monitor. On the loop; does nothing if it does not follow the channel."""
        monitors = self.monitors
        if monitor in monitors:
            index = monitors.index(monitor)
            self.monitors = monitors[:index] + monitors[index + 1 :]

    def take_all(self) -> list[Listener]:
        """Remove all listeners and monitors, and return them."""
        concerned = [*(self.listeners or ()), *self.monitors]
        self.listeners = None
        self.monitors = ()
        return concerned

    def tell(self, listeners: Iterable[Listener], news: Callable[[Listener], None]) -> None:
        """Call ``news`` for each listener. An exception is logged and does not stop the others."""
        for listener in listeners:
            try:
                news(listener)
            except Exception:  # go on: the other listeners must be called, the channel be cleared
                logger.exception("%s: a job of aioca failed; please report this", self.name)
