"""The recording of one PV for `plot`: its updates over some time, or the last one of an array.

The times are the time stamps of the IOC. The time of arrival is used if the time stamp is wrong
(record never processed, wrong clock), and for the first value after a reconnection. Times never
decrease.
"""

from __future__ import annotations

import math
import time
from array import array
from typing import Any

import numpy as np

from ... import DBR_STRING
from .pv_state import PVState

_MAX_CLOCK_DIFFERENCE = 5.0  # seconds; with a larger one, the time stamp of the IOC is not used
_INVALID = 3
_DISCONNECTED = -1  # recorded instead of a severity


class Recording(PVState):
    """The state of a PV, and its past values. Used on the event loop's thread.

    Attributes:
        kind: ``strip`` (a number against time), ``trace`` (an array) or ``text``; None until it is
            known. It never changes afterwards.
        max_updates: the number of updates that are kept; bounds the memory.
    """

    __slots__ = ("_severities", "_times", "_values", "kind")

    max_updates = 200_000

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
            return min(stamp, now)  # the PV has had this value since then
        if not connected:
            return now  # the values during the disconnection are not known
        return stamp if abs(stamp - now) < _MAX_CLOCK_DIFFERENCE else now

    def _append(self, when: float, number: float, severity: int) -> None:
        if self._times:
            when = max(when, self._times[-1])
        if len(self._times) >= self.max_updates:
            self._forget(self.max_updates // 2)
        self._times.append(when)
        self._values.append(number)
        self._severities.append(severity)

    def _forget(self, count: int) -> None:
        del self._times[:count], self._values[:count], self._severities[:count]

    def curve(self, since: float, now: float) -> Curve:
        """Return the curve from `since` to `now`; forgets older updates."""
        times = np.array(self._times)
        # The last update before `since` has the value at the beginning
        self._forget(max(0, int(np.searchsorted(times, since, side="right")) - 1))
        times = np.maximum(np.array(self._times), since)
        return Curve(times, np.array(self._values), np.array(self._severities), now)


class Curve:
    """A number against time: each value holds until the next one.

    Attributes:
        times: in seconds of the Unix epoch; the last one is now.
        values: the values; NaN while the PV was not connected.
        invalid: the values with severity INVALID; NaN for all others.
        gaps: the begin and end of each disconnection.
    """

    def __init__(self, times: Any, values: Any, severities: Any, now: float) -> None:
        if len(times):  # the last value holds until now
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
