"""Types for annotations: what the functions of `aioca` take and give."""

from __future__ import annotations

from collections.abc import Sized
from datetime import datetime as _datetime
from typing import Any, Literal, Protocol

from ._values import Alarm, ca_array, ca_bytes, ca_float, ca_int, ca_str

__all__ = [
    "Alarm", "AugmentedValue", "Count", "Datatype", "Dbe", "Dbr", "Format", "Timeout",
    "ca_array", "ca_bytes", "ca_float", "ca_int", "ca_str",
]  # fmt: skip

#: When an operation fails if it has not ended:
#:
#: ============ ================================================================
#: ``None``     never
#: ``0``        at once, if any waiting is needed
#: a number     after so many seconds
#: ``(t,)``     at ``t`` on the clock of ``time.time()``
#: ============ ================================================================
Timeout = float | tuple[float] | None

#: Which events a monitor is for, as a bitwise or of ``DBE_VALUE``, ``DBE_LOG``, ``DBE_ALARM`` and
#: ``DBE_PROPERTY``. ``None`` is what the format shows: ``DBE_VALUE`` for ``FORMAT_RAW``, with
#: ``DBE_ALARM`` for ``FORMAT_TIME``, and with ``DBE_PROPERTY`` too for ``FORMAT_CTRL``.
Dbe = int | None

#: A data type by its DBR code (``DBR_DOUBLE``...), or ``DBR_ENUM_STR`` (labels of an enum,
#: native otherwise), ``DBR_CHAR_STR``, ``DBR_CHAR_UNICODE`` or ``DBR_CHAR_BYTES`` (a CHAR array
#: as one long string).
Dbr = Literal[0, 1, 2, 3, 4, 5, 6, 35, 36, 37, 38, 996, 997, 998, 999]

#: ``None`` for the native type of the PV, a `Dbr` code, a Python type (``float``, ``int``,
#: ``str``, ``bytes``, ``bool``) or anything that ``numpy.dtype`` takes and CA has. With ``str``
#: or ``bytes``, a CHAR array is a long string.
Datatype = Dbr | type | str | None

#: What comes with the value. ``FORMAT_RAW`` nothing, ``FORMAT_TIME`` alarm and time stamp,
#: ``FORMAT_CTRL`` alarm, units, precision, limits and enum labels.
Format = Literal[0, 1, 2]

#: How many elements: 0 as many as there are now, -1 the native length, n at most n.
Count = int


class AugmentedValue(Sized, Protocol):
    """What `aioca.caget` returns and monitors deliver.

    It is an int, a float, a str or bytes if the PV is a scalar, a numpy array otherwise (its
    classes are ``ca_int ca_float ca_str ca_bytes ca_array``), and it has the attributes below.
    Those that the format and the type do not bring do not exist: ``hasattr`` is false.
    ``+value`` is the plain object.

    A failure that was not raised is an `aioca.CANothing`: it has ``name``, ``ok`` (false) and
    ``errorcode``.
    """

    #: The PV. Always there.
    name: str
    #: True for a value. Always there.
    ok: bool
    #: The ECA status; of a `aioca.CANothing` only.
    errorcode: int
    #: The DBR type (without the format) that the server was asked for. Always there.
    datatype: int
    #: Native number of elements of the PV, 1 for a scalar. Always there.
    element_count: int
    #: 0 no alarm, 1 minor, 2 major, 3 invalid. ``FORMAT_TIME`` and ``FORMAT_CTRL``.
    severity: int
    #: The reason of the alarm as a number. ``FORMAT_TIME`` and ``FORMAT_CTRL``.
    status: int
    #: Names of the two, such as ``("HIHI", "MAJOR")``. ``FORMAT_TIME`` and ``FORMAT_CTRL``.
    alarm: Alarm
    #: Seconds and nanoseconds of the Unix epoch, as sent. ``FORMAT_TIME``.
    raw_stamp: tuple[int, int]
    #: Seconds of the Unix epoch, rounded to microseconds. ``FORMAT_TIME``.
    timestamp: float
    #: Nanoseconds of the Unix epoch. ``FORMAT_TIME``.
    timestamp_ns: int
    #: Naive local time. ``FORMAT_TIME``.
    datetime: _datetime
    #: Aware time, in UTC. ``FORMAT_TIME``.
    datetime_utc: _datetime
    #: Engineering units. ``FORMAT_CTRL``, numbers.
    units: str
    #: Digits to show after the point. ``FORMAT_CTRL``, FLOAT and DOUBLE.
    precision: int
    upper_disp_limit: float  #: Top of a display. ``FORMAT_CTRL``, numbers.
    lower_disp_limit: float  #: Bottom of a display.
    upper_alarm_limit: float  #: HIHI.
    upper_warning_limit: float  #: HIGH.
    lower_warning_limit: float  #: LOW.
    lower_alarm_limit: float  #: LOLO.
    upper_ctrl_limit: float  #: The most that can be written.
    lower_ctrl_limit: float  #: The least that can be written.
    #: The labels of an enum. ``FORMAT_CTRL``, ENUM.
    enums: list[str]
    #: Whether transient alarms must be acknowledged. ``DBR_STSACK_STRING``.
    ackt: int
    #: The highest severity that is not acknowledged. ``DBR_STSACK_STRING``.
    acks: int

    def __pos__(self) -> Any: ...
    def __eq__(self, other: object, /) -> Any: ...
    def __hash__(self) -> int: ...
