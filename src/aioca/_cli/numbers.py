"""Numbers in the environment and on the command line, read by the rules of C."""

from __future__ import annotations

import os

from .._ca import array_limit
from .wire.protocol import DEFAULT_REPEATER_PORT, DEFAULT_SERVER_PORT

c_integer = array_limit.c_integer


def c_real(text: str) -> float | None:
    """Read a number like strtod; None if anything follows the number."""
    try:
        return float(text.replace("_", "?"))  # Python allows 1_000, C does not
    except ValueError:
        return None


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
