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

from ... import ECA, CANothing
from ..._printable import printable

# Time stamps up to here are of records that were never processed: 1990 is the epoch of EPICS.
_NEVER = 631152000 + 86400


class PVState:
    """One PV.

    Attributes:
        name: as it was given.
        value: the last value, None before the first; an augmented value with FORMAT_TIME.
        properties: the last one with FORMAT_CTRL, None before the first.
        failure: what came in the place of a value last, if the last update was none.
        strings: whether an array of CHAR is a long string.
        shown_name: the name as it may be written to a terminal.
    """

    __slots__ = ("_beyond", "failure", "name", "properties", "shown_name", "strings", "value")

    def __init__(self, name: str, strings: bool = False) -> None:
        self.name = name
        self.shown_name = printable(name)
        self._beyond: dict[int, str] = {}  # what states without a label are called
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
            self._beyond = {}

    @property
    def units(self) -> str:
        return printable(getattr(self.properties, "units", ""))

    @property
    def labels(self) -> list[str]:
        """Those of an enum."""
        return [printable(label) for label in getattr(self.properties, "enums", ())]

    @property
    def unlabelled(self) -> int | None:
        """The state of an enum that the PV has now, if it came without a label: see `_labels`."""
        labels = getattr(self.properties, "enums", None)
        if not labels or not self.connected or not isinstance(self.value, int):
            return None
        number = int(self.value)
        return None if 0 <= number < len(labels) or number in self._beyond else number

    def name_state(self, number: int, text: str) -> None:
        """A state without a label is called so."""
        self._beyond[number] = printable(text)

    def state_text(self, number: int) -> str:
        """What a state of an enum is called: its number, if it has no label or an empty one."""
        labels = self.labels
        known = 0 <= number < len(labels)
        return (labels[number] if known else self._beyond.get(number, "")) or str(number)

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
        if self.failure.errorcode == ECA.DISCONN:
            return "disconnected"
        return str(self.failure).removeprefix(f"{self.shown_name}: ")

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
        return self.state_text(int(value))

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
        stamp, nanoseconds = divmod(self.value.timestamp_ns, 10**9)
        if stamp <= _NEVER:
            return "never"
        local = time.localtime(stamp)
        if local[:3] != time.localtime(now)[:3]:
            return time.strftime("%Y-%m-%d", local)
        return time.strftime("%H:%M:%S", local) + f".{nanoseconds // 10**6:03}"


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
