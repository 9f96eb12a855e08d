"""Many values at once: their alarms, time stamps and numbers as numpy columns.

To read one attribute of a value takes 0.5 to 1 µs. All columns of a batch together take less than
0.2 µs for each value, because numpy reads the DBR bytes of the batch through a structured dtype.

Invariant: a column has exactly the attributes of the values (``timestamp_ns``,
``severity``, ``status``, ``+value``).
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from .attributes import EPICS_EPOCH
from .classes import Shape

reader_of = attrgetter("_reader")
_raw_of = attrgetter("_raw")

# All DBR types of FORMAT_TIME begin with these bytes, in the byte order of this machine
_HEADER = np.dtype([("status", "i2"), ("severity", "i2"), ("seconds", "u4"), ("nanoseconds", "u4")])
_HEADER_SIZE = _HEADER.itemsize

_Column = np.ndarray[Any, Any]


class Columns(NamedTuple):
    """Columns of a batch of values; all have one element for each value.

    Attributes:
        timestamp_ns: int64, nanoseconds of the Unix epoch.
        severity, status: int16, the alarm as the server has sent it.
        numbers: float64, which holds all numbers of Channel Access exactly; None if the values are
            texts or arrays, or have been converted to another type.
    """

    timestamp_ns: _Column
    severity: _Column
    status: _Column
    numbers: _Column | None


def columns_of(shape: Shape, values: Sequence[Any]) -> Columns:
    """Decode a batch of values of FORMAT_TIME, whose readers all have this shape.

    Raises:
        ValueError: the values are not of FORMAT_TIME.
    """
    if "timestamp_ns" not in shape.fields:
        raise ValueError(f"DBR type {shape.dbr} has no time stamp; request it with FORMAT_TIME")
    raws: list[Any] = list(map(_raw_of, values))
    if shape.cells is None:
        table = _table([raw[:_HEADER_SIZE] for raw in raws], _HEADER)
        return _columns(table, None)
    table = _table(_of_equal_length(raws, shape.cells.itemsize), _dtype_of(shape))
    return _columns(table, table["value"].astype("f8"))


def _table(raws: Sequence[Any], dtype: Any) -> Any:
    return np.frombuffer(b"".join(raws), dtype)  # pyright: ignore[reportUnknownMemberType]


def _columns(table: Any, numbers: _Column | None) -> Columns:
    seconds = table["seconds"].astype("i8") + EPICS_EPOCH
    stamps = seconds * 1_000_000_000 + table["nanoseconds"]
    return Columns(stamps, table["severity"], table["status"], numbers)


def _of_equal_length(raws: list[Any], size: int) -> list[Any]:
    """Return DBRs of exactly ``size`` bytes; the number of a DBR without any element is 0."""
    if set(map(len, raws)) <= {size}:
        return raws
    return [bytes(raw[:size]).ljust(size, b"\0") for raw in raws]


_dtypes: dict[Shape, Any] = {}


def _dtype_of(shape: Shape) -> Any:
    """The dtype of the DBR of a number: the header, and ``value``. There are less than ten."""
    dtype = _dtypes.get(shape)
    if dtype is None:
        header: Any = _HEADER
        fields: Any = {**header.fields, **shape.cells.fields}
        dtype = _dtypes[shape] = np.dtype(
            {
                "names": list(fields),
                "formats": [dtype for dtype, _ in fields.values()],
                "offsets": [offset for _, offset in fields.values()],
                "itemsize": shape.cells.itemsize,
            }
        )
    return dtype
