"""DBR types, formats and event masks: their names, and the DBR type that a `Datatype` requests.

The numbers are those of libca, and of aioca 2.x where libca has none. Numbers of this package only
are above 1000.
"""

from __future__ import annotations

from typing import Final

import numpy as np

DBR_STRING: Final = 0
DBR_SHORT: Final = 1
DBR_FLOAT: Final = 2
DBR_ENUM: Final = 3
DBR_CHAR: Final = 4
DBR_LONG: Final = 5
DBR_DOUBLE: Final = 6
DBR_PUT_ACKT: Final = 35
DBR_PUT_ACKS: Final = 36
DBR_STSACK_STRING: Final = 37
DBR_CLASS_NAME: Final = 38
# Presentations of a DBR_STRING or DBR_CHAR, unknown to libca. The numbers are those of aioca 2.x.
DBR_ENUM_STR: Final = 996
DBR_CHAR_BYTES: Final = 997
DBR_CHAR_UNICODE: Final = 998
DBR_CHAR_STR: Final = 999

FORMAT_RAW: Final = 0
FORMAT_TIME: Final = 1
FORMAT_CTRL: Final = 2

DBE_VALUE: Final = 1
DBE_LOG: Final = 2
DBE_ALARM: Final = 4
DBE_PROPERTY: Final = 8

# The meaning of `datatype=str` and `datatype=bytes`: a string; for a CHAR array, a long string.
AS_STR = 1001
AS_BYTES = 1002
# For a value that is compared with text or bytes: an enum is read as its label, a CHAR array as a
# long string, and all other types as native.
AS_TEXT_TO_MATCH = 1003
AS_BYTES_TO_MATCH = 1004
# Types of numbers that Channel Access does not have: see `number_types`.
AS_BOOL = 1010
AS_INT8 = 1011
AS_UINT16 = 1012
AS_UINT32 = 1013
AS_INT64 = 1014
AS_UINT64 = 1015
# Added to a DBR type: accept the numbers as the server converts them, even if they do not fit. For
# the command line, which shows what a server sends.
UNCHECKED = 2000

MAX_STRING_SIZE = 40
MAX_STRING_BYTES = MAX_STRING_SIZE - 1  # of the text: the last byte is a NUL
DTYPES = (
    np.dtype("S40"), np.dtype("i2"), np.dtype("f4"), np.dtype("u2"), np.dtype("u1"),
    np.dtype("i4"), np.dtype("f8"),
)  # fmt: skip
# By numpy's kind and item size in bytes; the size of text is not used.
_NUMPY_CODES = {
    ("b", 1): AS_BOOL, ("i", 1): AS_INT8, ("u", 1): DBR_CHAR, ("i", 2): DBR_SHORT,
    ("u", 2): AS_UINT16, ("i", 4): DBR_LONG, ("u", 4): AS_UINT32, ("i", 8): AS_INT64,
    ("u", 8): AS_UINT64, ("f", 2): DBR_FLOAT, ("f", 4): DBR_FLOAT, ("f", 8): DBR_DOUBLE,
    ("S", 0): DBR_STRING, ("U", 0): AS_STR,
}  # fmt: skip
_CHECKED = {AS_BOOL, AS_INT8, AS_UINT16, AS_UINT32, AS_INT64, AS_UINT64}
_READABLE = {
    *range(DBR_STRING, DBR_DOUBLE + 1), DBR_STSACK_STRING, DBR_CLASS_NAME,
    DBR_ENUM_STR, DBR_CHAR_BYTES, DBR_CHAR_UNICODE, DBR_CHAR_STR, AS_STR, AS_BYTES,
    AS_TEXT_TO_MATCH, AS_BYTES_TO_MATCH, *_CHECKED,
    *range(UNCHECKED + DBR_STRING, UNCHECKED + DBR_DOUBLE + 1),
}  # fmt: skip
_WRITABLE = {code for code in _READABLE if code < UNCHECKED} - {
    DBR_STSACK_STRING, DBR_CLASS_NAME, AS_TEXT_TO_MATCH, AS_BYTES_TO_MATCH,
} | {DBR_PUT_ACKT, DBR_PUT_ACKS}  # fmt: skip


def datatype_code(datatype: object, writing: bool = False) -> int | None:
    """Convert a `Datatype` to one number; TypeError or ValueError if it is not a datatype."""
    if datatype is None:
        return None
    if isinstance(datatype, int) and not isinstance(datatype, bool):
        code = int(datatype)
    elif datatype is str or datatype is bytes:
        code = AS_STR if datatype is str else AS_BYTES
    elif datatype is int:
        code = AS_INT64  # numpy's default int has 32 bits on some systems
    else:
        try:
            dtype = np.dtype(datatype)  # type: ignore[call-overload]
            code = _NUMPY_CODES[dtype.kind, 0 if dtype.kind in "SU" else dtype.itemsize]
        except (TypeError, KeyError):
            raise TypeError(f"datatype {datatype!r} has no Channel Access equivalent") from None
    if code not in (_WRITABLE if writing else _READABLE):
        raise ValueError(f"datatype {datatype!r} cannot be {'written' if writing else 'read'}")
    return code


def is_long_string_name(name: str) -> bool:
    """Whether the name requests a field as a long string (``$``, perhaps before a filter)."""
    return name.endswith("$") or "${" in name or "$[" in name


def long_string_of(pv: str) -> str:
    """Return the name by which a field that holds a text has all of it: ``$`` follows a field."""
    return f"{pv}$" if "." in pv else f"{pv}.VAL$"


def presentation(name: str, code: int | None, native_type: int, native_count: int) -> int:
    """The datatype for a request on this channel: a DBR type, or a DBR_CHAR_* or AS_* code."""
    if code is None:
        return DBR_CHAR_STR if _is_long_field(name, native_type) else native_type
    if code in (AS_STR, AS_BYTES, AS_TEXT_TO_MATCH, AS_BYTES_TO_MATCH, DBR_ENUM_STR):
        return _text_presentation(name, code, native_type, native_count)
    return code


def _text_presentation(name: str, code: int, native_type: int, native_count: int) -> int:
    as_bytes = code in (AS_BYTES, AS_BYTES_TO_MATCH)
    if native_type == DBR_CHAR:
        arrays_too = code != DBR_ENUM_STR
        if _is_long_field(name, native_type) or (arrays_too and native_count != 1):
            return DBR_CHAR_BYTES if as_bytes else DBR_CHAR_STR
    if code in (AS_STR, AS_BYTES):
        return code
    if native_type in (DBR_ENUM, DBR_STRING):
        return AS_BYTES if as_bytes else DBR_STRING
    return native_type


def _is_long_field(name: str, native_type: int) -> bool:
    return native_type == DBR_CHAR and is_long_string_name(name)
