"""Put-callbacks in progress: a possible reason why a server does not reply.

A pcaspy server may receive a second put-callback for a PV whose writes take time. Then the server
reads nothing more from that client until the first put-callback has ended, so it replies to no
request on any channel. The protocol does not tell which servers do so. Therefore the error for a
missing reply names the put-callback that is in progress on that server.
"""

from __future__ import annotations

from .._ca import libca
from .._channels.channel import Channel
from .._channels.context import LoopContext


class PendingPuts:
    """A snapshot of the PVs whose put-callback is in progress, one for each server.

    To be made and used on the loop's thread.

    Args:
        context: the context whose channels are examined.
        but: a request whose own put-callbacks are left out.
        before: the token of a put. Put-callbacks that began later are left out, because they
            cannot delay that put.
    """

    def __init__(self, context: LoopContext, but: object = None, before: int | None = None) -> None:
        self._names: dict[str, str] = {}
        for channel in context.channels_with_puts():
            owner = channel.put_owner
            if owner is None or owner is but or not channel.chid:
                continue
            if before is None or owner._token < before:
                self._names.setdefault(libca.host_name(channel.chid), channel.name)

    def __repr__(self) -> str:
        return f"<PendingPuts {len(self._names)} servers>"

    def on_the_server_of(self, channel: Channel) -> str:
        """Return what to add to the error for a missing reply of this server; may be empty."""
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
