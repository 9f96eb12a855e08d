"""The path of `CAInfo` in pickles that earlier builds made."""

from ._api.info import CAInfo

__all__ = ["CAInfo"]
