"""Encode a Python value into the bytes of a put.

Invariants:

- An invalid value raises `CAValueError`, which names the PV, before anything is sent, if it can be
  detected here.
- A value is never changed to fit: one that the type cannot hold is an error. An integer that a
  double cannot hold is sent as a string, which the server converts. The only exception is the
  fraction of a number for an integer field, which is cut off, as servers do.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from .._ca.libca import ECA_BADCOUNT, ECA_BADSTR, ECA_BADTYPE
from .._errors import CAValueError, invalid
from .dbr import (
    AS_BYTES,
    AS_STR,
    DBR_CHAR,
    DBR_CHAR_BYTES,
    DBR_CHAR_STR,
    DBR_CHAR_UNICODE,
    DBR_DOUBLE,
    DBR_ENUM,
    DBR_ENUM_STR,
    DBR_LONG,
    DBR_PUT_ACKS,
    DBR_PUT_ACKT,
    DBR_STRING,
    DTYPES,
    MAX_STRING_BYTES,
    MAX_STRING_SIZE,
    is_long_string_name,
)
from .encode_numbers import (
    as_array,
    bounds,
    check_mask,
    check_texts,
    converted,
    exact_as_double,
    has_text,
    integer,
    length,
    shown,
    with_large_integers,
)
from .number_types import EXACT_LIMIT, NUMBER_TYPES

if TYPE_CHECKING:
    from .._ca.libca import Data

    Encoded = tuple[int, int, Data]  # DBR type, count, bytes

_BOOLS: tuple[Any, ...] = (bool, np.bool_)
_pack_double = struct.Struct("=d").pack
_pack_integer = {1: struct.Struct("=h").pack, 3: struct.Struct("=H").pack,
                 4: struct.Struct("=B").pack, 5: struct.Struct("=i").pack}  # fmt: skip


def encode(name: str, value: Any, code: int | None, native_type: int, native_count: int) -> Encoded:
    """Return the DBR type, count and bytes to send; ``code`` comes from `datatype_code`.

    Raises:
        CAValueError: the value is invalid, or one of its own methods has raised an exception.
    """
    try:
        if code is None and isinstance(value, float) and native_type == DBR_DOUBLE:
            return DBR_DOUBLE, 1, _pack_double(value)
        return _encoded(name, value, code, native_type, native_count)
    except CAValueError:
        raise
    except Exception as error:
        raise invalid(
            name, ECA_BADTYPE, f"writing: cannot convert the value: {shown(error)}"
        ) from error


def _encoded(
    name: str, value: Any, code: int | None, native_type: int, native_count: int
) -> Encoded:
    if value is None:
        raise invalid(name, ECA_BADTYPE, "None cannot be written")
    if isinstance(value, np.ndarray):
        check_mask(name, value)
    dbr = _wire_type(name, value, code, native_type, native_count)
    if isinstance(value, (dict, set, frozenset)):
        # As a sequence, a dict would be its keys, and a set would have no defined order.
        raise invalid(
            name, ECA_BADTYPE, f"{shown(value)} cannot be written: a dict or set is not a value"
        )
    if dbr == DBR_CHAR_STR:
        encoded = _long_string(name, value, native_count)
    elif dbr == DBR_STRING:
        encoded = _strings(name, value)
    elif dbr in (DBR_PUT_ACKT, DBR_PUT_ACKS):
        encoded = dbr, 1, struct.pack("=H", integer(name, value, 0, 0xFFFF))
    elif dbr > DBR_DOUBLE:
        encoded = _typed_numbers(name, value, dbr)
    else:
        encoded = _numbers(name, value, dbr, or_texts=dbr != code)
    if encoded[1] > native_count:
        raise invalid(
            name, ECA_BADCOUNT,
            f"{encoded[1]} elements do not fit into the PV, which holds {native_count}",
        )  # fmt: skip
    if not encoded[1] and native_count == 1:
        # A server would process the record, keep the old value and report success.
        raise invalid(
            name, ECA_BADCOUNT, f"{shown(value)} has no element, but the PV has one: write a value"
        )
    return encoded


def _wire_type(name: str, value: Any, code: int | None, native_type: int, native_count: int) -> int:
    if code in (DBR_CHAR_STR, DBR_CHAR_UNICODE, DBR_CHAR_BYTES):
        return DBR_CHAR_STR
    text = isinstance(value, (str, bytes))
    if code in (AS_STR, AS_BYTES, DBR_ENUM_STR, None):
        char_array = native_type == DBR_CHAR and (native_count != 1 or is_long_string_name(name))
        if text and char_array:
            return DBR_CHAR_STR
        if text or code in (AS_STR, AS_BYTES):
            return DBR_STRING  # the server has the labels and parses numbers
        return native_type
    return code


def _numbers(name: str, value: Any, dbr: int, *, or_texts: bool = False) -> Encoded:
    """Encode numbers; with ``or_texts``, send a list with texts as texts, for the server."""
    if isinstance(value, int):
        pack = _pack_integer.get(dbr)
        if pack is not None:
            low, high = bounds(dbr)
            return dbr, 1, pack(integer(name, value, low, high))
        if dbr == DBR_DOUBLE and -EXACT_LIMIT <= value <= EXACT_LIMIT:
            return dbr, 1, _pack_double(value)
    try:
        array = as_array(value)
        if or_texts and has_text(array):
            if dbr != DBR_ENUM:  # an enum has labels
                check_texts(array, dbr)
            return _strings(name, value)
        if dbr == DBR_DOUBLE:
            array = with_large_integers(array, value)
            if not exact_as_double(array):
                cells: list[Any] = list(array.flat)
                return _strings(name, [int(n) if isinstance(n, _BOOLS) else n for n in cells])
        with np.errstate(all="raise", under="ignore"):
            array = converted(array, DTYPES[dbr])
    except (TypeError, ValueError, OverflowError, FloatingPointError) as error:
        if isinstance(error, CAValueError):
            raise
        raise invalid(
            name, ECA_BADTYPE, f"{shown(value)} cannot be written as {DTYPES[dbr]}: {error}"
        ) from error
    return dbr, length(name, array), array


def _typed_numbers(name: str, value: Any, code: int) -> Encoded:
    """Encode numbers of a type that CA does not have, in the first DBR type that holds them."""
    dtype = NUMBER_TYPES[code].dtype
    try:
        with np.errstate(all="raise", under="ignore"):
            array = converted(as_array(value), dtype)
    except (TypeError, ValueError, OverflowError, FloatingPointError) as error:
        raise invalid(
            name, ECA_BADTYPE, f"{shown(value)} cannot be written as {dtype}: {error}"
        ) from error
    if dtype.itemsize == 1:
        return _numbers(name, array, DBR_CHAR)
    low, high = bounds(DBR_LONG)
    fits = not array.size or (low <= int(array.min()) and int(array.max()) <= high)
    return _numbers(name, array, DBR_LONG if fits else DBR_DOUBLE)


def _bytes(name: str, value: Any) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise invalid(
                name, ECA_BADSTR, f"{shown(value)} cannot be encoded as UTF-8: {error}"
            ) from error
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    try:
        return str(value).encode("utf-8")
    except ValueError as error:  # an integer with more digits than Python prints
        raise invalid(
            name, ECA_BADSTR, f"{shown(value)} cannot be converted to a string: {error}"
        ) from error


def _long_string(name: str, value: Any, native_count: int) -> Encoded:
    if isinstance(value, np.ndarray) or _is_sequence(value):
        return _numbers(name, value, DBR_CHAR)
    # Some records ignore a write of no bytes, so an empty string is sent as a NUL.
    data = _bytes(name, value) or b"\0"
    if len(data) < native_count and is_long_string_name(name):
        # A field keeps the bytes after those that are sent, so it needs a NUL. An array PV takes
        # the length that is sent.
        data += b"\0"
    return DBR_CHAR, len(data), data


def _strings(name: str, value: Any) -> Encoded:
    array: Any = value
    if isinstance(value, np.ndarray):
        length(name, array)
        cells = list(np.atleast_1d(array).tolist())  # pyright: ignore[reportUnknownMemberType]
    elif _is_sequence(value):
        if hasattr(value, "__next__"):  # it may have to be encoded anew for another type
            raise invalid(
                name, ECA_BADTYPE, f"{shown(value)} is an iterator, which is no value; write a list"
            )
        cells = list(value)
    else:
        cells = [value]
    data = b"".join(_string_cell(name, cell) for cell in cells)
    return DBR_STRING, len(cells), data


def _string_cell(name: str, value: Any) -> bytes:
    if value is None or _is_sequence(value):
        raise invalid(name, ECA_BADTYPE, f"{shown(value)} is not a string")
    data = _bytes(name, value).rstrip(b"\0")
    if b"\0" in data:
        raise invalid(name, ECA_BADSTR, f"{shown(value)} contains NUL, which ends a string")
    if len(data) >= MAX_STRING_SIZE:
        raise invalid(
            name, ECA_BADSTR,
            f"{shown(value)} has {len(data)} bytes, but a string holds {MAX_STRING_BYTES};"
            " if the field holds more, write a long string: add $ to the name of the field",
        )  # fmt: skip
    return data.ljust(MAX_STRING_SIZE, b"\0")


def _is_sequence(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or (
        hasattr(value, "__iter__") and not isinstance(value, (str, bytes, bytearray, np.generic))
    )


__all__ = ["CAValueError", "Encoded", "encode"]
