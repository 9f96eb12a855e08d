"""Channels that wait for a server that does not answer: libca stays with it, for ever if need be.

- A server that has answered a search and then says nothing keeps the channel. So after a while the
  channel is replaced by a new one, which whoever answers may have.
- A server that was lost without a word (its host has no power, its cable is out) keeps its channels
  until TCP gives it up, which takes minutes, while its PVs may be elsewhere by now. A channel that
  libca itself would bring back at once, if that server went on, is not given up for that: a second
  one, a scout, is searched for; when it is found the first is replaced.

Looked at every ten seconds, while any channel of the loop is not connected.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from . import _libca
from ._channel import Channel, Home

_EVERY = 10.0  # seconds


class Watch:
    """The watch over the channels of one loop."""

    def __init__(
        self,
        home: Home,
        channels: Mapping[str, Channel],
        after: Callable[[float, Callable[[], object]], Callable[[], None]],
    ) -> None:
        self._home = home
        self._channels = channels
        self._after = after
        self._cancel: Callable[[], None] | None = None
        self._scouts: dict[Channel, _Scout] = {}

    def begin(self) -> None:
        """Some channel is not connected."""
        if self._cancel is None:
            self._cancel = self._after(_EVERY, self._look)

    def end(self) -> None:
        """Look no more. Idempotent."""
        if self._cancel is not None:
            self._cancel()
            self._cancel = None
        for scout in tuple(self._scouts.values()):
            scout.close()

    def _look(self) -> None:
        self._cancel = None
        old = time.monotonic() - _EVERY / 2
        for channel in tuple(self._channels.values()):
            if channel.connected:
                continue
            self.begin()
            if _libca.host_name(channel.chid) == _libca.NO_HOST:
                continue  # it is being searched for
            if channel.ever_connected:
                if channel not in self._scouts:
                    self._scouts[channel] = _Scout(channel, self._home, self._scouts)
            elif channel.searching_since < old:
                channel.replace()


class _Scout:
    """A second channel to a PV whose server does not respond."""

    def __init__(self, channel: Channel, home: Home, scouts: dict[Channel, _Scout]) -> None:
        self._channel = channel
        self._scouts = scouts
        self._own = Channel(home, channel.name)
        self._own.listen(self)
        channel.listen(self)

    def channel_up(self, channel: Channel) -> None:
        """It was found, or the other is back."""
        self.close()
        if channel is self._own:
            self._channel.replace()

    def channel_down(self, channel: Channel) -> None:
        """Neither is up."""

    def channel_closed(self, channel: Channel) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent."""
        if self._scouts.pop(self._channel, None) is not None:
            self._channel.unlisten(self)
            self._own.unlisten(self)
            self._own.close()
