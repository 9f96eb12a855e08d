"""The attributes of a value (alarm, time stamp, limits...), decoded from its DBR.

Invariants: a decoder reads only bytes that were copied, whatever a server has sent, and a text that
is not UTF-8 is no error.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from .._ca.libca import VALUE_OFFSET, VALUE_SIZE
from .classes import alarm_of, local_datetime, utc_datetime
from .dbr import (
    DBR_CLASS_NAME,
    DBR_DOUBLE,
    DBR_ENUM,
    DBR_FLOAT,
    DBR_SHORT,
    DBR_STSACK_STRING,
    FORMAT_CTRL,
    FORMAT_RAW,
    FORMAT_TIME,
)

FORMAT_BASE = {FORMAT_RAW: 0, FORMAT_TIME: 14, FORMAT_CTRL: 28}
STRUCT_CODES = ("40s", "h", "f", "H", "B", "i", "d")  # by DBR type
# 1990-01-01 in seconds of the Unix epoch: the time stamp of a record that was never processed
EPICS_EPOCH = 631152000


def cut(raw: Any, start: int, size: int) -> bytes:
    """Return the string at ``start``: at most ``size`` bytes, up to the first NUL if any."""
    return bytes(raw[start : start + size]).split(b"\0", 1)[0]


def text(data: bytes) -> str:
    """Decode a text from a server; each byte that is not UTF-8 becomes U+FFFD."""
    return data.decode("utf-8", "replace")


_unpack_alarm = struct.Struct("=hh").unpack_from
_unpack_stamp = struct.Struct("=4xII").unpack_from
_ALARM_FIELDS: dict[str, Callable[[Any], Any]] = {
    "status": lambda raw: _unpack_alarm(raw)[0],
    "severity": lambda raw: _unpack_alarm(raw)[1],
    "alarm": lambda raw: alarm_of(*_unpack_alarm(raw)),
}


def _raw_stamp(raw: Any) -> tuple[int, int]:
    seconds, nanoseconds = _unpack_stamp(raw)
    return seconds + EPICS_EPOCH, nanoseconds


def _timestamp(raw: Any) -> float:
    seconds, nanoseconds = _raw_stamp(raw)
    # A double of this size has no nanoseconds. Rounding makes equal time stamps print equally.
    return round(seconds + nanoseconds * 1e-9, 6)


def _timestamp_ns(raw: Any) -> int:
    seconds, nanoseconds = _raw_stamp(raw)
    return seconds * 1_000_000_000 + nanoseconds


_TIME_FIELDS: dict[str, Callable[[Any], Any]] = {
    **_ALARM_FIELDS,
    "raw_stamp": _raw_stamp,
    "timestamp": _timestamp,
    "timestamp_ns": _timestamp_ns,
    # From the rounded `timestamp`, so that all three are the same moment
    "datetime": lambda raw: local_datetime(_timestamp(raw)),
    "datetime_utc": lambda raw: utc_datetime(_timestamp(raw)),
}
_STSACK_FIELDS: dict[str, Callable[[Any], Any]] = {
    **_ALARM_FIELDS,
    "ackt": lambda raw: struct.unpack_from("=4xH", raw)[0],
    "acks": lambda raw: struct.unpack_from("=6xH", raw)[0],
}
_LIMITS = (
    "upper_disp_limit",
    "lower_disp_limit",
    "upper_alarm_limit",
    "upper_warning_limit",
    "lower_warning_limit",
    "lower_alarm_limit",
    "upper_ctrl_limit",
    "lower_ctrl_limit",
)
_UNITS_BYTES = 8  # MAX_UNITS_SIZE of EPICS base
_MAX_ENUM_STATES = 16  # MAX_ENUM_STATES of EPICS base; a server can send any number
_ENUM_LABEL_BYTES = 26  # MAX_ENUM_STRING_SIZE of EPICS base


def _enums(raw: Any) -> list[str]:
    (states,) = struct.unpack_from("=4xh", raw)
    states = min(max(states, 0), _MAX_ENUM_STATES)
    return [text(cut(raw, 6 + i * _ENUM_LABEL_BYTES, _ENUM_LABEL_BYTES)) for i in range(states)]


_ENUM_OFFSET = VALUE_OFFSET[DBR_ENUM + FORMAT_BASE[FORMAT_CTRL]]


def _labels_of_values(raw: Any) -> list[str]:
    """The label of each element; for one without a label, its number as text."""
    labels = _enums(raw)
    states = struct.unpack_from(f"={(len(raw) - _ENUM_OFFSET) // 2}H", raw, _ENUM_OFFSET)
    return [_label_of(state, labels) for state in states]


def _label_of(state: int, labels: list[str]) -> str:
    return (labels[state] if state < len(labels) else "") or str(state)


def _label(raw: Any) -> str:
    labels = _labels_of_values(raw)
    return labels[0] if labels else _label_of(0, _enums(raw))


def _ctrl_fields(base: int) -> dict[str, Callable[[Any], Any]]:
    if base == DBR_ENUM:
        return {**_ALARM_FIELDS, "enums": _enums, "label": _labels_of_values}
    found = dict(_ALARM_FIELDS)
    start = 4
    if base in (DBR_FLOAT, DBR_DOUBLE):
        found["precision"] = lambda raw: struct.unpack_from("=4xh", raw)[0]
        start = 8
    found["units"] = lambda raw: text(cut(raw, start, _UNITS_BYTES))
    for i, limit in enumerate(_LIMITS):
        at = struct.Struct(f"={start + _UNITS_BYTES + i * VALUE_SIZE[base]}x{STRUCT_CODES[base]}")
        found[limit] = lambda raw, unpack=at.unpack_from: unpack(raw)[0]  # type: ignore[misc]
    return found


_CTRL_FIELDS = {base: _ctrl_fields(base) for base in range(DBR_SHORT, DBR_DOUBLE + 1)}


_SINGLE_ENUM_FIELDS = {**_CTRL_FIELDS[DBR_ENUM], "label": _label}


def fields(dbr: int, base: int, format: int, single: bool) -> dict[str, Callable[[Any], Any]]:
    """The decoder of each attribute that values of a DBR type have."""
    if dbr == DBR_STSACK_STRING:
        return _STSACK_FIELDS
    if dbr == DBR_CLASS_NAME or format == FORMAT_RAW:
        return {}
    if dbr == base + FORMAT_BASE[FORMAT_TIME]:
        return _TIME_FIELDS
    if base == DBR_ENUM and single:
        return _SINGLE_ENUM_FIELDS
    return _CTRL_FIELDS[base]
