"""Number types that a program can request: the DBR type for the server, and a checked conversion.

Servers convert numbers without a check: a double of 3e9 becomes -2147483648 as a DBR_LONG, a LONG
of -70000 becomes -4464 as a DBR_SHORT. So the request is for a DBR type that holds every number
that the PV can have. This module converts the numbers; one that does not fit is an error.

64-bit integers are sent as doubles. From 2**53 on, neighbouring integers become the same double, so
such a double is not accepted as an integer.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .dbr import (
    AS_BOOL,
    AS_INT8,
    AS_INT64,
    AS_UINT16,
    AS_UINT32,
    AS_UINT64,
    DBR_CHAR,
    DBR_DOUBLE,
    DBR_ENUM,
    DBR_FLOAT,
    DBR_LONG,
    DBR_SHORT,
    DBR_STRING,
    DTYPES,
)

# Below this, each integer is exactly a double, and no other integer becomes the same double.
EXACT_LIMIT = 2**53

Convert = Callable[[Any], Any]


class Misfit(ValueError):  # noqa: N818
    """A PV has a number that the requested type cannot hold."""


class NumberType(NamedTuple):
    """A type of numbers that a program can request.

    Attributes:
        datatype: the nearest DBR type, which is the ``datatype`` attribute of the values.
        dtype: numpy's type for the elements of an array.
    """

    datatype: int
    dtype: Any


NUMBER_TYPES = {
    **{dbr: NumberType(dbr, DTYPES[dbr])
       for dbr in (DBR_SHORT, DBR_FLOAT, DBR_ENUM, DBR_CHAR, DBR_LONG)},
    AS_BOOL: NumberType(DBR_CHAR, np.dtype("?")),
    AS_INT8: NumberType(DBR_CHAR, np.dtype("i1")),
    AS_UINT16: NumberType(DBR_SHORT, np.dtype("u2")),
    AS_UINT32: NumberType(DBR_LONG, np.dtype("u4")),
    AS_INT64: NumberType(DBR_LONG, np.dtype("i8")),
    AS_UINT64: NumberType(DBR_LONG, np.dtype("u8")),
}  # fmt: skip

# By DBR type: the native types whose numbers it can hold, all of them. A CHAR may be signed.
_NATIVE_TYPES_HELD = {
    DBR_CHAR: (DBR_CHAR,),
    DBR_SHORT: (DBR_SHORT, DBR_CHAR),
    DBR_ENUM: (DBR_ENUM,),
    DBR_LONG: (DBR_LONG, DBR_SHORT, DBR_ENUM, DBR_CHAR),
}


def wire_type(code: int, native_type: int) -> int:
    """The DBR type to request from a PV with a native type, for one of `NUMBER_TYPES`."""
    datatype = NUMBER_TYPES[code].datatype
    if datatype == DBR_FLOAT:  # the server refuses a text that is not such a number
        return DBR_DOUBLE if native_type == DBR_DOUBLE else DBR_FLOAT
    if native_type in (DBR_STRING, DBR_FLOAT, DBR_DOUBLE):
        return DBR_DOUBLE
    return datatype if native_type in _NATIVE_TYPES_HELD[datatype] else DBR_LONG


def conversion(code: int, wire: int, single: bool) -> Convert | None:
    """The function that converts received numbers to the requested type.

    Args:
        code: one of `NUMBER_TYPES`.
        wire: the DBR type that was requested from the server.
        single: True for a function of one number, False for a function of an array.

    Returns:
        the function, which raises `Misfit`; None if no conversion is needed.
    """
    dtype, came = NUMBER_TYPES[code].dtype, DTYPES[wire]
    if dtype == came:
        return None
    if dtype.kind == "b":
        return _truth if single else _as(dtype)
    if dtype.kind == "f":
        return _float32 if single else _floats32
    if came == DTYPES[DBR_CHAR] and dtype.itemsize == 1:  # bytes are used as both
        return _signed_byte if single else _signed_bytes
    if came.kind != "f" and np.can_cast(came, dtype):
        return None if single else _as(dtype)
    low, high = _bounds(dtype, came)
    return _integer(dtype, low, high) if single else _integers(dtype, low, high)


def _as(dtype: np.dtype[Any]) -> Convert:
    return lambda array: array.astype(dtype)


def _truth(number: Any) -> bool:
    return bool(number)


def _float32(number: float) -> float:
    try:
        return struct.unpack("=f", struct.pack("=f", number))[0]  # type: ignore[no-any-return]
    except OverflowError:
        raise _misfit(number, np.dtype("f4")) from None


def _floats32(array: Any) -> Any:
    with np.errstate(over="ignore"):
        converted = array.astype("f4")
    _check_all(np.isfinite(converted) | ~np.isfinite(array), array, np.dtype("f4"))
    return converted


def _signed_byte(number: int) -> int:
    return number - 256 if number > 127 else number


def _signed_bytes(array: Any) -> Any:
    return array.view("i1")


def _bounds(dtype: np.dtype[Any], came: np.dtype[Any]) -> tuple[int, int]:
    """The smallest and the largest integer that can be received and that the type holds."""
    wanted = np.iinfo(dtype)
    if came.kind == "f":
        least, greatest = 1 - EXACT_LIMIT, EXACT_LIMIT - 1
    else:
        least, greatest = int(np.iinfo(came).min), int(np.iinfo(came).max)
    return max(int(wanted.min), least), min(int(wanted.max), greatest)


def _integer(dtype: np.dtype[Any], low: int, high: int) -> Convert:
    def convert(number: Any) -> int:
        try:
            whole = int(number)  # cuts off the fraction, like servers
        except (ValueError, OverflowError):
            raise _misfit(number, dtype) from None
        if not low <= whole <= high:
            raise _misfit(number, dtype)
        return whole

    return convert


def _integers(dtype: np.dtype[Any], low: int, high: int) -> Convert:
    def convert(array: Any) -> Any:
        if array.dtype.kind == "f":  # a number between -1 and 0 becomes 0
            inside = (array > low - 1) & (array < high + 1)
        else:
            inside = (array >= low) & (array <= high)
        _check_all(inside, array, dtype)
        return array.astype(dtype)

    return convert


def _check_all(fits: Any, array: Any, dtype: np.dtype[Any]) -> None:
    if not fits.all():
        index = int(fits.argmin())
        raise _misfit(array[index].item(), dtype, f"element {index}: ")


def _misfit(number: Any, dtype: Any, where: str = "") -> Misfit:
    if dtype.kind != "f" and dtype.itemsize == 8 and EXACT_LIMIT <= abs(number) < 2.0**64:
        return Misfit(
            f"{where}{number!r} is a double that stands for several integers; read the PV as float,"
            " or as str, which has all digits of a 64-bit integer"
        )
    return Misfit(f"{where}{number!r} does not fit into {dtype.name}; read the PV as float")
