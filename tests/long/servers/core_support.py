"""The server of `core_checks` and `monitor_checks`, and what they expect of its records.

Two ports are chosen here, before aioca is first used.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from aioca import caget, wait_for_value
from aioca.testing import free_port, loopback_environment
from tests.long.servers.kinds import (
    FIXED,
    Server,
    does,
    make_server,
)

PORT, OWN_PORT = free_port(), free_port()
SETTINGS = loopback_environment([PORT, OWN_PORT])
os.environ.update(SETTINGS)  # in place of those that conftest has chosen

# -- The server ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def p() -> Iterator[str]:
    """The prefix of the records of the server that the checks share."""
    prefix = f"S{secrets.token_hex(3)}:"
    server = make_server(prefix, PORT)
    server.start()
    yield prefix
    server.kill()


@pytest.fixture
def own_server() -> Iterator[tuple[Server, str]]:
    """A server to be killed, and the prefix of its records."""
    prefix = f"S{secrets.token_hex(3)}:"
    server = make_server(prefix, OWN_PORT)
    server.start()
    yield server, prefix
    server.kill()


# -- Values ----------------------------------------------------------------------------------------

LONG_TEXT = "a string that is longer than forty characters"
TYPES = {  # name: (DBR type, native count)
    "double": (6, 1), "long": (5, 1), "string": (0, 1), "enum": (3, 1), "text": (4, 100),
    "doubles": (6, 10), "longs": (5, 10),
}  # fmt: skip
VALUES: dict[str, Any] = {
    "double": 1.5, "long": 42, "string": "hello", "enum": 1, "text": list(LONG_TEXT.encode()),
    "doubles": [1.5, -2.5, 3.0], "longs": [1, -2, 3],
}  # fmt: skip
if not does(FIXED):
    TYPES |= {name: (TYPES[name][0], len(VALUES[name])) for name in ("text", "doubles", "longs")}
KINDS: dict[str, Any] = {
    "double": float, "long": int, "string": str, "enum": int, "text": np.uint8,
    "doubles": np.float64, "longs": np.int32,
}  # fmt: skip
NO_TIME = (631152000, 0)  # 0 in EPICS, which counts from 1990
every_type = pytest.mark.parametrize("name", TYPES)


def check(name: str, value: Any, expected: Any) -> None:
    """It is this value, and of the type that the record has."""
    kind = KINDS[name.removeprefix("put:")]
    if issubclass(kind, np.generic):
        assert isinstance(value, np.ndarray)
        assert value.dtype == kind
        if name.endswith("text"):  # how much of it is told beyond its end is the server's choice
            assert bytes(value).rstrip(b"\0") == bytes(expected)
        else:
            np.testing.assert_array_equal(value, expected)
    else:
        assert isinstance(value, kind)
        assert value == expected


async def read(pv: str, *args: Any, **options: Any) -> Any:
    """`caget`, where the check knows what comes and mypy does not."""
    return await caget(pv, *args, **options)


async def until(pv: str, name: str, value: Any) -> None:
    """Wait until the PV has this value."""

    def matches(found: Any) -> bool:
        try:
            check(f"put:{name}", found, value)
        except AssertionError:
            return False
        return True

    await wait_for_value(pv, matches, timeout=5)
