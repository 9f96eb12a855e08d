"""Tell from the beacons of a server whether it has just started, or was away for a while.

A server sends beacons quickly after its start, then more and more slowly, up to a period of 15 s.
The rules for an anomaly, at which clients search again, are those of libca.
"""

from __future__ import annotations

from dataclasses import dataclass

from .protocol import Beacon
from .search import Host

_FIRST_WITH_NUMBERS = 10  # CA 4.10
_MAX_NUMBER = 0xFFFFFFFF  # of a beacon
_MAX_SERVERS = 100_000  # bounds the memory if somebody sends beacons with made-up addresses


@dataclass
class _Server:
    number: int
    seen: float
    period: float | None = None  # a running mean in seconds; None after the first beacon


@dataclass(frozen=True)
class Sighting:
    """One beacon, compared with the earlier ones of its server.

    Attributes:
        anomaly (bool): whether clients search again for PVs that they have not found.
        period (float): mean time between beacons of this server, in seconds; 0 after the first.
        current (float): time since the previous beacon, in seconds.
    """

    anomaly: bool
    period: float
    current: float


class Watch:
    """The servers whose beacons have arrived.

    Args:
        begin: the time at which the watch began, on the same clock as the argument of `take`.
    """

    def __init__(self, begin: float) -> None:
        self._begin = begin
        self._servers: dict[Host, _Server] = {}

    def take(self, beacon: Beacon, now: float) -> Sighting:
        """Note a beacon that arrived at a time; duplicates and late beacons change nothing."""
        server = self._servers.get(beacon.server)
        if server is None:
            if len(self._servers) >= _MAX_SERVERS:
                self._servers.pop(next(iter(self._servers)))
            self._servers[beacon.server] = _Server(beacon.number, now)
            return Sighting(False, 0.0, 0.0)
        current = now - server.seen
        if beacon.minor >= _FIRST_WITH_NUMBERS:
            ahead = beacon.number - server.number
            if ahead < 0:
                ahead += _MAX_NUMBER
            server.number = beacon.number
            if ahead in (0, 2, 3) or ahead > _MAX_NUMBER - 256:
                # A duplicate on another path, a late beacon, or beacons lost on this host
                return Sighting(False, server.period or 0.0, current)
        anomaly = self._judge(server, current)
        server.seen = now
        assert server.period is not None
        return Sighting(anomaly, server.period, current)

    def _judge(self, server: _Server, current: float) -> bool:
        if server.period is None:
            # The second beacon: an anomaly if the server has started since the watch began
            server.period = current
            return current <= server.seen - self._begin
        anomaly = current >= server.period * 3.25 or current <= server.period * 0.8
        server.period = current * 0.125 + server.period * 0.875
        return anomaly
