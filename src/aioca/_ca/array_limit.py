"""The largest array that libca receives when ``EPICS_CA_AUTO_ARRAY_BYTES`` is off or unknown to it.

libca drops a larger reply or update without calling any callback. Writing has no limit.

The limit applies to the body of the message: the fields of the DBR type before the elements
(alarm, time stamp, limits) and the elements, padded to a multiple of 8 bytes. libca adds the 24
bytes of the header to the setting, and so does this module. All of this was tested with EPICS
7.0.10, and with EPICS 3.15.5, whose libca has the limit always.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .libca import DBR_TYPES, VALUE_OFFSET, VALUE_SIZE
from .library import optional

# The names of the two settings
AUTO_ARRAY_BYTES = "EPICS_CA_AUTO_ARRAY_BYTES"
MAX_ARRAY_BYTES = "EPICS_CA_MAX_ARRAY_BYTES"

# libca's minimum limit, and its default for EPICS_CA_MAX_ARRAY_BYTES
MIN_LIMIT_BYTES = 16384
# libCom has a variable for each setting. This one came with EPICS 3.16.
HAS_AUTO = (
    optional(
        AUTO_ARRAY_BYTES,
        f"arrays of more than {MAX_ARRAY_BYTES} ({MIN_LIMIT_BYTES} by default) cannot be read",
    )
    is not None
)
_HEADER_BYTES = 24  # the long form of a CA message header, which libca adds to the setting


def c_integer(text: str) -> int | None:
    """Parse the integer at the start of a text like scanf("%ld"); None if there is none."""
    found = re.match(r"[ \t\n\v\f\r]*([+-]?[0-9]+)", text)
    return int(found[1]) if found else None


def is_automatic(auto: str | None) -> bool:
    """Whether there is no limit, according to the text of ``EPICS_CA_AUTO_ARRAY_BYTES``."""
    return HAS_AUTO and (not auto or auto.lower() == "yes")


def limit_of(settings: Mapping[str, str | None]) -> int | None:
    """The maximum size in bytes of a message body that libca receives; None for no limit."""
    if is_automatic(settings.get(AUTO_ARRAY_BYTES)):
        return None
    most = settings.get(MAX_ARRAY_BYTES)
    number = MIN_LIMIT_BYTES if most is None else c_integer(most)
    if number is None or number < 0:
        return MIN_LIMIT_BYTES
    return max(MIN_LIMIT_BYTES, number + _HEADER_BYTES)


def how_to_raise(size: int) -> str:
    """Advise how to have libca receive a message body of this size in bytes."""
    return f"unset {AUTO_ARRAY_BYTES}" if HAS_AUTO else f"set {MAX_ARRAY_BYTES}={size} or more"


def body_size(dbr: int, count: int) -> int:
    """The size in bytes of the message body for ``count`` elements; 0 for an unknown DBR type."""
    if not 0 <= dbr < DBR_TYPES:
        return 0
    size: int = VALUE_OFFSET[dbr] + VALUE_SIZE[dbr] * count
    return (size + 7) // 8 * 8
