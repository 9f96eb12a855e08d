"""Numbers in the environment and on the command line, read with the rules of C."""

from __future__ import annotations

import os

from .._ca import array_limit
from .wire.protocol import DEFAULT_REPEATER_PORT, DEFAULT_SERVER_PORT

c_integer = array_limit.c_integer


def c_real(text: str) -> float | None:
    """As strtod reads it, with nothing behind it."""
    try:
        return float(text.replace("_", "?"))  # which is a digit's neighbour in Python only
    except ValueError:
        return None


def usable_port(text: str | None) -> int | None:
    """The port in a setting, if libca takes it."""
    number = c_integer(text) if text else None
    return number if number is not None and 5000 < number < 65536 else None


def repeater_port() -> int:
    """The port of the CA repeater."""
    return usable_port(os.environ.get("EPICS_CA_REPEATER_PORT")) or DEFAULT_REPEATER_PORT


def server_port() -> int:
    """The usual port of servers."""
    return usable_port(os.environ.get("EPICS_CA_SERVER_PORT")) or DEFAULT_SERVER_PORT
