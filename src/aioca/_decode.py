"""How the bytes of a DBR become an augmented value.

A reader is made once for each kind of request on a channel (datatype, format) and then turns
the bytes of every reply or update into an augmented value. It knows the native type and count
that the channel had when it was made, so it is thrown away when those change.

What comes from a server may be anything: counts, strings and enum sizes out of range must
give a value or an error, never a read beyond the bytes that were copied.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from ._dbr import (
    AS_BYTES,
    AS_STR,
    DBR_CHAR,
    DBR_CHAR_BYTES,
    DBR_CHAR_STR,
    DBR_CHAR_UNICODE,
    DBR_CLASS_NAME,
    DBR_DOUBLE,
    DBR_ENUM,
    DBR_FLOAT,
    DBR_SHORT,
    DBR_STRING,
    DBR_STSACK_STRING,
    DTYPES,
    FORMAT_CTRL,
    FORMAT_RAW,
    FORMAT_TIME,
    MAX_STRING_SIZE,
    presentation,
)
from ._libca import C_DBR, VALUE_OFFSET, VALUE_SIZE
from ._tokens import Raw
from ._values import (
    Reader,
    Shape,
    alarm_of,
    ca_array,
    ca_bytes,
    ca_float,
    ca_int,
    ca_str,
    local_datetime,
    utc_datetime,
)

_EPICS_EPOCH = 631152000  # 1990-01-01 in seconds of the Unix epoch
_STS_BASE = 7  # value with alarm, and no more
_FORMAT_BASE = {FORMAT_RAW: 0, FORMAT_TIME: 14, FORMAT_CTRL: 28}
_STRUCT_CODES = ("40s", "h", "f", "H", "B", "i", "d")

# The ways to ask that there have been, and their numbers: few.
ways: list[tuple[int | None, int, bool]] = []


def reader_key(code: int | None, format: int, monitor: bool = False) -> int:
    """A number for a way to ask: the datatype, the format, and whether for a monitor."""
    way = code, format, monitor
    try:
        return ways.index(way)
    except ValueError:
        ways.append(way)  # two threads may do so at once, and both are right
        return ways.index(way)


def make_reader(
    name: str,
    native_type: int,
    native_count: int,
    code: int | None,
    format: int,
    *,
    monitor: bool = False,
) -> Reader:
    """The reader for a request; ``code`` as `datatype_code` gives it."""
    shown = presentation(name, code, native_type, native_count)
    key = shown, format, native_count == 1, monitor
    shape = _shapes.get(key)
    if shape is None:
        shape = _shapes[key] = _make_shape(*key)
    return Reader(name, native_count, shape)


_shapes: dict[tuple[int, int, bool, bool], Shape] = {}


def _make_shape(shown: int, format: int, single: bool, monitor: bool) -> Shape:
    """How to ask for this presentation of a value, and to understand the answer.

    libca drops an update that has no bytes at all (it takes it for the end of a subscription). So
    a monitor never asks for a plain array, which may be empty, but for one with the alarm before
    it; the values are none the wiser.
    """
    if shown in (DBR_CHAR_STR, DBR_CHAR_UNICODE, DBR_CHAR_BYTES):
        base = DBR_CHAR
    elif shown in (AS_STR, AS_BYTES):
        base = DBR_STRING
    else:
        base = shown
    if base > DBR_DOUBLE:  # STSACK_STRING, CLASS_NAME: one form only
        dbr = base
    elif base == DBR_STRING and format == FORMAT_CTRL:
        # DBR_CTRL_STRING is only status and severity; TIME is the richest form of a string.
        dbr = base + _FORMAT_BASE[FORMAT_TIME]
    elif format == FORMAT_RAW and monitor and not single:
        dbr = base + _STS_BASE
    else:
        dbr = base + _FORMAT_BASE[format]
    shape = Shape()
    shape.datatype, shape.dbr, shape.fields = base, dbr, _fields(dbr, base, format)
    shape.c_dbr = C_DBR[dbr]
    shape.kind = shape.unpack = None
    offset = VALUE_OFFSET[dbr]
    if base == DBR_CHAR and shown != DBR_CHAR:
        shape.decode = _long_string(offset, shown == DBR_CHAR_BYTES)
    elif base in (DBR_STRING, DBR_STSACK_STRING, DBR_CLASS_NAME):
        make = _string if single or base != DBR_STRING else _string_array
        shape.decode = make(offset, shown == AS_BYTES)
    elif single:
        shape.kind = ca_float if base in (DBR_FLOAT, DBR_DOUBLE) else ca_int
        shape.unpack = struct.Struct(f"={offset}x{_STRUCT_CODES[base]}").unpack_from
        shape.decode = _number
    else:
        shape.decode = _array(offset, base)
    return shape


# -- Values ----------------------------------------------------------------------------------------
# Each makes what turns the bytes of one DBR into a value.

Decode = Callable[[Reader, Raw], Any]


def _number(reader: Reader, raw: Any) -> Any:
    # `Get._values_from` and `CallbackFeed.receive` have a copy: a call costs as much as this does.
    shape = reader.shape
    value = shape.kind(shape.unpack(raw)[0])  # type: ignore[misc]
    value._reader = reader
    value._raw = raw
    return value


def _array(offset: int, base: int) -> Decode:
    dtype = DTYPES[base]

    def decode(reader: Reader, raw: Any) -> ca_array:
        if len(raw) > offset:
            array = np.frombuffer(raw, dtype, -1, offset)
            if not array.flags.writeable:  # small ones come as bytes, and are cheap to copy
                array = array.copy()
        else:
            array = np.empty(0, dtype)
        value = array.view(ca_array)
        value._reader = reader
        value._raw = raw
        return value

    return decode


def _cut(raw: Any, start: int, size: int) -> bytes:
    """The string at ``start``: at most ``size`` bytes, up to its NUL if it has one."""
    return bytes(raw[start : start + size]).split(b"\0", 1)[0]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _string(offset: int, as_bytes: bool) -> Decode:
    def decode(reader: Reader, raw: Any) -> Any:
        data = _cut(raw, offset, MAX_STRING_SIZE)
        value: Any = ca_bytes(data) if as_bytes else ca_str(_text(data))
        value._reader = reader
        value._raw = raw
        return value

    return decode


def _string_array(offset: int, as_bytes: bool) -> Decode:
    def decode(reader: Reader, raw: Any) -> ca_array:
        cells = [
            _cut(raw, start, MAX_STRING_SIZE) for start in range(offset, len(raw), MAX_STRING_SIZE)
        ]
        array: Any
        if as_bytes:
            array = np.array(cells, dtype="S" if cells else "S1")
        else:
            array = np.array([_text(cell) for cell in cells], dtype="U" if cells else "U1")
        value: ca_array = array.view(ca_array)
        value._reader = reader
        value._raw = bytes(raw[:offset])
        return value

    return decode


def _long_string(offset: int, as_bytes: bool) -> Decode:
    def decode(reader: Reader, raw: Any) -> Any:
        data = _cut(raw, offset, len(raw))
        value: Any = ca_bytes(data) if as_bytes else ca_str(_text(data))
        value._reader = reader
        value._raw = bytes(raw[:offset])
        return value

    return decode


# -- Attributes ------------------------------------------------------------------------------------

_unpack_alarm = struct.Struct("=hh").unpack_from
_unpack_stamp = struct.Struct("=4xII").unpack_from
_ALARM_FIELDS: dict[str, Callable[[Any], Any]] = {
    "status": lambda raw: _unpack_alarm(raw)[0],
    "severity": lambda raw: _unpack_alarm(raw)[1],
    "alarm": lambda raw: alarm_of(*_unpack_alarm(raw)),
}


def _raw_stamp(raw: Any) -> tuple[int, int]:
    seconds, nanoseconds = _unpack_stamp(raw)
    return seconds + _EPICS_EPOCH, nanoseconds


def _timestamp(raw: Any) -> float:
    seconds, nanoseconds = _raw_stamp(raw)
    # A double holds no nanoseconds at this size; rounding makes equal stamps print equal.
    return round(seconds + nanoseconds * 1e-9, 6)


def _timestamp_ns(raw: Any) -> int:
    seconds, nanoseconds = _raw_stamp(raw)
    return seconds * 1_000_000_000 + nanoseconds


_TIME_FIELDS: dict[str, Callable[[Any], Any]] = {
    **_ALARM_FIELDS,
    "raw_stamp": _raw_stamp,
    "timestamp": _timestamp,
    "timestamp_ns": _timestamp_ns,
    "datetime": lambda raw: local_datetime(_timestamp(raw)),
    "datetime_utc": lambda raw: utc_datetime(_timestamp_ns(raw)),
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
_UNITS_SIZE, _ENUM_STATES, _ENUM_SIZE = 8, 16, 26


def _enums(raw: Any) -> list[str]:
    (states,) = struct.unpack_from("=4xh", raw)
    states = min(max(states, 0), _ENUM_STATES)
    return [_text(_cut(raw, 6 + i * _ENUM_SIZE, _ENUM_SIZE)) for i in range(states)]


def _ctrl_fields(base: int) -> dict[str, Callable[[Any], Any]]:
    if base == DBR_ENUM:
        return {**_ALARM_FIELDS, "enums": _enums}
    fields = dict(_ALARM_FIELDS)
    start = 4
    if base in (DBR_FLOAT, DBR_DOUBLE):
        fields["precision"] = lambda raw: struct.unpack_from("=4xh", raw)[0]
        start = 8
    fields["units"] = lambda raw: _text(_cut(raw, start, _UNITS_SIZE))
    for i, limit in enumerate(_LIMITS):
        at = struct.Struct(f"={start + _UNITS_SIZE + i * VALUE_SIZE[base]}x{_STRUCT_CODES[base]}")
        fields[limit] = lambda raw, unpack=at.unpack_from: unpack(raw)[0]  # type: ignore[misc]
    return fields


_CTRL_FIELDS = {base: _ctrl_fields(base) for base in range(DBR_SHORT, DBR_DOUBLE + 1)}


def _fields(dbr: int, base: int, format: int) -> dict[str, Callable[[Any], Any]]:
    if dbr == DBR_STSACK_STRING:
        return _STSACK_FIELDS
    if dbr == DBR_CLASS_NAME or format == FORMAT_RAW:
        return {}
    if dbr == base + _FORMAT_BASE[FORMAT_TIME]:
        return _TIME_FIELDS
    return _CTRL_FIELDS[base]
