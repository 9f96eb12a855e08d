"""Checks of the arguments that the public functions share.

A wrong argument raises TypeError or ValueError before anything is sent.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from .._channels.names import check_is_str
from .._portal.interface import Portal
from .._values.dbr import FORMAT_CTRL, FORMAT_RAW, FORMAT_TIME
from ..types import AugmentedValue, Timeout, ca_bytes, ca_float, ca_int, ca_str


class _Names(Protocol):
    """A collection of names. A str is not one: its ``__contains__`` takes a str only."""

    def __contains__(self, value: object, /) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...


# For type checkers: the names of many PVs, as any iterable of str but a str, which is one PV. An
# argument declared as Iterable[str] could be a str, so the overloads for that come last.
PVs = _Names | Iterator[str]

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    # The elements of the list that is returned for a Python type. The list is made for the caller,
    # so it can be assigned to a variable of type list[float] or list[AugmentedValue] as well.
    Ints = TypeVar("Ints", ca_int, AugmentedValue, int, default=ca_int)
    Floats = TypeVar("Floats", ca_float, AugmentedValue, float, default=ca_float)
    Strs = TypeVar("Strs", ca_str, AugmentedValue, str, default=ca_str)
    Bytes = TypeVar("Bytes", ca_bytes, AugmentedValue, bytes, default=ca_bytes)


def names_of(pv: str | Iterable[str]) -> list[str]:
    """Return one name, or many, as a list; TypeError if a name is not a str."""
    if isinstance(pv, str):
        return [pv]
    if not isinstance(pv, Iterable):
        raise TypeError(f"pv must be a str (one PV) or a list of str, not {pv!r}")
    names = list(pv)
    if set(map(type, names)) != {str}:
        for name in names:
            check_is_str(name)
    return names


def check_format_and_count(format: object, count: object) -> None:
    """Raise ValueError unless the arguments are a `Format` and a `Count`."""
    if format not in (FORMAT_RAW, FORMAT_TIME, FORMAT_CTRL):
        raise ValueError(f"format must be FORMAT_RAW, FORMAT_TIME or FORMAT_CTRL, not {format!r}")
    if not isinstance(count, int) or count < -1:
        raise ValueError(f"count must be an int of -1 or more, not {count!r}")


def deadline_of(timeout: Timeout, portal: Portal) -> float:
    """Convert a `Timeout` into a deadline on the loop's clock.

    The deadline of 0 or less is ``-inf``: requests are sent, but nothing is waited for. A tuple
    ``(t,)`` with ``t`` in the past differs: its deadline has passed, and nothing is sent.

    Raises:
        TypeError, ValueError: the argument is not a `Timeout`.
    """
    if timeout is None:
        return math.inf
    try:
        if isinstance(timeout, (str, bytes)):
            raise TypeError("float() would accept it")
        if isinstance(timeout, tuple):
            (instant,) = timeout
            seconds = float(instant) - time.time()
        else:
            seconds = float(timeout)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(
            f"timeout must be a number of seconds, None or a tuple (deadline,), not {timeout!r}"
        ) from None
    if math.isnan(seconds):
        raise ValueError("timeout cannot be NaN")
    if seconds <= 0 and not isinstance(timeout, tuple):
        return -math.inf
    return portal.now() + seconds
