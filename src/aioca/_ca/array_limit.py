"""How large an array libca takes, where ``EPICS_CA_AUTO_ARRAY_BYTES`` is off.

libca drops a larger reply or update, and calls nobody back. Writing has no limit.

What counts is the body of the message: the elements, with what the DBR type has before them (alarm,
time stamp, limits), filled up to a multiple of 8. The 24 bytes of the header are added to the
setting, as libca does. All of this was tried with EPICS 7.0.10.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .libca import DBR_TYPES, VALUE_OFFSET, VALUE_SIZE

AUTO = "EPICS_CA_AUTO_ARRAY_BYTES"
MOST = "EPICS_CA_MAX_ARRAY_BYTES"

SMALLEST = 16384  # bytes that libca takes in any case; also the setting, where there is none
_HEADER = 24


def c_integer(text: str) -> int | None:
    """A number as scanf("%ld") reads it: as far as it is one."""
    found = re.match(r"\s*([+-]?[0-9]+)", text)
    return int(found[1]) if found else None


def is_automatic(auto: str | None) -> bool:
    """Whether there is no limit, from ``EPICS_CA_AUTO_ARRAY_BYTES`` as libca reads it."""
    return not auto or auto.lower() == "yes"


def limit_of(settings: Mapping[str, str | None]) -> int | None:
    """The most bytes in the body of a message that libca takes; None if there is no limit."""
    if is_automatic(settings.get(AUTO)):
        return None
    most = settings.get(MOST)
    number = SMALLEST if most is None else c_integer(most)
    if number is None or number < 0:
        return SMALLEST
    return max(SMALLEST, number + _HEADER)


def body_size(dbr: int, count: int) -> int:
    """How many bytes so many elements are in a message."""
    if not 0 <= dbr < DBR_TYPES:
        return 0
    size: int = VALUE_OFFSET[dbr] + VALUE_SIZE[dbr] * count
    return (size + 7) // 8 * 8
