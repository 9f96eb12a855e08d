"""Numbers in the environment and on the command line, read by the rules of C."""

from __future__ import annotations

import math
import os
import re
import sys

from .._ca import array_limit
from .wire.protocol import DEFAULT_REPEATER_PORT, DEFAULT_SERVER_PORT

c_integer = array_limit.c_integer


# Python's float() differs from strtod: it also reads 1_000 and the digits and blanks of all
# scripts, and it reads no hexadecimal numbers and no nan(...).
_C_BLANKS = " \t\n\v\f\r"
_REAL = re.compile(
    rf"[{_C_BLANKS}]*([+-]?(?:"
    r"0x(?P<hex>[0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)(?:p[+-]?[0-9]+)?"
    r"|(?P<decimal>[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?"
    r"|inf(?:inity)?|nan))(?:(?<=nan)\([0-9a-z_]*\))?",
    re.ASCII | re.IGNORECASE,
)


def strtod(text: str) -> float | None:
    """Return the number at the start of a text like C's strtod; None if there is none.

    A number out of the range of a double becomes infinite or 0.
    """
    found = _REAL.match(text)
    return _value(found) if found is not None else None


def c_real(text: str) -> float | None:
    """Read a number like libCom's epicsParseDouble, which reads settings and options in base.

    Returns:
        float | None: None if anything follows the number, or if a double cannot hold it.
    """
    found = _REAL.match(text)
    if found is None or text[found.end() :].strip(_C_BLANKS):
        return None
    number = _value(found)
    digits = found["hex"] or found["decimal"]
    if digits is None or (abs(number) >= sys.float_info.min and math.isfinite(number)):
        return number
    # 0, or too large, or too small to have all digits of a double: strtod takes the first only
    return number if not number and not digits.strip("0.") else None


def _value(found: re.Match[str]) -> float:
    try:
        return float.fromhex(found[1]) if found["hex"] else float(found[1])
    except OverflowError:  # from fromhex; float() returns infinity
        return -math.inf if found[1][0] == "-" else math.inf


def usable_port(text: str | None) -> int | None:
    """Return the port in a setting; None if libca ignores it."""
    number = c_integer(text) if text else None
    return number if number is not None and 5000 < number < 65536 else None


def repeater_port() -> int:
    """Return the port of the CA repeater: EPICS_CA_REPEATER_PORT, or 5065."""
    return usable_port(os.environ.get("EPICS_CA_REPEATER_PORT")) or DEFAULT_REPEATER_PORT


def server_port() -> int:
    """Return the default port of servers: EPICS_CA_SERVER_PORT, or 5064."""
    return usable_port(os.environ.get("EPICS_CA_SERVER_PORT")) or DEFAULT_SERVER_PORT
