"""How EPICS base reads a text that is written to a number."""

from __future__ import annotations

import math
import re

import numpy as np

from .dbr import DBR_CHAR, DBR_DOUBLE, DBR_ENUM, DBR_FLOAT, DBR_STRING

# strtod(), which takes the longest beginning that is a number
_DOUBLE = re.compile(
    r"\s*([+-]?(?:(0x[0-9a-f]+(?:\.[0-9a-f]*)?(?:p[+-]?\d+)?)|inf(?:inity)?|nan"
    r"|(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?))",
    re.ASCII | re.IGNORECASE,
)
_INTEGER = re.compile(r"\s*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)", re.ASCII)


def number_in(text: str, dbr: int) -> re.Match[str] | None:
    """Find the number with which a text begins; None if a PV of this type refuses the text."""
    return (_DOUBLE if dbr in (DBR_DOUBLE, DBR_FLOAT) else _INTEGER).match(text)


def as_servers_read(text: str, native_type: int, is_scalar: bool) -> float | None:
    """Parse a text as EPICS base does for a PV of this type; None if base refuses the text."""
    if native_type == DBR_STRING:
        return None
    if not text and is_scalar and native_type != DBR_ENUM:
        return 0
    found = number_in(text, native_type)
    if found is None:
        return None
    if native_type in (DBR_DOUBLE, DBR_FLOAT):
        number = float.fromhex(found[1]) if found[2] else float(found[1])
        if math.isinf(number) and "inf" not in found[1].lower():
            return None
        return number if native_type == DBR_DOUBLE else float(np.float32(number))
    digits = found[2]
    base = 16 if digits[:2] in ("0x", "0X") else 8 if digits[0] == "0" else 10
    whole = int(found[1] + digits, base)
    return whole & 0xFF if native_type == DBR_CHAR else whole
