"""Channels that wait for a server that does not answer: libca stays with it, for ever if need be.

- A server that has answered a search and then says nothing keeps the channel. So after a while the
  channel is replaced by a new one, which whoever answers may have: that server too, on a circuit
  anew.
- A server that was lost without a word (its host has no power, its cable is out) keeps its channels
  until TCP gives it up, which takes minutes, while its PVs may be elsewhere by now. A channel that
  libca itself would bring back at once, if that server went on, is not given up for that: a second
  one, a scout, is searched for; when it is found the first is replaced.

Looked at every ten seconds, while any channel of the loop is not connected.

And when a circuit was lost, libca searches only after ten seconds for channels that were on it, but
not yet connected. We search anew, as soon as libca has taken the circuit apart: clearing a channel
that it has just put onto one of those would crash.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from .._ca import libca
from .._errors import CAError
from .._portal.interface import TURN
from .channel import Channel

if TYPE_CHECKING:
    from .context import LoopContext

logger = logging.getLogger("aioca")

_EVERY = 10.0  # seconds
_QUIET = 0.25  # seconds without the loss of a circuit, before lost searches are made anew


class Reconnector:
    """The watch over the channels of one loop."""

    def __init__(self, home: LoopContext, channels: Mapping[str, Channel]) -> None:
        self._home = home
        self._channels = channels
        self._cancel: Callable[[], None] | None = None
        self._lost_at = 0.0  # when the last circuit was (time.monotonic)
        self._cancel_search: Callable[[], None] | None = None
        self._second_searches: dict[Channel, _SecondSearch] = {}

    def begin(self) -> None:
        """Some channel is not connected."""
        if self._cancel is None:
            self._cancel = self._home.portal.after(_EVERY, self._look)

    def end(self) -> None:
        """Look no more, until a channel is made. Idempotent."""
        if self._cancel is not None:
            self._cancel()
            self._cancel = None
        if self._cancel_search is not None:
            self._cancel_search()
            self._cancel_search = None
        for second in tuple(self._second_searches.values()):
            second.close()

    def _look(self) -> None:
        self._cancel = None
        old = time.monotonic() - _EVERY / 2
        self._in_turns(self._unconnected(), lambda channel: self._see_to(channel, old))

    def _unconnected(self) -> Iterator[Channel]:
        for channel in tuple(self._channels.values()):
            if not (channel.connected or channel.closed):
                yield channel

    def _in_turns(self, channels: Iterator[Channel], see_to: Callable[[Channel], object]) -> None:
        """See to thousands of channels, in turns between which the loop goes on; portal job."""
        stop = time.monotonic() + TURN
        for channel in channels:
            see_to(channel)
            if time.monotonic() > stop:
                self._home.post(partial(self._in_turns, channels, see_to))
                return

    def _see_to(self, channel: Channel, old: float) -> None:
        """Do what helps an unconnected channel. ``old``: it has been searched for since before."""
        self.begin()
        if not channel.chid:  # libca has refused to search for it
            channel.replace()
        elif libca.host_name(channel.chid) == libca.NO_HOST:
            pass  # libca is searching for it
        elif not channel.ever_connected:
            if channel.searching_since < old:
                channel.replace(elsewhere=True)
        elif channel not in self._second_searches:
            try:
                self._second_searches[channel] = _SecondSearch(
                    channel, self._home, self._second_searches
                )
            except (RuntimeError, CAError) as error:
                logger.warning("%s cannot be searched for elsewhere: %s", channel.name, error)

    # -- Circuits that were lost -------------------------------------------------------------------

    def circuit_lost(self) -> None:
        """On a thread of libca: some circuit was lost, and it does not say whose."""
        self._lost_at = time.monotonic()
        self._home.post(self._wait_for_quiet)

    def _wait_for_quiet(self) -> None:
        if self._cancel_search is None:
            self._cancel_search = self._home.portal.after(_QUIET, self._search_anew)

    def _search_anew(self) -> None:
        self._cancel_search = None
        if time.monotonic() < self._lost_at + _QUIET:
            self._wait_for_quiet()
            return
        self._in_turns(self._unconnected(), Channel.circuit_lost)


class _SecondSearch:
    """A second channel to a PV whose server does not respond."""

    def __init__(
        self, channel: Channel, home: LoopContext, second_searches: dict[Channel, _SecondSearch]
    ) -> None:
        self._channel = channel
        self._second_searches = second_searches
        self._own = Channel(home, channel.name, channel.priority ^ 1)
        self._own.listen(self)
        channel.listen(self)

    def channel_up(self, channel: Channel) -> None:
        """It was found, or the other is back."""
        self.close()
        if channel is self._own:
            self._channel.replace(elsewhere=True)

    def channel_down(self, channel: Channel) -> None:
        """Neither is up."""

    def channel_closed(self, channel: Channel) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent."""
        if self._second_searches.pop(self._channel, None) is not None:
            self._channel.unlisten(self)
            self._own.unlisten(self)
            self._own.close()
