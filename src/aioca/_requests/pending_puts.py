"""Writes that are still being processed: what a server that does not reply may be busy with.

A server of pcaspy reads nothing more from a client that has sent a second put-callback to a PV
whose writes take time, until the first has ended; then it replies to nothing else, on whatever
channel it was asked. Nothing in the protocol tells which servers do so. So an error for a reply
that has not come names the put-callback that is under way at that server.
"""

from __future__ import annotations

from .._ca import libca
from .._channels.channel import Channel
from .._channels.context import LoopContext


class PendingPuts:
    """The PVs whose put-callback is under way, by server; as it is now.

    Args:
        context: where to look.
        but: a request whose own do not count.
        before: the token of a put, which those that were begun later cannot hold up.
    """

    def __init__(self, context: LoopContext, but: object = None, before: int | None = None) -> None:
        self._names: dict[str, str] = {}
        for channel in tuple(context._channels.values()):
            owner = channel.put_owner
            if owner is None or owner is but or not channel.chid:
                continue
            if before is None or owner._token < before:
                self._names.setdefault(libca.host_name(channel.chid), channel.name)

    def on_the_server_of(self, channel: Channel) -> str:
        """What to add to the reason why nothing has come from there; perhaps nothing."""
        if not self._names or not channel.chid:
            return ""
        host = libca.host_name(channel.chid)
        name = self._names.get(host)
        if name is None or host == libca.NO_HOST:
            return ""
        return (
            f"; a caput(wait=True) of {name} on the same server, {host}, is still being processed,"
            " and some servers answer no other request until it ends"
        )
