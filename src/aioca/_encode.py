"""From a Python value to the bytes of a put.

Everything that is wrong with a value and can be known here raises `CAValueError`, which names
the PV, before anything is sent. A value is not bent to fit: what the type cannot hold is an error,
and integers that a double cannot hold go as strings, which the server converts. Only the fraction
of a number for an integer field is cut off, as servers do it.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from ._dbr import (
    AS_BYTES,
    AS_STR,
    DBR_CHAR,
    DBR_CHAR_BYTES,
    DBR_CHAR_STR,
    DBR_CHAR_UNICODE,
    DBR_DOUBLE,
    DBR_ENUM,
    DBR_ENUM_STR,
    DBR_PUT_ACKS,
    DBR_PUT_ACKT,
    DBR_STRING,
    DTYPES,
    MAX_STRING_SIZE,
    is_long_string_name,
)
from ._errors import CAValueError, invalid
from ._libca import ECA_BADCOUNT, ECA_BADSTR, ECA_BADTYPE, Data

Encoded = tuple[int, int, Data]  # DBR type, count, bytes

_pack_double = struct.Struct("=d").pack
_pack_integer = {1: struct.Struct("=h").pack, 3: struct.Struct("=H").pack,
                 4: struct.Struct("=B").pack, 5: struct.Struct("=i").pack}  # fmt: skip
_EXACT = 2**53  # every integer up to here is a double


def encode(name: str, value: Any, code: int | None, native_type: int, native_count: int) -> Encoded:
    """The DBR type, count and bytes to send; ``code`` as `datatype_code` gives it."""
    if code is None and isinstance(value, float) and native_type == DBR_DOUBLE:
        return DBR_DOUBLE, 1, _pack_double(value)
    dbr = _wire_type(name, value, code, native_type, native_count)
    if value is None:
        raise invalid(name, ECA_BADTYPE, "None cannot be written")
    if isinstance(value, (dict, set, frozenset)):
        # As a sequence, the first would be its keys, the others would be in any order.
        raise invalid(name, ECA_BADTYPE, f"{_shown(value)} is not a value")
    if dbr == DBR_CHAR_STR:
        encoded = _long_string(name, value, native_count)
    elif dbr == DBR_STRING:
        encoded = _strings(name, value)
    elif dbr in (DBR_PUT_ACKT, DBR_PUT_ACKS):
        encoded = dbr, 1, struct.pack("=H", _integer(name, value, 0, 0xFFFF))
    else:
        encoded = _numbers(name, value, dbr)
    if encoded[1] > native_count:
        raise invalid(
            name, ECA_BADCOUNT,
            f"{encoded[1]} elements do not fit into the {native_count} of the PV",
        )  # fmt: skip
    return encoded


def _wire_type(name: str, value: Any, code: int | None, native_type: int, native_count: int) -> int:
    if code in (DBR_CHAR_STR, DBR_CHAR_UNICODE, DBR_CHAR_BYTES):
        return DBR_CHAR_STR
    text = isinstance(value, (str, bytes))
    if code in (AS_STR, AS_BYTES, DBR_ENUM_STR, None):
        char_array = native_type == DBR_CHAR and (native_count != 1 or is_long_string_name(name))
        if text and char_array:
            return DBR_CHAR_STR
        if text or code in (AS_STR, AS_BYTES) or (native_type == DBR_ENUM and _is_text(value)):
            return DBR_STRING  # the server knows its labels and how it parses a number
        return native_type
    return code


def _is_text(value: Any) -> bool:
    whole: Any = value
    if isinstance(value, (list, tuple)):
        return any(isinstance(cell, (str, bytes)) for cell in whole)
    return isinstance(value, np.ndarray) and whole.dtype.kind in "US"


def _numbers(name: str, value: Any, dbr: int) -> Encoded:
    if isinstance(value, int):
        pack = _pack_integer.get(dbr)
        if pack is not None:
            low, high = _bounds(dbr)
            return dbr, 1, pack(_integer(name, value, low, high))
        if dbr == DBR_DOUBLE and -_EXACT <= value <= _EXACT:
            return dbr, 1, _pack_double(value)
    try:
        array: Any = np.asarray(value)
        if array.dtype.kind == "O" and any(cell is None for cell in array.flat):
            raise TypeError("None is not a number")
        if dbr == DBR_DOUBLE and not _exact_as_double(array):
            return _strings(name, array)
        with np.errstate(all="raise", under="ignore"):
            array = _converted(array, DTYPES[dbr])
    except (TypeError, ValueError, OverflowError, FloatingPointError) as error:
        if isinstance(error, CAValueError):
            raise
        raise invalid(
            name, ECA_BADTYPE, f"{_shown(value)} cannot be written as {DTYPES[dbr]}: {error}"
        ) from error
    return dbr, _length(name, array), array


def _exact_as_double(array: Any) -> bool:
    """Whether a double holds each of these; OverflowError if a string could not, either."""
    if array.dtype.kind not in "iuO":
        return True
    inexact = [n for n in _large_integers(array) if abs(n) > _EXACT and not _is_double(n)]
    if any(abs(n) >= 10 ** (MAX_STRING_SIZE - 2) for n in inexact):
        raise OverflowError("an integer of so many digits cannot be sent")
    return not inexact


def _is_double(number: int) -> bool:
    try:
        return int(float(number)) == number
    except OverflowError:
        return False


def _large_integers(array: Any) -> list[int]:
    if array.dtype.kind == "O":
        return [n for n in array.flat if isinstance(n, int)]
    if array.dtype.itemsize < 8 or not array.size:
        return []
    if int(array.min()) >= -_EXACT and int(array.max()) <= _EXACT:
        return []
    return [int(n) for n in array.flat]


def _converted(array: Any, dtype: np.dtype[Any]) -> Any:
    if array.dtype == dtype:
        return np.ascontiguousarray(array)
    if array.dtype.kind == "f" and dtype.kind in "iu" and array.size:
        if not np.isfinite(array).all():
            raise ValueError("an integer cannot be NaN or infinite")
        if array.min() <= -(2.0**62) or array.max() >= 2.0**62:
            raise OverflowError("a number is too large for an integer")
        array = array.astype(np.int64)  # cuts off the fraction
    if array.dtype.kind in "iu" and dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        # DBR_CHAR is a byte: signed and unsigned views of it are both in use.
        low = -128 if dtype.itemsize == 1 else limits.min
        if int(array.min()) < low or int(array.max()) > limits.max:
            raise OverflowError(f"a number is outside {low} to {limits.max}")
    if array.dtype.kind == "c":
        raise TypeError("complex numbers do not exist in Channel Access")
    return np.ascontiguousarray(array.astype(dtype))


def _bounds(dbr: int) -> tuple[int, int]:
    limits = np.iinfo(DTYPES[dbr].type)
    return (-128 if dbr == DBR_CHAR else int(limits.min)), int(limits.max)


def _integer(name: str, value: Any, low: int, high: int) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise invalid(name, ECA_BADTYPE, f"{_shown(value)} is not an integer") from error
    if not low <= number <= high:
        raise invalid(name, ECA_BADTYPE, f"{_shown(value)} is outside {low} to {high}")
    return number & 0xFF if (low, high) == (-128, 255) else number


def _length(name: str, array: Any) -> int:
    if array.ndim > 1:
        raise invalid(name, ECA_BADCOUNT, f"an array of {array.ndim} dimensions cannot be written")
    return int(array.size)


def _bytes(name: str, value: Any) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise invalid(name, ECA_BADSTR, f"{_shown(value)}: {error}") from error
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    try:
        return str(value).encode("utf-8")
    except ValueError as error:  # an integer of more digits than Python will print
        raise invalid(name, ECA_BADSTR, f"{_shown(value)}: {error}") from error


def _long_string(name: str, value: Any, native_count: int) -> Encoded:
    if isinstance(value, np.ndarray) or _is_sequence(value):
        return _numbers(name, value, DBR_CHAR)
    # No bytes at all is not an empty string but, to some records, no write.
    data = _bytes(name, value) or b"\0"
    if len(data) < native_count and is_long_string_name(name):
        # The field keeps what lies behind; in an array of its own, the length is what is sent.
        data += b"\0"
    return DBR_CHAR, len(data), data


def _strings(name: str, value: Any) -> Encoded:
    array: Any = value
    if isinstance(value, np.ndarray):
        _length(name, array)
        cells = list(np.atleast_1d(array).tolist())  # pyright: ignore[reportUnknownMemberType]
    elif _is_sequence(value):
        cells = list(value)
    else:
        cells = [value]
    data = b"".join(_string_cell(name, cell) for cell in cells)
    return DBR_STRING, len(cells), data


def _string_cell(name: str, value: Any) -> bytes:
    if value is None or _is_sequence(value):
        raise invalid(name, ECA_BADTYPE, f"{_shown(value)} is not a string")
    data = _bytes(name, value).rstrip(b"\0")
    if b"\0" in data:
        raise invalid(name, ECA_BADSTR, f"{_shown(value)}: a string ends at its first NUL")
    if len(data) >= MAX_STRING_SIZE:
        raise invalid(
            name, ECA_BADSTR,
            f"{_shown(value)} is {len(data)} bytes, a string holds {MAX_STRING_SIZE - 1};"
            " if the field can hold more, write to it as a long string: its name with $",
        )  # fmt: skip
    return data.ljust(MAX_STRING_SIZE, b"\0")


def _is_sequence(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or (
        hasattr(value, "__iter__") and not isinstance(value, (str, bytes, bytearray, np.generic))
    )


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python will print
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 60 else text[:57] + "..."


__all__ = ["CAValueError", "Encoded", "encode"]
