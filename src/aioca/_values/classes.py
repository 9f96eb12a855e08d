"""The classes of augmented values: plain Python values with the attributes of their DBR.

A value keeps the bytes of its DBR and a reference to the reader that made it. An attribute is
decoded when it is first read, and then stored. So making a value takes a third of the time of
decoding everything. An attribute that was not in the reply does not exist.

``isinstance(value, epicscorelibs.ca.dbr.ca_float)`` is true in a program that has imported that
module. This package never imports it: that takes 0.2 s and needs setuptools.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, SupportsIndex, cast

import numpy as np

from .augmented import Alarm, AugmentedValue

if TYPE_CHECKING:
    from .._ca.tokens import Raw

    _NDArray = np.ndarray[Any, np.dtype[Any]]
else:
    _NDArray = np.ndarray

# The attributes of values in aioca 2.x, with the same names and in the same order.
ca_extra_fields: list[str] = [
    "name",
    "ok",
    "datatype",
    "element_count",
    "severity",
    "status",
    "raw_stamp",
    "timestamp",
    "datetime",
    "units",
    "upper_disp_limit",
    "lower_disp_limit",
    "upper_alarm_limit",
    "lower_alarm_limit",
    "upper_warning_limit",
    "lower_warning_limit",
    "upper_ctrl_limit",
    "lower_ctrl_limit",
    "precision",
    "enums",
]

SEVERITIES = ("NO_ALARM", "MINOR", "MAJOR", "INVALID")  # by their numbers
_STATUSES = (
    "NO_ALARM", "READ", "WRITE", "HIHI", "HIGH", "LOLO", "LOW", "STATE", "COS", "COMM", "TIMEOUT",
    "HWLIMIT", "CALC", "SCAN", "LINK", "SOFT", "BAD_SUB", "UDF", "DISABLE", "SIMM",
    "READ_ACCESS", "WRITE_ACCESS",
)  # fmt: skip


def alarm_of(status: int, severity: int) -> Alarm:
    """The names for two numbers; a number without a name becomes text."""
    return Alarm(
        _STATUSES[status] if 0 <= status < len(_STATUSES) else str(status),
        SEVERITIES[severity] if 0 <= severity < len(SEVERITIES) else str(severity),
    )


def local_datetime(timestamp: float) -> datetime:
    """The naive local time of a timestamp, as in aioca 2.x."""
    return datetime.fromtimestamp(timestamp)


def utc_datetime(timestamp: float) -> datetime:
    """The aware UTC time of a timestamp."""
    return datetime.fromtimestamp(timestamp, timezone.utc)


class Shape:
    """The data that the readers of all PVs share if the PVs are requested in the same way.

    Attributes:
        datatype: the DBR type without its format.
        dbr: the DBR type to request from the server.
        c_dbr: the same number as a C long, for libca.
        fields: the decoders of the attributes that come with each value, by name.
        decode: turns the bytes of one DBR into an augmented value.
        kind, unpack: for a single number without a conversion, the two steps of `decode`: the class
            of the value, and the function that takes the number from the bytes (struct.error if
            there are too few bytes). Otherwise None.
        cells: with them, the numpy dtype of a DBR of one element, with the field ``value``.
    """

    __slots__ = ("c_dbr", "cells", "datatype", "dbr", "decode", "fields", "kind", "unpack")

    datatype: int
    dbr: int
    c_dbr: Any
    fields: dict[str, Callable[[Raw], Any]]
    decode: Callable[[Reader, Raw], Any]
    kind: Any
    unpack: Callable[[Any], tuple[Any, ...]] | None
    cells: Any


class Reader:
    """Decodes the replies to one kind of request on one channel; each value keeps its reader.

    There may be many thousand PVs with a reader each. So everything that readers can share is in
    `Shape`.
    """

    __slots__ = ("element_count", "name", "shape")

    def __init__(self, name: str, element_count: int, shape: Shape) -> None:
        self.name: str = name
        self.element_count: int = element_count
        self.shape: Shape = shape

    def __repr__(self) -> str:
        return f"<Reader {self.name!r} DBR type {self.shape.dbr}>"

    def decode(self, raw: Raw) -> Any:
        """Decode the bytes of one DBR into an augmented value; raises if that is impossible."""
        return self.shape.decode(self, raw)

    def constants(self) -> dict[str, Any]:
        """The attributes that are the same for all values of this reader."""
        return {name: get(self) for name, get in _CONSTANTS.items()}


_CONSTANTS: dict[str, Callable[[Reader], Any]] = {
    "name": lambda reader: reader.name,
    "ok": lambda reader: True,  # noqa: ARG005
    "datatype": lambda reader: reader.shape.datatype,
    "element_count": lambda reader: reader.element_count,
}


class _Augmented:
    __slots__ = ()

    if TYPE_CHECKING:
        _reader: Reader | None
        _raw: Raw
    else:  # type checkers allow only the attributes of AugmentedValue
        # Decode an attribute when it is first read, and store it. Derived values (slices, results
        # of arithmetic) have no reader and therefore no attributes.
        def __getattr__(self, attribute: str) -> Any:
            if attribute == "_reader":
                return None
            reader = self._reader
            if reader is not None:
                if attribute in _CONSTANTS:
                    found = _CONSTANTS[attribute](reader)
                elif attribute in reader.shape.fields:
                    found = reader.shape.fields[attribute](self._raw)
                else:
                    raise AttributeError(_why_missing(self, attribute))
                self.__dict__[attribute] = found
                return found
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {attribute!r}")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_attributes(self)})

    @property
    def __class__(self) -> type:
        kind = type(self)
        dbr = sys.modules.get("epicscorelibs.ca.dbr")
        return kind if dbr is None else getattr(dbr, kind.__name__, kind)

    @__class__.setter
    def __class__(self, kind: type) -> None:  # unittest.mock and others expect a setter
        raise TypeError("the class of an augmented value cannot be changed")

    def _repr_html_(self) -> str | None:
        """Return what a notebook shows; None, for its repr, if this is not the value of a PV."""
        if not hasattr(self, "name"):
            return None
        from .._display import html, rows  # takes milliseconds that only notebooks need

        return html.card(rows.row_of(self))

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return _rebuild, (type(self).__name__, +self, _attributes(self))  # type: ignore[operator]


def _why_missing(value: _Augmented, attribute: str) -> str:
    hint = ""
    if attribute in ("timestamp", "timestamp_ns", "raw_stamp", "datetime", "datetime_utc"):
        hint = "; ask for it with format=FORMAT_TIME"
    elif attribute in ("status", "severity", "alarm"):
        hint = "; ask for it with format=FORMAT_TIME or FORMAT_CTRL"
    elif attribute in ("units", "precision", "enums", "label") or attribute.endswith("_limit"):
        hint = "; FORMAT_CTRL brings it for the types that have it"
    return f"{type(value).__name__!r} object has no attribute {attribute!r}{hint}"


def _attributes(value: _Augmented) -> dict[str, Any]:
    """Decode and return all attributes of a value."""
    own = {k: v for k, v in value.__dict__.items() if k not in ("_reader", "_raw")}
    reader = value._reader
    if reader is None:
        return own
    fields = reader.shape.fields.items()
    decoded = {name: decode(value._raw) for name, decode in fields if name not in own}
    return {**reader.constants(), **decoded, **own}


def _rebuild(kind: str, plain: Any, attributes: dict[str, Any]) -> Any:
    """Make a value from a pickle, which names this function ``aioca.types._rebuild``."""
    value = plain.view(ca_array) if kind == "ca_array" else _KINDS[kind](plain)
    value.__dict__.update(attributes)
    return value


class ca_int(_Augmented, int, AugmentedValue):
    """An int that also has the attributes of :class:`aioca.types.AugmentedValue`."""


class ca_float(_Augmented, float, AugmentedValue):
    """A float that also has the attributes of :class:`aioca.types.AugmentedValue`."""

    # Slots are faster to set than entries of the dict. Subclasses of int or bytes cannot have any.
    __slots__ = ("__dict__", "__weakref__", "_raw", "_reader")


class ca_str(_Augmented, str, AugmentedValue):
    """A str that also has the attributes of :class:`aioca.types.AugmentedValue`."""

    __slots__ = ("__dict__", "__weakref__", "_raw", "_reader")

    def __pos__(self) -> str:
        return str(self)


class ca_bytes(_Augmented, bytes, AugmentedValue):
    """A bytes that also has the attributes of :class:`aioca.types.AugmentedValue`."""

    def __pos__(self) -> bytes:
        return bytes(self)


class ca_array(_Augmented, _NDArray, AugmentedValue):  # type: ignore[misc]  # has no hash
    """A numpy array that also has the attributes of :class:`aioca.types.AugmentedValue`.

    A copy keeps all the attributes. Slices and views have none, as they are not the value of the
    PV. The results of arithmetic are plain arrays.
    """

    def __pos__(self) -> _NDArray:  # type: ignore[override]  # the result is a plain array
        return np.array(self)

    def __array_wrap__(
        self, array: _NDArray, context: Any = None, return_scalar: bool = False
    ) -> Any:
        # A result of arithmetic is not the PV's value: name and timestamp would be wrong.
        plain = cast(Any, array).view(np.ndarray)
        return plain[()] if return_scalar or array.ndim == 0 else plain

    def copy(self, order: Any = "C") -> ca_array:
        duplicate: ca_array = cast(Any, super()).copy(order)
        duplicate.__dict__.update(self.__dict__)
        return duplicate

    def __copy__(self) -> ca_array:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> ca_array:
        return self.copy()


_KINDS: dict[str, type] = {
    kind.__name__: kind for kind in (ca_int, ca_float, ca_str, ca_bytes, ca_array)
}
