"""What `plot` keeps of one PV: its updates of some time, or the last one if it is an array.

Times are those of the IOC. Where they cannot be believed (never processed, a clock that is wrong)
and for the value that a connection begins with, it is the time of arrival. They never go back.
"""

from __future__ import annotations

import math
import time
from array import array
from typing import Any

import numpy as np

from ... import DBR_STRING
from .pv_state import PVState

_CLOCKS_DIFFER = 5.0  # seconds, from which on the clock of the IOC is not believed
_MOST = 200_000  # updates that are kept
_INVALID = 3
_DISCONNECTED = -1  # in the place of a severity


class Recording(PVState):
    """The PV and its past.

    Attributes:
        kind: ``strip`` (a number against time), ``trace`` (an array), ``text``, or None as
            long as nobody knows. It stays what it was first.
    """

    __slots__ = ("_severities", "_times", "_values", "kind")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.kind: str | None = None
        self._times = array("d")
        self._values = array("d")
        self._severities = array("b")

    def learn(self, update: Any) -> None:
        super().learn(update)
        if self.properties is None or self.kind is not None:
            return
        if isinstance(self.properties, str) or self.properties.datatype == DBR_STRING:
            self.kind = "text"
        else:
            self.kind = "strip" if self.properties.element_count == 1 else "trace"

    def take(self, update: Any) -> None:
        before = self.value is not None, self.connected
        value: Any = update
        super().take(value)
        if self.kind != "strip":
            return
        now = time.time()
        if self.failure is not None:
            if before[1]:
                self._append(now, math.nan, _DISCONNECTED)
            return
        number = float(update) if isinstance(update, (int, float)) else math.nan
        self._append(self._time_of(value.timestamp, now, *before), number, value.severity)

    @staticmethod
    def _time_of(stamp: float, now: float, known: bool, connected: bool) -> float:
        if not known:
            return min(stamp, now)  # it has had this value since then
        if not connected:
            return now  # what it did meanwhile is not known
        return stamp if abs(stamp - now) < _CLOCKS_DIFFER else now

    def _append(self, when: float, number: float, severity: int) -> None:
        if self._times:
            when = max(when, self._times[-1])
        if len(self._times) >= _MOST:
            self._forget(_MOST // 2)
        self._times.append(when)
        self._values.append(number)
        self._severities.append(severity)

    def _forget(self, count: int) -> None:
        del self._times[:count], self._values[:count], self._severities[:count]

    def curve(self, since: float, now: float) -> Curve:
        """What is known of that time; what is older is forgotten."""
        times = np.array(self._times)
        # The last one before says what the value was at the beginning
        self._forget(max(0, int(np.searchsorted(times, since, side="right")) - 1))
        times = np.maximum(np.array(self._times), since)
        return Curve(times, np.array(self._values), np.array(self._severities), now)


class Curve:
    """A number against time: each value holds until the next one.

    Attributes:
        times: seconds of the Unix epoch; the last one is now.
        values: NaN while it was not connected.
        invalid: the same, where the severity is INVALID; NaN elsewhere.
        gaps: from when until when it was not connected.
    """

    def __init__(self, times: Any, values: Any, severities: Any, now: float) -> None:
        if len(times):  # the last value, until now
            times = np.append(times, max(now, times[-1]))
            values = np.append(values, values[-1])
            severities = np.append(severities, severities[-1])
        self.times = times
        self.values = values
        self.invalid = np.where(severities == _INVALID, values, math.nan)
        missing = severities[:-1] == _DISCONNECTED
        self.gaps = list(
            zip(times[:-1][missing].tolist(), times[1:][missing].tolist(), strict=True)
        )
