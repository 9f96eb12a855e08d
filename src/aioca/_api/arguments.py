"""What the arguments that all functions share mean, and what is wrong with them."""

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
    """A collection of names. A str is none: it can only be asked for a str that is in it."""

    def __contains__(self, value: object, /) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...


# To type checkers, the names of many PVs: any iterable of str, but no str, which is one PV.
# What is declared as no more than Iterable[str] could be a str. Overloads for that come last.
PVs = _Names | Iterator[str]

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    # What a list of values holds that were read with a Python type. It is a list made for the
    # caller: a variable declared as list[float] or list[AugmentedValue] can have it as well.
    Ints = TypeVar("Ints", ca_int, AugmentedValue, int, default=ca_int)
    Floats = TypeVar("Floats", ca_float, AugmentedValue, float, default=ca_float)
    Strs = TypeVar("Strs", ca_str, AugmentedValue, str, default=ca_str)
    Bytes = TypeVar("Bytes", ca_bytes, AugmentedValue, bytes, default=ca_bytes)


def names_of(pv: str | Iterable[str]) -> list[str]:
    """One name or many as a list; TypeError if anything is no str."""
    if isinstance(pv, str):
        return [pv]
    if not isinstance(pv, Iterable):
        raise TypeError(f"pv must be a str (one PV) or a list of str, not {pv!r}")
    names = list(pv)
    for name in names:
        check_is_str(name)
    return names


def check_format(format: object) -> None:
    if format not in (FORMAT_RAW, FORMAT_TIME, FORMAT_CTRL):
        raise ValueError(f"format must be FORMAT_RAW, FORMAT_TIME or FORMAT_CTRL, not {format!r}")


def check_count(count: object) -> None:
    if not isinstance(count, int) or count < -1:
        raise ValueError(f"count must be an int of -1 or more, not {count!r}")


def deadline_of(timeout: Timeout, portal: Portal) -> float:
    """A `Timeout` as a deadline on the loop's clock.

    ``-inf`` for 0 and less: at once, if no waiting is needed. A point in time that has passed is
    another thing: nothing is sent any more.
    """
    if timeout is None:
        return math.inf
    try:
        if isinstance(timeout, (str, bytes)):
            raise TypeError("float() would take it")
        if isinstance(timeout, tuple):
            (instant,) = timeout
            seconds = float(instant) - time.time()
        else:
            seconds = float(timeout)
    except (TypeError, ValueError):
        raise TypeError(
            f"timeout must be a number of seconds, None or a tuple (deadline,), not {timeout!r}"
        ) from None
    if math.isnan(seconds):
        raise ValueError("timeout cannot be NaN")
    if seconds <= 0 and not isinstance(timeout, tuple):
        return -math.inf
    return portal.now() + seconds
