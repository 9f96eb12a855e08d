"""Check and convert the numbers of a Python value for a put.

Invariant: a number is never changed to fit. Only a fraction is cut off, for an integer type.
"""

from __future__ import annotations

import sys
from numbers import Integral
from typing import Any

import numpy as np

from .._ca.libca import ECA_BADCOUNT, ECA_BADTYPE
from .._errors import invalid
from .dbr import DBR_CHAR, DTYPES, MAX_STRING_SIZE
from .number_types import EXACT_LIMIT
from .texts import number_in


def check_mask(name: str, value: Any) -> None:
    """Raise CAValueError if an array has masked elements, which have no value to write."""
    if _is_masked(value):
        raise invalid(
            name, ECA_BADTYPE,
            f"{shown(value)} has masked elements; fill them first: value.filled(...)",
        )  # fmt: skip


def _is_masked(value: Any) -> bool:
    masked_arrays: Any = sys.modules.get("numpy.ma")  # not imported: no masked arrays exist
    if masked_arrays is None or not isinstance(value, masked_arrays.MaskedArray):
        return False
    return bool(masked_arrays.getmaskarray(value).any())


def as_array(value: Any) -> Any:
    """Convert a value to a numpy array; ValueError or TypeError if an element is None or masked."""
    array: Any = np.asarray(value)
    is_list, whole = isinstance(value, (list, tuple)), value
    cells: Any = ()
    if array.dtype.kind == "O":
        cells = list(array.flat)
        if any(cell is None for cell in cells):
            raise TypeError("None is not a number")
    elif array.dtype.kind == "f" and is_list and np.isnan(array).any():
        cells = whole  # numpy turns a masked element into NaN
    if any(map(_is_masked, cells)):
        raise ValueError("the value has masked elements")
    return array


def check_texts(array: Any, dbr: int) -> None:
    """Raise ValueError if an element of an array of texts is no number for a server.

    The server would refuse it, but it would have stored the elements before.
    """
    for cell in array.flat:
        text = cell.decode("latin-1") if isinstance(cell, bytes) else str(cell)
        if number_in(text, dbr) is None:
            raise ValueError(f"{shown(text)} is not a number")


def has_text(array: Any) -> bool:
    """Whether an array has a text; numpy makes texts of all elements of a list with one."""
    kind = array.dtype.kind
    return kind in "US" or (kind == "O" and any(isinstance(n, (str, bytes)) for n in array.flat))


def with_large_integers(array: Any, value: Any) -> Any:
    """Return the array of a list with its integers, if numpy has made doubles of large ones.

    It does that if a list has integers of more than 63 bits besides smaller ones, or has floats.
    """
    is_list = isinstance(value, (list, tuple))
    if is_list and array.dtype.kind == "f" and (np.abs(array) >= EXACT_LIMIT).any():
        return np.array(value, dtype=object)
    return array


def exact_as_double(array: Any) -> bool:
    """Whether a double holds each number exactly; OverflowError if not even a string would."""
    if array.dtype.kind not in "iuO":
        return True
    inexact = [n for n in _large_integers(array) if abs(n) > EXACT_LIMIT and not _is_double(n)]
    if any(abs(n) >= 10 ** (MAX_STRING_SIZE - 2) for n in inexact):
        raise OverflowError("an integer has too many digits to be sent")
    return not inexact


def _is_double(number: int) -> bool:
    try:
        return int(float(number)) == number
    except OverflowError:
        return False


def _large_integers(array: Any) -> list[int]:
    if array.dtype.kind == "O":
        return [int(n) for n in array.flat if isinstance(n, Integral)]  # also numpy's integers
    if array.dtype.itemsize < 8 or not array.size:
        return []
    if int(array.min()) >= -EXACT_LIMIT and int(array.max()) <= EXACT_LIMIT:
        return []
    return [int(n) for n in array.flat]


def converted(array: Any, dtype: np.dtype[Any]) -> Any:
    """Convert an array to a dtype; raise a built-in exception with the reason if it cannot."""
    if array.dtype == dtype:
        return np.ascontiguousarray(array)
    if array.dtype.kind in "mMV":  # times and structures: numpy would cut them off
        raise TypeError(f"{array.dtype} is not a type of numbers")
    if dtype.kind == "b" and array.dtype.kind not in "biuf":
        raise TypeError("only numbers can be converted to bool")
    if array.dtype.kind == "f" and dtype.kind in "iu" and array.size:
        if not np.isfinite(array).all():
            raise ValueError("an integer cannot be NaN or infinite")
        if array.min() <= -(2.0**62) or array.max() >= 2.0**62:
            raise OverflowError("a number is too large for an integer")
        array = array.astype(np.int64)  # cuts off the fraction
    if array.dtype.kind in "iu" and dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        # DBR_CHAR is a byte: some programs use it as signed, others as unsigned.
        low = -128 if dtype.itemsize == 1 else limits.min
        if int(array.min()) < low or int(array.max()) > limits.max:
            raise OverflowError(f"a number is outside the range {low} to {limits.max}")
    if array.dtype.kind == "c":
        raise TypeError("Channel Access has no complex numbers")
    return np.ascontiguousarray(array.astype(dtype))


def bounds(dbr: int) -> tuple[int, int]:
    """The smallest and the largest integer that can be written as a DBR type."""
    limits = np.iinfo(DTYPES[dbr].type)
    return (-128 if dbr == DBR_CHAR else int(limits.min)), int(limits.max)


def integer(name: str, value: Any, low: int, high: int) -> int:
    """Convert a value to an integer within bounds (for a CHAR: a byte); CAValueError otherwise."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise invalid(name, ECA_BADTYPE, f"{shown(value)} is not an integer") from error
    if not low <= number <= high:
        raise invalid(name, ECA_BADTYPE, f"{shown(value)} is outside the range {low} to {high}")
    return number & 0xFF if (low, high) == (-128, 255) else number


def length(name: str, array: Any) -> int:
    """The number of elements of a scalar or a one-dimensional array; CAValueError otherwise."""
    if array.ndim > 1:
        raise invalid(
            name, ECA_BADCOUNT,
            f"an array of {array.ndim} dimensions cannot be written; write one of shape (n,)",
        )  # fmt: skip
    return int(array.size)


def shown(value: Any) -> str:
    """The text of a value for an error: at most 60 characters. Never raises an Exception."""
    try:
        text = repr(value)
    except Exception:  # such as an integer with more digits than Python prints
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 60 else text[:57] + "..."
