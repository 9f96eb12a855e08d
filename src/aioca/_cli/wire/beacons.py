"""What the beacons of a server tell: whether it has just started, or was away for a while.

A server sends them quickly after its start, then more and more slowly up to a period of 15 s. What
counts as an anomaly, upon which clients search again, is libca's own judgement: it is the same
here, so that one sees what clients see.
"""

from __future__ import annotations

from dataclasses import dataclass

from .protocol import Beacon
from .search import Host

_FIRST_WITH_NUMBERS = 10  # CA 4.10
_ALL = 0xFFFFFFFF
_MOST_SERVERS = 100_000


@dataclass
class _Server:
    number: int
    seen: float
    period: float | None = None  # a running mean; not known after one beacon


@dataclass(frozen=True)
class Sighting:
    """One beacon, against those before it.

    Attributes:
        anomaly (bool): whether clients search again for what they have not found.
        period (float): mean time between beacons of this server, in seconds; 0 after the first.
        current (float): time since the one before.
    """

    anomaly: bool
    period: float
    current: float


class Watch:
    """All servers that beacons have come from.

    Args:
        begin: when the watch began, in seconds on the clock of what follows.
    """

    def __init__(self, begin: float) -> None:
        self._begin = begin
        self._servers: dict[Host, _Server] = {}

    def take(self, beacon: Beacon, now: float) -> Sighting:
        """Note one, at a time; what is said twice, or out of order, changes nothing."""
        server = self._servers.get(beacon.server)
        if server is None:
            if len(self._servers) >= _MOST_SERVERS:  # somebody makes them up
                self._servers.pop(next(iter(self._servers)))
            self._servers[beacon.server] = _Server(beacon.number, now)
            return Sighting(False, 0.0, 0.0)
        current = now - server.seen
        if beacon.minor >= _FIRST_WITH_NUMBERS:
            ahead = beacon.number - server.number
            if ahead < 0:
                ahead += _ALL
            server.number = beacon.number
            if ahead in (0, 2, 3) or ahead > _ALL - 256:
                # The same by two ways, out of order, or some were lost on this host.
                return Sighting(False, server.period or 0.0, current)
        anomaly = self._judge(server, current)
        server.seen = now
        assert server.period is not None
        return Sighting(anomaly, server.period, current)

    def _judge(self, server: _Server, current: float) -> bool:
        if server.period is None:
            # The second: news if the server was not there when the watch began
            server.period = current
            return current <= server.seen - self._begin
        anomaly = current >= server.period * 3.25 or current <= server.period * 0.8
        server.period = current * 0.125 + server.period * 0.875
        return anomaly
