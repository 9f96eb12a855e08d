"""What `watch` and `plot` know of one PV, and how its value is written for people.

A value comes with alarm and time stamp (FORMAT_TIME); units, precision, limits and labels come
from a second monitor of the same channel (FORMAT_CTRL, DBE_PROPERTY), which has an update on each
connection and whenever one of them changes.

Text from a server is made harmless here: no control character of it reaches the terminal.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from .. import CANothing

# Time stamps up to here are of records that were never processed: 1990 is the epoch of EPICS.
_NEVER = 631152000 + 86400

_DISCONNECTED = 192  # ECA_DISCONN


class PVState:
    """One PV.

    Attributes:
        name: as it was given.
        value: the last value, None before the first; an augmented value with FORMAT_TIME.
        properties: the last one with FORMAT_CTRL, None before the first.
        failure: what came in the place of a value last, if the last update was none.
        strings: whether an array of CHAR is a long string.
    """

    __slots__ = ("failure", "name", "properties", "strings", "value")

    def __init__(self, name: str, strings: bool = False) -> None:
        self.name = name
        self.value: Any = None
        self.properties: Any = None
        self.failure: CANothing | None = None
        self.strings = strings

    def take(self, update: Any) -> None:
        """An update of the value: a value, or the `CANothing` of a disconnection."""
        if isinstance(update, CANothing):
            self.failure = update
        else:
            self.value = update
            self.failure = None

    def learn(self, update: Any) -> None:
        """An update of the properties."""
        if not isinstance(update, CANothing):
            self.properties = update

    @property
    def units(self) -> str:
        return printable(getattr(self.properties, "units", ""))

    @property
    def labels(self) -> list[str]:
        """Those of an enum."""
        return [printable(label) for label in getattr(self.properties, "enums", ())]

    @property
    def connected(self) -> bool:
        """Whether the value is that of now."""
        return self.value is not None and self.failure is None

    @property
    def is_array(self) -> bool:
        """Whether the value is one of an array, of however many elements."""
        return isinstance(self.value, np.ndarray)

    @property
    def severity(self) -> int:
        """0 to 3; -1 where nobody can know, because the PV is not connected."""
        return int(self.value.severity) if self.connected else -1

    @property
    def condition(self) -> str:
        """The alarm, such as ``HIHI MAJOR``, or why there is no value."""
        if self.connected:
            return str(self.value.alarm) if self.value.severity else "no alarm"
        if self.failure is None:
            return "searching"
        if self.failure.errorcode == _DISCONNECTED:
            return "disconnected"
        return printable(str(self.failure).removeprefix(f"{self.name}: "))

    def text(self) -> str:
        """The value with its precision, or its label; an array as its count and its range."""
        value = self.value
        if value is None:
            return ""
        if self.is_array:
            if self.strings and value.dtype == np.uint8:
                return self._scalar_text(value.tobytes().partition(b"\0")[0])
            return self._array_text(value)
        return self._scalar_text(+value)

    def _scalar_text(self, value: Any) -> str:
        if isinstance(value, float):
            return number_text(value, getattr(self.properties, "precision", None))
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        if isinstance(value, str):
            return printable(value)
        labels = self.labels
        return labels[int(value)] if 0 <= value < len(labels) else str(value)

    def _array_text(self, array: Any) -> str:
        few = [self._scalar_text(element) for element in array[:3].tolist()]
        if len(array) > 3:
            if array.dtype.kind in "iuf" and not self.labels:
                return f"[{len(array)}] {self._range_text(array)}"
            few.append("\N{HORIZONTAL ELLIPSIS}")
        return " ".join([f"[{len(array)}]", *few])

    def _range_text(self, array: Any) -> str:
        usable = array[np.isfinite(array)]
        if not len(usable):
            return "nan"
        lowest, highest = usable.min().item(), usable.max().item()
        return f"{self._scalar_text(lowest)} to {self._scalar_text(highest)}"

    def time_text(self, now: float) -> str:
        """The time of the value: of day, or its date if that is not today's."""
        if self.value is None:
            return ""
        stamp = self.value.timestamp
        if stamp <= _NEVER:
            return "never"
        local = time.localtime(stamp)
        if local[:3] != time.localtime(now)[:3]:
            return time.strftime("%Y-%m-%d", local)
        return time.strftime("%H:%M:%S", local) + f".{int(stamp % 1 * 1000):03}"


def number_text(value: float, precision: int | None) -> str:
    """A number with so many digits after the point, as short as it takes without.

    With an exponent where that would be a long row of digits, or nothing but zeros: a pressure
    that is thousands of times smaller than the last digit, though not what is left by rounding.
    """
    if precision is None or not 0 <= precision <= 17:
        return f"{value:g}"
    size = abs(value)
    if size >= 1e15 or 1e-14 < size < 10.0 ** -(precision + 3):
        return f"{value:.{precision}e}"
    return f"{value:.{precision}f}"


def printable(text: str) -> str:
    """Text of a server without anything that a terminal could take for a command."""
    return (
        text
        if text.isprintable()
        else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    )
