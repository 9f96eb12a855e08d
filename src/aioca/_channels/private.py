"""Private channels: a monitor of a name with a filter has a channel of its own.

An IOC keeps the state of a filter (the last value of ``dbnd``, the count of ``dec``) with the
channel, and not with the subscription. Two subscriptions on one channel would share this state:
what passes for one of them would not pass for the other, and a later one would get no first update.

Invariant: a private channel is in the table of its context, so it is reconnected and closed like
the others. Its key there has a NUL, which no name has, so no other call finds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .channel import Channel
from .names import valid_name

if TYPE_CHECKING:
    from .context import LoopContext


def channel_for_monitor(context: LoopContext, name: str) -> Channel:
    """Return the channel of a PV for a new monitor. On the loop; does not wait.

    Raises:
        CAValueError: if libca cannot search for the name.
        RuntimeError: if the run of the loop is over.
    """
    if "{" not in name.partition(".")[2]:  # no filter with a state: ``[1:3]`` has none
        return context.channel(name)
    context.check_running(name)
    channel = Channel(context, valid_name(name), private=True)
    context.reconnector.begin()
    context.channels[_key(channel)] = channel
    return channel


def close_if_private(channel: Channel | None) -> None:
    """Close a channel if no other call can use it and its monitor has ended. On the loop."""
    if channel is not None and channel.private and not channel.monitors:
        channel.home.channels.pop(_key(channel), None)
        channel.close()


def _key(channel: Channel) -> str:
    return f"{channel.name}\0{id(channel)}"
