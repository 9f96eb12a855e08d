"""Values as text for people: with precision, with labels, and abbreviated.

Text from servers is not escaped here; `html` and the callers in `_cli` do that.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

# A time stamp up to one day after the EPICS epoch (1990-01-01) is that of a record never processed.
NEVER_BEFORE = 631152000 + 86400

_MOST_CHARACTERS = 200  # of a text
_MOST_ELEMENTS = 8  # of an array; of a longer one, the first four and the last two
_MOST_OF_ELEMENT = 40  # characters of an element of an array


def number_text(value: float, precision: int | None) -> str:
    """Return a number with `precision` digits after the point; without a precision, as ``%g``.

    The number has an exponent if it would otherwise be a long row of digits, or only zeros (such as
    a pressure that is thousands of times smaller than the last digit). Rounding errors below 1e-14
    are shown as zero.
    """
    if precision is None or not 0 <= precision <= 17:
        return f"{value:g}"
    size = abs(value)
    if size >= 1e15 or 1e-14 < size < 10.0 ** -(precision + 3):
        return f"{value:.{precision}e}"
    return f"{value:.{precision}f}"


def all_digits(value: float, narrow: bool = False) -> str:
    """Return a number with all the digits that tell it from others; whole ones as integers.

    A whole number has an exponent beyond 2**64, which a 64-bit integer does not exceed.

    Args:
        value: the number.
        narrow: whether it came as a FLOAT: as a Python float, it would have digits that its four
            bytes do not have.
    """
    if value.is_integer() and abs(value) <= 2.0**64:
        return f"{value:.0f}"
    return str(np.float32(value)) if narrow else repr(value)


def value_text(value: Any, properties: Any = None) -> str:
    """Return a value as text; a long text or array is abbreviated.

    A float has the digits that its record's precision gives, and all its digits if the precision
    is not known or 0, the default of a record.

    Args:
        value: an augmented value.
        properties: another value of the same PV with FORMAT_CTRL, if ``value`` is none.
    """
    known = value if properties is None else properties
    if isinstance(value, np.ndarray):
        return _array_text(value, known)
    return abbreviated(_scalar_text(+value, known), _MOST_CHARACTERS)


def abbreviated(text: str, limit: int) -> str:
    """Return a text, or its first characters and its length if it is longer than ``limit``."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\N{HORIZONTAL ELLIPSIS} ({len(text):,} characters)"


def stamp_text(timestamp_ns: int) -> str:
    """Return a time stamp in local time, to the millisecond; ``never`` if it was never set."""
    seconds, nanoseconds = divmod(timestamp_ns, 10**9)
    if seconds <= NEVER_BEFORE:
        return "never"
    local = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    return f"{local}.{nanoseconds // 10**6:03}"


def _scalar_text(value: Any, known: Any) -> str:
    if isinstance(value, float):
        precision = getattr(known, "precision", None)
        return number_text(value, precision) if precision else repr(value)
    if isinstance(value, int):
        labels = getattr(known, "enums", ())
        label = labels[value] if 0 <= value < len(labels) else ""
        return f"{label} ({value})" if label else str(value)
    return value if isinstance(value, str) else repr(value)


def _array_text(array: Any, known: Any) -> str:
    count = len(array)
    plain = array.view(np.ndarray)
    shown = plain if count <= _MOST_ELEMENTS else np.concatenate([plain[:4], plain[-2:]])
    # A FLOAT as a Python float would have digits that its four bytes do not have
    narrow = plain.dtype == np.float32 and not getattr(known, "precision", None)
    elements = [
        str(element) if narrow else abbreviated(_scalar_text(element, known), _MOST_OF_ELEMENT)
        for element in (shown if narrow else shown.tolist())
    ]
    if count > _MOST_ELEMENTS:
        elements.insert(4, "\N{HORIZONTAL ELLIPSIS}")
    text = f"[{', '.join(elements)}]"
    return text if count <= _MOST_ELEMENTS else f"{text} {_summary(plain, known)}"


def _summary(array: Any, known: Any) -> str:
    """Return the number of elements, and of numbers their range."""
    text = f"{len(array):,} elements"
    if array.dtype.kind not in "iuf" or getattr(known, "enums", None):
        return text
    finite = array[np.isfinite(array)]
    if not len(finite):
        return text
    lowest, highest = (number_text(float(x), None) for x in (finite.min(), finite.max()))
    return f"{text} from {lowest} to {highest}"


def curve(array: Any, columns: int) -> list[tuple[float, float]]:
    """Return points of the curve of an array of numbers: both coordinates from 0 to 1.

    A long array becomes the smallest and the largest number of each column. An array without two
    finite numbers has no curve, nor has one that is constant.
    """
    if array.dtype.kind not in "iuf":
        return []
    numbers = np.asarray(array.view(np.ndarray), float)
    at = np.flatnonzero(np.isfinite(numbers))
    if len(at) < 2:
        return []
    low, high = float(numbers[at].min()), float(numbers[at].max())
    if not math.isfinite(high - low) or low == high:
        return []
    points: list[tuple[float, float]] = []
    for part in np.array_split(at, min(columns, len(at))):
        some = numbers[part]
        ends = sorted({int(some.argmin()), int(some.argmax())})
        points += [
            (part[end] / (len(numbers) - 1), (float(some[end]) - low) / (high - low))
            for end in ends
        ]
    return points
