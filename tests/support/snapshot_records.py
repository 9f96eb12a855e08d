"""300 records of all types that hold settings, with two sets of values for them."""

from __future__ import annotations

import math
from typing import Any

COPIES = 12
_STATES = 'field(ZRST, "Off") field(ONST, "Manual") field(TWST, "Automatic")'
_ARRAYS = {
    "STRING": (["ab", "cdé", ""], ["", "x"]),
    "CHAR": ([0, 127, 200], [1]),
    "UCHAR": ([*b"/data/run7", 0], [*b"/tmp", 0]),
    "SHORT": ([-32768, 0, 32767], [5]),
    "USHORT": ([0, 65535], [1, 2, 3]),
    "LONG": ([-(2**31), 2**31 - 1], []),
    "ULONG": ([2.0**32 - 1, 1.0], [7.0]),
    "INT64": ([-(2**63), 2**53 + 1, 5], [-(2**63) + 1, 2**53 + 1, 5]),
    "UINT64": ([2**64 - 1, 2**53 + 1], [2**64 - 1, 2**53 + 3]),
    "FLOAT": ([0.1, -math.inf, 1e-40, math.nan], [0.2]),
    "DOUBLE": ([0.1, math.nan, math.inf, -0.0, 5e-324, 1.7976931348623157e308], [1 / 3]),
    "ENUM": ([0, 65535], [1]),
}
# By the type of the record: the rest of it, the part of the name after the record's, two values
_SCALARS: dict[str, tuple[str, str, Any, Any]] = {
    "ai": ("", "", 0.1 + 0.2, 1.5),
    "ao": ("", "", -1.0 / 3, 2.5),
    "longin": ("", "", -(2**31), 2),
    "longout": ("", "", 2**31 - 1, 3),
    "int64out": ("", "", 2**53 + 1, 2**53 + 3),
    "bi": ('field(ZNAM, "Closed") field(ONAM, "Open")', "", 1, 0),
    "bo": ('field(ZNAM, "Off") field(ONAM, "On")', "", 1, 0),
    "mbbi": (_STATES, "", 2, 1),
    "mbbo": (_STATES, "", 1, 2),
    "stringin": ("", "", "zwei µ \x1b[31m", "b"),
    "stringout": ("", ".DESC", "a description", ""),
    "lso": ('field(SIZV, "200")', ".VAL$", "a long string: " + "x" * 150, "short"),
    "calcout": ("", ".A", math.nan, -math.inf),
}


def database(prefix: str) -> str:
    lines: list[str] = []
    for copy in range(COPIES):
        for kind, (fields, _, _, _) in _SCALARS.items():
            lines.append(f'record({kind}, "{prefix}{kind}{copy}") {{ {fields} }}')
        for kind in _ARRAYS:
            lines.append(
                f'record(waveform, "{prefix}wf:{kind}{copy}")'
                f' {{ field(FTVL, "{kind}") field(NELM, "50") }}'
            )
    return "\n".join(lines)


def settings(prefix: str) -> dict[str, tuple[Any, Any]]:
    """The names of the PVs, with two values for each."""
    found: dict[str, tuple[Any, Any]] = {}
    for copy in range(COPIES):
        for kind, (_, field, first, second) in _SCALARS.items():
            found[f"{prefix}{kind}{copy}{field}"] = first, second
        for kind, values in _ARRAYS.items():
            found[f"{prefix}wf:{kind}{copy}"] = values
    return found
