"""The channels whose connection and access rights are watched.

A channel that is not watched has no entry here, and libca reports no access rights for it. Once
libca was asked to report them, it does so as long as the chid exists, because that cannot be undone
(see `libca.report_access`). A channel that is replaced has another chid, so libca is asked again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from .._ca import libca
from .._ca.callbacks import access_trampoline

if TYPE_CHECKING:
    from .._monitors.connection import Watching
    from .channel import Channel
    from .connection import Connection


class Watches:
    """The watched channels of one loop, each with its watches."""

    def __init__(self, post: Callable[[Callable[[], object]], None]) -> None:
        self._post = post
        self._watches: dict[Connection, tuple[Watching, ...]] = {}

    def __repr__(self) -> str:
        return f"<Watches {len(self._watches)} channels>"

    # -- On the loop -------------------------------------------------------------------------------

    def add(self, channel: Channel, watch: Watching) -> None:
        """Have a watch called for each change of the channel's connection and access rights."""
        watches = self._watches.get(channel, ())
        self._watches[channel] = (*watches, watch)
        channel.listen(watch)
        if not watches:
            self.chid_made(channel)

    def remove(self, channel: Channel, watch: Watching) -> None:
        """Stop calling a watch. Does nothing if the watch was not added."""
        channel.unlisten(watch)
        left = tuple(each for each in self._watches.get(channel, ()) if each is not watch)
        if left:
            self._watches[channel] = left
        else:
            self._watches.pop(channel, None)

    def chid_made(self, channel: Connection) -> None:
        """Have libca report the access rights of a watched channel that has got a chid."""
        if channel in self._watches and channel.chid:
            libca.report_access(channel.chid, access_trampoline)

    def _access_changed(self, channel: Connection) -> None:
        """Call the watches of a channel; portal job."""
        for watch in self._watches.get(channel, ()):
            watch.access_changed()

    # -- On a thread of libca ----------------------------------------------------------------------

    def note_access(self, channel: Connection) -> None:
        """Post that the access rights of a channel have changed. Never waits."""
        if channel in self._watches:
            self._post(partial(self._access_changed, channel))
