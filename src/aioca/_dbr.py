"""DBR types, formats and events: their names, and which type a datatype asks for."""

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
# Not libca's: how to present a DBR_STRING or DBR_CHAR. The numbers are those of aioca 2.x.
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

# What `datatype=str` and `datatype=bytes` mean: a string, and of a CHAR array a long string.
AS_STR = 1001
AS_BYTES = 1002

MAX_STRING_SIZE = 40
DTYPES = (
    np.dtype("S40"), np.dtype("i2"), np.dtype("f4"), np.dtype("u2"), np.dtype("u1"),
    np.dtype("i4"), np.dtype("f8"),
)  # fmt: skip
_NUMPY_CODES = {
    "?": DBR_CHAR, "b": DBR_CHAR, "B": DBR_CHAR, "h": DBR_SHORT, "H": DBR_SHORT, "i": DBR_LONG,
    "I": DBR_LONG, "l": DBR_LONG, "L": DBR_LONG, "q": DBR_LONG, "Q": DBR_LONG, "e": DBR_FLOAT,
    "f": DBR_FLOAT, "d": DBR_DOUBLE, "S": DBR_STRING, "U": AS_STR,
}  # fmt: skip
_READABLE = {
    *range(DBR_STRING, DBR_DOUBLE + 1), DBR_STSACK_STRING, DBR_CLASS_NAME,
    DBR_ENUM_STR, DBR_CHAR_BYTES, DBR_CHAR_UNICODE, DBR_CHAR_STR, AS_STR, AS_BYTES,
}  # fmt: skip
_WRITABLE = _READABLE - {DBR_STSACK_STRING, DBR_CLASS_NAME} | {DBR_PUT_ACKT, DBR_PUT_ACKS}


def datatype_code(datatype: object, writing: bool = False) -> int | None:
    """A `Datatype` as one number; TypeError or ValueError if it is none."""
    if datatype is None:
        return None
    if isinstance(datatype, int) and not isinstance(datatype, bool):
        code = int(datatype)
    elif datatype is str or datatype is bytes:
        code = AS_STR if datatype is str else AS_BYTES
    else:
        try:
            code = _NUMPY_CODES[np.dtype(datatype).char]  # type: ignore[call-overload]
        except (TypeError, KeyError):
            raise TypeError(f"datatype {datatype!r} has no Channel Access equivalent") from None
    if code not in (_WRITABLE if writing else _READABLE):
        raise ValueError(f"datatype {datatype!r} cannot be {'written' if writing else 'read'}")
    return code


def is_long_string_name(name: str) -> bool:
    """Whether the server was asked for a field as a long string (``$``, perhaps filtered)."""
    return name.endswith("$") or "${" in name or "$[" in name


def presentation(name: str, code: int | None, native_type: int, native_count: int) -> int:
    """The datatype to use on this channel: a DBR type, or a DBR_CHAR_* to present one."""
    if code is None or code == DBR_ENUM_STR:
        if native_type == DBR_CHAR and is_long_string_name(name):
            return DBR_CHAR_STR
        return DBR_STRING if code is not None and native_type == DBR_ENUM else native_type
    if code in (AS_STR, AS_BYTES):
        long = native_type == DBR_CHAR and (native_count != 1 or is_long_string_name(name))
        if long:
            return DBR_CHAR_STR if code == AS_STR else DBR_CHAR_BYTES
    return code
