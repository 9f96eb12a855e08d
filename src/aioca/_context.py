"""The path of `ChannelInfo` in pickles that earlier builds made."""

from ._channels.context import ChannelInfo

__all__ = ["ChannelInfo"]
