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

# The ways to ask that there have been, and their numbers: few.
request_kinds: list[tuple[int | None, int, bool, int]] = []


def request_kind(code: int | None, format: int, monitor: bool = False, count: int = 0) -> int:
    """A number for a way to ask: the datatype, the format, whether for a monitor, and its count."""
    way = code, format, monitor, count
    try:
        return request_kinds.index(way)
    except ValueError:
        request_kinds.append(way)  # two threads may do so at once, and both are right
        return request_kinds.index(way)


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
    """The reader for a request; ``code`` as `datatype_code` gives it.

    ``count`` is the `Count` of a monitor, which always asks for as many elements as there are: its
    values are cut or filled up here. Some servers put the number that was asked for into the header
    of an update and send fewer elements, and libca does not check that.
    """
    shown = presentation(name, code, native_type, native_count)
    if shown >= UNCHECKED:
        shown = wire = shown - UNCHECKED
    else:
        wire = wire_type(shown, native_type) if shown in NUMBER_TYPES else shown
    key = shown, wire, format, native_count == 1, monitor, count
    shape = _shapes.get(key)
    if shape is None:
        shape = _shapes[key] = _make_shape(*key)
    return Reader(name, native_count, shape)


def why_unreadable(error: Exception) -> tuple[int, str]:
    """The ECA status for what a reader has raised, and why that was."""
    if isinstance(error, Misfit):
        return ECA_NOCONVERT, str(error)
    return ECA_BADTYPE, f"not understood: {error!r}"


_shapes: dict[tuple[int, int, int, bool, bool, int], Shape] = {}


def _make_shape(
    shown: int, wire: int, format: int, single: bool, monitor: bool, count: int
) -> Shape:
    """How to ask for this presentation of a value, and to understand the answer.

    libca drops an update that has no bytes at all, as it takes that for the end of a subscription.
    A server may send no element. So a monitor in FORMAT_RAW asks for the value with its time stamp,
    which every server knows, and its values do not show that.
    """
    if shown in (DBR_CHAR_STR, DBR_CHAR_UNICODE, DBR_CHAR_BYTES):
        base = DBR_CHAR
    elif shown in (AS_STR, AS_BYTES):
        base = DBR_STRING
    else:
        base = wire
    if base > DBR_DOUBLE:  # STSACK_STRING, CLASS_NAME: one form only
        dbr = base
    elif base == DBR_STRING and format == FORMAT_CTRL:
        # DBR_CTRL_STRING is only status and severity; TIME is the richest form of a string.
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
    shape.kind = shape.unpack = None
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
    else:
        shape.decode = _array(offset, base, convert)
    if monitor and count and not single and base <= DBR_DOUBLE:
        shape.decode = _fitted(shape.decode, offset, VALUE_SIZE[dbr], count)
    return shape


# -- Values ----------------------------------------------------------------------------------------
# Each makes what turns the bytes of one DBR into a value.

Decode = Callable[[Reader, Raw], Any]


def _number(
    kind: Any, unpack: Callable[[Any], Any], convert: Convert | None, offset: int
) -> Decode:
    # `Get._values_from` and `CallbackMonitor.receive` do the same where there is nothing to convert
    # and a number is there: a call costs as much as this does.
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
            if not array.flags.writeable:  # small ones come as bytes, and are cheap to copy
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
    """The same with as many elements as a count says: cut, or filled with zeros."""

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
