"""What the arguments that all functions share mean, and what is wrong with them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from ._dbr import FORMAT_CTRL, FORMAT_RAW, FORMAT_TIME
from ._names import check_is_str
from ._portal import Portal
from .types import Timeout

# Any iterable of str will do when the program runs; a str is one, too, hence not its type here.
PVs = list[str] | tuple[str, ...]


def names_of(pv: str | Iterable[str]) -> list[str]:
    """One name or many as a list; TypeError if anything is no str."""
    if isinstance(pv, str):
        return [pv]
    if not isinstance(pv, Iterable):
        raise TypeError(f"a PV must be a str or a list of them, not {pv!r}")
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
            f"timeout must be seconds, None or a tuple (deadline,), not {timeout!r}"
        ) from None
    if math.isnan(seconds):
        raise ValueError("timeout cannot be NaN")
    if seconds <= 0 and not isinstance(timeout, tuple):
        return -math.inf
    return portal.now() + seconds
