"""Readers: they decode the bytes of a DBR into an augmented value.

A reader is made once for each kind of request on a channel (datatype, format). It decodes the bytes
of every reply and update. A reader is valid for the channel's native type and count at that time,
so it is dropped when those change.

Invariant: a server can send anything. Counts, strings and enum sizes out of range give a value or
an error, never a read beyond the bytes that were copied.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from .._ca.libca import C_DBR, ECA_BADTYPE, ECA_NOCONVERT, VALUE_OFFSET, VALUE_SIZE
from .._ca.tokens import Raw
from .attributes import FORMAT_BASE, STRUCT_CODES, cut, fields, text
from .classes import Reader, Shape, ca_array, ca_bytes, ca_float, ca_int, ca_str
from .dbr import (
    AS_BYTES,
    AS_STR,
    DBR_CHAR,
    DBR_CHAR_BYTES,
    DBR_CHAR_STR,
    DBR_CHAR_UNICODE,
    DBR_CLASS_NAME,
    DBR_DOUBLE,
    DBR_FLOAT,
    DBR_STRING,
    DBR_STSACK_STRING,
    DTYPES,
    FORMAT_CTRL,
    FORMAT_RAW,
    FORMAT_TIME,
    MAX_STRING_SIZE,
    UNCHECKED,
    presentation,
)
from .number_types import NUMBER_TYPES, Convert, Misfit, conversion, wire_type

# A kind of request: datatype, format, whether it is for a monitor, and the monitor's count
Kind = tuple[int | None, int, bool, int]
_kinds: dict[Kind, Kind] = {}


def request_kind(code: int | None, format: int, monitor: bool = False, count: int = 0) -> Kind:
    """The one object for a kind of request: all requests of this kind share it. On any thread."""
    kind = code, format, monitor, count
    return _kinds.setdefault(kind, kind)


def make_reader(
    name: str,
    native_type: int,
    native_count: int,
    code: int | None,
    format: int,
    *,
    monitor: bool = False,
    count: int = 0,
) -> Reader:
    """Make the reader for a request; ``code`` comes from `datatype_code`.

    ``count`` is the `Count` of a monitor. A monitor always requests the current length, and the
    reader cuts or pads its values. The reason: some servers put the requested number into the
    header of an update and send fewer elements, which libca does not check.
    """
    shown = presentation(name, code, native_type, native_count)
    if shown >= UNCHECKED:
        shown = wire = shown - UNCHECKED
    else:
        wire = wire_type(shown, native_type) if shown in NUMBER_TYPES else shown
    key = shown, wire, format, native_count == 1, monitor, count
    shape = _shapes.get(key)
    if shape is None:
        shape = _shapes.setdefault(key, _make_shape(*key))  # one object, also for two threads
    return Reader(name, native_count, shape)


def why_unreadable(error: Exception) -> tuple[int, str]:
    """The ECA status and the text for an exception that a reader has raised."""
    if isinstance(error, Misfit):
        return ECA_NOCONVERT, str(error)
    return ECA_BADTYPE, f"cannot decode the data that the server sent: {error!r}"


_shapes: dict[tuple[int, int, int, bool, bool, int], Shape] = {}


def _make_shape(
    shown: int, wire: int, format: int, single: bool, monitor: bool, count: int
) -> Shape:
    """Choose the DBR type to request, and how to decode the reply.

    A server may send an update without any element. libca drops an update that has no bytes at all,
    because it means the end of a subscription. So a monitor in FORMAT_RAW requests the value with
    its time stamp, which every server supports. The values do not have it as an attribute.
    """
    if shown in (DBR_CHAR_STR, DBR_CHAR_UNICODE, DBR_CHAR_BYTES):
        base = DBR_CHAR
    elif shown in (AS_STR, AS_BYTES):
        base = DBR_STRING
    else:
        base = wire
    if base > DBR_DOUBLE:  # STSACK_STRING and CLASS_NAME have no formats
        dbr = base
    elif base == DBR_STRING and format == FORMAT_CTRL:
        # DBR_CTRL_STRING has only status and severity; DBR_TIME_STRING has the time stamp too.
        dbr = base + FORMAT_BASE[FORMAT_TIME]
    elif format == FORMAT_RAW and monitor:
        dbr = base + FORMAT_BASE[FORMAT_TIME]
    else:
        dbr = base + FORMAT_BASE[format]
    shape = Shape()
    converts = NUMBER_TYPES.get(shown)
    convert = conversion(shown, wire, single) if converts else None
    shape.datatype = converts.datatype if converts else base
    shape.dbr, shape.fields = dbr, fields(dbr, base, format, single)
    shape.c_dbr = C_DBR[dbr]
    shape.kind = shape.unpack = shape.cells = None
    offset = VALUE_OFFSET[dbr]
    if base == DBR_CHAR and shown in (DBR_CHAR_STR, DBR_CHAR_UNICODE, DBR_CHAR_BYTES):
        shape.decode = _long_string(offset, shown == DBR_CHAR_BYTES)
    elif base in (DBR_STRING, DBR_STSACK_STRING, DBR_CLASS_NAME):
        make = _string if single or base != DBR_STRING else _string_array
        shape.decode = make(offset, shown == AS_BYTES)
    elif single:
        kind: Any = ca_float if shape.datatype in (DBR_FLOAT, DBR_DOUBLE) else ca_int
        unpack = struct.Struct(f"={offset}x{STRUCT_CODES[base]}").unpack_from
        shape.decode = _number(kind, unpack, convert, offset)
        if convert is None:
            shape.kind, shape.unpack = kind, unpack
            shape.cells = _cells(base, offset, VALUE_SIZE[dbr])
    else:
        shape.decode = _array(offset, base, convert)
    if monitor and count and not single and base <= DBR_DOUBLE:
        shape.decode = _fitted(shape.decode, offset, VALUE_SIZE[dbr], count)
    return shape


def _cells(base: int, offset: int, size: int) -> np.dtype[Any]:
    """The numpy dtype of a DBR of one number: its only field is ``value``."""
    return np.dtype(
        {
            "names": ["value"],
            "formats": [DTYPES[base]],
            "offsets": [offset],
            "itemsize": offset + size,
        }
    )


# -- Values ----------------------------------------------------------------------------------------
# Each of these functions returns a function that decodes the bytes of one DBR into a value.

Decode = Callable[[Reader, Raw], Any]


def _number(
    kind: Any, unpack: Callable[[Any], Any], convert: Convert | None, offset: int
) -> Decode:
    # `Get.values_from` and `CallbackMonitor.receive` contain copies of this code for the case of a
    # number that needs no conversion: a call would take as long as the code itself.
    def decode(reader: Reader, raw: Any) -> Any:
        try:
            (number,) = unpack(raw)
        except struct.error:
            if len(raw) != offset:
                raise
            number = 0  # the server has sent no element
        value = kind(number if convert is None else convert(number))
        value._reader = reader
        value._raw = raw
        return value

    return decode


def _array(offset: int, base: int, convert: Convert | None) -> Decode:
    dtype = DTYPES[base]

    def decode(reader: Reader, raw: Any) -> ca_array:
        if len(raw) > offset:
            array: Any = np.frombuffer(raw, dtype, -1, offset)  # pyright: ignore[reportUnknownMemberType]
            if not array.flags.writeable:  # small arrays are bytes, and cheap to copy
                array = array.copy()
        else:
            array = np.empty(0, dtype)
        if convert is not None:
            array = convert(array)
        value: ca_array = array.view(ca_array)
        value._reader = reader
        value._raw = raw
        return value

    return decode


def _fitted(decode: Decode, offset: int, size: int, count: int) -> Decode:
    """Wrap a decoder: cut the DBR to ``count`` elements, or pad it with zeros."""

    def fitted(reader: Reader, raw: Any) -> Any:
        native = reader.element_count
        end = offset + size * (native if count < 0 else min(count, native))
        if len(raw) > end:
            raw = raw[:end]
        elif len(raw) < end:
            raw = raw + bytes(end - len(raw))
        return decode(reader, raw)

    return fitted


def _string(offset: int, as_bytes: bool) -> Decode:
    def decode(reader: Reader, raw: Any) -> Any:
        data = cut(raw, offset, MAX_STRING_SIZE)
        value: Any = ca_bytes(data) if as_bytes else ca_str(text(data))
        value._reader = reader
        value._raw = raw
        return value

    return decode


def _string_array(offset: int, as_bytes: bool) -> Decode:
    def decode(reader: Reader, raw: Any) -> ca_array:
        cells = [
            cut(raw, start, MAX_STRING_SIZE) for start in range(offset, len(raw), MAX_STRING_SIZE)
        ]
        array: Any
        if as_bytes:
            array = np.array(cells, dtype="S" if cells else "S1")
        else:
            array = np.array([text(cell) for cell in cells], dtype="U" if cells else "U1")
        value: ca_array = array.view(ca_array)
        value._reader = reader
        value._raw = bytes(raw[:offset])
        return value

    return decode


def _long_string(offset: int, as_bytes: bool) -> Decode:
    def decode(reader: Reader, raw: Any) -> Any:
        data = cut(raw, offset, len(raw))
        value: Any = ca_bytes(data) if as_bytes else ca_str(text(data))
        value._reader = reader
        value._raw = bytes(raw[:offset])
        return value

    return decode
