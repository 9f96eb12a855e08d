"""Replaces channels whose server does not respond, because libca keeps them on that server.

- A server answers a search but does not complete the connection: libca leaves the channel with this
  server without limit. So after a while the channel is replaced by a new one. Any server that
  answers the new search can have it: also the same server, on a new circuit.
- A server is lost without closing its circuits (no power, or no network, at its host): libca
  keeps the channels there until TCP reports the loss, which takes minutes. Another server may have
  the PVs by then. libca would reconnect such a channel itself if the server recovered, so the
  channel is kept, and a second channel is used to search. If the second channel connects, the first
  is replaced.

Both are checked every ten seconds while any channel of the loop is not connected.

- A circuit is lost: libca repeats the search only after ten seconds for channels that were on the
  circuit but not yet connected. So these channels are replaced as soon as libca has destroyed the
  circuit, not earlier: clearing a channel that libca has just put onto such a circuit would crash.

Invariants: everything here runs on the loop's thread, except `Reconnector.circuit_lost`. Work on
many channels is split into turns.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from .._ca import libca
from .._errors import CAError
from .._portal.interface import TURN_SECONDS
from .channel import Channel

if TYPE_CHECKING:
    from .context import LoopContext

logger = logging.getLogger("aioca")

_CHECK_INTERVAL_SECONDS = 10.0  # between checks of the channels that are not connected
# Channels are replaced when no circuit was lost for this long: libca has then destroyed the last.
_QUIET_SECONDS = 0.25
# Then only channels with a search younger than this are replaced. Older searches are for servers
# that are not there, and there may be many of them.
_MAX_SEARCH_AGE_SECONDS = 5.0
# Limits how often a channel is replaced then, because each search may find a server that accepts no
# circuit.
_MAX_NEW_SEARCHES = 3


class Reconnector:
    """Replaces the channels of one loop whose server does not respond or was lost."""

    def __init__(self, home: LoopContext, channels: Mapping[str, Channel]) -> None:
        self._home = home
        self._channels = channels
        self._cancel_check: Callable[[], None] | None = None
        self._lost_at = 0.0  # when the last circuit was lost (time.monotonic)
        self._cancel_search: Callable[[], None] | None = None
        self._second_searches: dict[Channel, _SecondSearch] = {}

    def __repr__(self) -> str:
        state = "idle" if self._cancel_check is None else "checking"
        return f"<Reconnector {state}, {len(self._second_searches)} second searches>"

    def begin(self) -> None:
        """Start the checks, because some channel is not connected. On the loop. Idempotent."""
        if self._cancel_check is None:
            self._cancel_check = self._home.portal.after(_CHECK_INTERVAL_SECONDS, self._look)

    def cancel(self) -> None:
        """Stop the checks until `begin` is called, and close the second channels. Idempotent."""
        if self._cancel_check is not None:
            self._cancel_check()
            self._cancel_check = None
        if self._cancel_search is not None:
            self._cancel_search()
            self._cancel_search = None
        for second in tuple(self._second_searches.values()):
            second.close()

    def _look(self) -> None:
        """Check all channels that are not connected; timer of the portal."""
        self._cancel_check = None
        old = time.monotonic() - _CHECK_INTERVAL_SECONDS / 2
        self._in_turns(self._unconnected(), lambda channel: self._see_to(channel, old))

    def _unconnected(self) -> Iterator[Channel]:
        """Yield the channels that are not connected at the time of their turn."""
        for channel in tuple(self._channels.values()):
            if not (channel.connected or channel.closed):
                yield channel

    def _in_turns(self, channels: Iterator[Channel], see_to: Callable[[Channel], object]) -> None:
        """Call ``see_to`` for each channel; let the loop run after `TURN_SECONDS`. Portal job."""
        stop = time.monotonic() + TURN_SECONDS
        for channel in channels:
            see_to(channel)
            if time.monotonic() > stop:
                self._home.post(partial(self._in_turns, channels, see_to))
                return

    def _see_to(self, channel: Channel, old: float) -> None:
        """Replace an unconnected channel or search with a second one, where this can help.

        Args:
            channel: the channel.
            old: searches that began before this time (time.monotonic) have taken too long.
        """
        self.begin()
        if not channel.chid:  # libca returned an error for the last search
            channel.replace()
        elif channel.change_is_queued() or libca.host_name(channel.chid) == libca.NO_HOST:
            pass  # it has connected, or libca is searching for it
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
        """Note that some circuit was lost; libca does not report which. On a libca thread."""
        self._lost_at = time.monotonic()
        self._home.post(self._wait_for_quiet)

    def _wait_for_quiet(self) -> None:
        """Start the timer that leads to new searches, unless it runs; portal job."""
        if self._cancel_search is None:
            self._cancel_search = self._home.portal.after(_QUIET_SECONDS, self._search_anew)

    def _search_anew(self) -> None:
        """Replace the channels that the lost circuits may have had; timer of the portal."""
        self._cancel_search = None
        if time.monotonic() < self._lost_at + _QUIET_SECONDS:
            self._wait_for_quiet()
            return
        self._in_turns(self._unconnected_while_quiet(), _search_anew)

    def _unconnected_while_quiet(self) -> Iterator[Channel]:
        """The channels to search for again, until another circuit is lost between two turns."""
        for channel in self._unconnected():
            if time.monotonic() < self._lost_at + _QUIET_SECONDS:
                self._wait_for_quiet()
                return
            yield channel


def _search_anew(channel: Channel) -> None:
    """Replace a channel if the circuit that was lost may have been its own. On the loop.

    A channel can lose its circuit before it is connected: the search finds a server just when the
    circuit to this server is being closed, because the last channel of an earlier loop was cleared.
    libca repeats the search only after ten seconds. It searches for a new channel at once.
    """
    if (
        channel.chid
        and not channel.ever_connected
        and not channel.change_is_queued()
        and channel.searches < _MAX_NEW_SEARCHES
        and time.monotonic() - channel.searching_since < _MAX_SEARCH_AGE_SECONDS
    ):
        channel.searches += 1
        channel.replace()


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

    def __repr__(self) -> str:
        return f"<_SecondSearch {self._channel.name!r}>"

    def channel_up(self, channel: Channel) -> None:
        """End the search; replace the first channel if the second has connected. On the loop."""
        self.close()
        if channel is self._own:
            self._channel.replace(elsewhere=True)

    def channel_down(self, channel: Channel) -> None:
        """Do nothing: the search goes on."""

    def channel_closed(self, channel: Channel) -> None:
        """End the search, because one of the channels was closed. On the loop."""
        self.close()

    def close(self) -> None:
        """Close the second channel and stop listening to the first. On the loop. Idempotent."""
        if self._second_searches.pop(self._channel, None) is not None:
            self._channel.unlisten(self)
            self._own.unlisten(self)
            self._own.close()
