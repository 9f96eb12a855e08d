"""The state of one PV in `watch` and `plot`, and its value as text.

One monitor gets the value with alarm and time stamp (FORMAT_TIME). A second monitor of the same
channel gets units, precision, limits and labels (FORMAT_CTRL, DBE_PROPERTY), on each connection and
whenever one of them changes.

Control characters in texts from a server are escaped here, so none reaches the terminal.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from ... import DBR_FLOAT, ECA, CANothing
from ..._display.text import NEVER_BEFORE, all_digits, number_text
from ..._printable import printable


class PVState:
    """The state of one PV.

    Attributes:
        name: the name as given.
        value: the last value, an augmented value with FORMAT_TIME; None before the first.
        properties: the last augmented value with FORMAT_CTRL; None before the first.
        failure: the last update, if it was a `CANothing`; None if it was a value.
        strings: whether an array of CHAR is a long string.
        shown_name: the name with unprintable characters escaped.
    """

    __slots__ = ("_beyond", "failure", "name", "properties", "shown_name", "strings", "value")

    def __init__(self, name: str, strings: bool = False) -> None:
        self.name = name
        self.shown_name = printable(name)
        self._beyond: dict[int, str] = {}  # found labels of states that came without one
        self.value: Any = None
        self.properties: Any = None
        self.failure: CANothing | None = None
        self.strings = strings

    def take(self, update: Any) -> None:
        """Note an update: a value, or the `CANothing` of a disconnection."""
        if isinstance(update, CANothing):
            self.failure = update
        else:
            self.value = update
            self.failure = None

    def learn(self, update: Any) -> None:
        """Note an update of the properties."""
        if not isinstance(update, CANothing):
            self.properties = update
            self._beyond = {}

    @property
    def units(self) -> str:
        return printable(getattr(self.properties, "units", ""))

    @property
    def labels(self) -> list[str]:
        """The labels of an enum; empty for other types."""
        return [printable(label) for label in getattr(self.properties, "enums", ())]

    @property
    def unlabelled(self) -> int | None:
        """The current state of an enum if its label is not known (see `labels`); else None."""
        labels = getattr(self.properties, "enums", None)
        if not labels or not self.connected or not isinstance(self.value, int):
            return None
        number = int(self.value)
        return None if 0 <= number < len(labels) or number in self._beyond else number

    def name_state(self, number: int, text: str) -> None:
        """Note the label of a state that came without one; empty: its number is shown."""
        self._beyond[number] = printable(text)

    def state_text(self, number: int) -> str:
        """Return the label of a state; its number if it has no label or an empty one."""
        labels = self.labels
        known = 0 <= number < len(labels)
        return (labels[number] if known else self._beyond.get(number, "")) or str(number)

    @property
    def connected(self) -> bool:
        """Whether the PV is connected, and its value is current."""
        return self.value is not None and self.failure is None

    @property
    def is_array(self) -> bool:
        """Whether the value is an array, with any number of elements."""
        return isinstance(self.value, np.ndarray)

    @property
    def severity(self) -> int:
        """The alarm severity, 0 to 3; -1 if the PV is not connected."""
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
        """Return the value with its precision, or its label; an array as count and range.

        A float has all its digits if the precision is not known or 0, the default of a record. The
        range of an array has six then.
        """
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
            precision = getattr(self.properties, "precision", None)
            narrow = getattr(self.value, "datatype", None) == DBR_FLOAT
            return number_text(value, precision) if precision else all_digits(value, narrow)
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
        precision = getattr(self.properties, "precision", None) or None
        ends = usable.min().item(), usable.max().item()
        if usable.dtype.kind != "f":
            return " to ".join(map(str, ends))
        return " to ".join(number_text(end, precision) for end in ends)

    def time_text(self, now: float) -> str:
        """Return the time of day of the value, or its date if it is not from today."""
        if self.value is None:
            return ""
        stamp, nanoseconds = divmod(self.value.timestamp_ns, 10**9)
        if stamp <= NEVER_BEFORE:
            return "never"
        local = time.localtime(stamp)
        if local[:3] != time.localtime(now)[:3]:
            return time.strftime("%Y-%m-%d", local)
        return time.strftime("%H:%M:%S", local) + f".{nanoseconds // 10**6:03}"
