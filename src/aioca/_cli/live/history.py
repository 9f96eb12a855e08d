"""The last minute of one PV for `watch`: its rate and its sparkline.

Memory is bounded: a minute has `SPARKS` steps, however many updates arrive in one of them.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import pairwise
from typing import Any

import numpy as np

SPARKS = 30  # characters of a sparkline, one for each step of a minute
STEP_SECONDS = 60.0 / SPARKS

_BARS = "▁▂▃▄▅▆▇█"
_RATE_SECONDS = 3  # the rate is the mean over this time, so that it can be read


class Rate:
    """Updates per second, from a count that is noted once a second."""

    __slots__ = ("_seen", "value")

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=_RATE_SECONDS + 1)
        self.value = 0.0

    def count(self, now: float, updates: int) -> None:
        """Note the number of updates since the start."""
        self._seen.append((now, updates))
        (begin, before), (end, after) = self._seen[0], self._seen[-1]
        self.value = (after - before) / (end - begin) if end > begin else 0.0


class Sparkline:
    """The values of the last minute: the mean in each step; without updates, the last value."""

    __slots__ = ("_count", "_last", "_step", "_steps", "_sum")

    def __init__(self) -> None:
        self._steps: deque[float] = deque(maxlen=SPARKS)
        self._step = -1
        self._sum = self._last = math.nan
        self._count = 0

    def add(self, now: float, value: float) -> None:
        """Note the current value; NaN if the PV is disconnected."""
        self.advance(now)
        if not self._count or math.isnan(self._sum):
            self._sum, self._count = 0.0, 0
        self._last = value
        self._sum += value
        self._count += 1

    def advance(self, now: float) -> None:
        """Complete the steps that are over; a step without updates has the last value."""
        step = int(now / STEP_SECONDS)
        if self._step < 0:
            self._step = step
        for _ in range(min(step - self._step, SPARKS)):
            self._steps.append(self._sum / self._count if self._count else self._last)
            self._sum, self._count = 0.0, 0
        self._step = step

    def text(self, width: int) -> str:
        """Return one character for each of the last steps, the newest last."""
        present = self._sum / self._count if self._count else self._last
        return bars([*self._steps, present][-width:]) if width else ""


def shape(array: Any, width: int) -> str:
    """Return an array as a line of bars."""
    numbers = np.asarray(array, float)
    if len(numbers) > width:
        edges = np.linspace(0, len(numbers), width + 1).astype(int)
        with np.errstate(all="ignore"):  # infinities of different signs
            numbers = np.array([numbers[a:b].mean() for a, b in pairwise(edges)])
    return bars(numbers.tolist())


def bars(numbers: list[float]) -> str:
    """Return numbers as bars, from the minimum to the maximum; a blank for NaN or infinity."""
    finite = [number for number in numbers if math.isfinite(number)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    scale = (len(_BARS) - 1) / (high - low) if high > low else math.inf
    if not 0 < scale < math.inf:  # equal, or a difference too small or large to compute with
        return "".join("─" if math.isfinite(number) else " " for number in numbers)
    return "".join(
        _BARS[round((number - low) * scale)] if math.isfinite(number) else " " for number in numbers
    )
