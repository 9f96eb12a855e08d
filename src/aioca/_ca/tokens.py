"""Who is meant by what C hands back: the table of tokens.

C is given integer tokens, never the address of a Python object. A token whose owner has left the
table is a lookup that misses, so nothing that C still holds can dangle.
"""

from __future__ import annotations

import itertools
from typing import Any, Protocol

# Bytes of one DBR, or, when there is none, the ECA status that says why. A large array comes as a
# bytearray, so that numpy can use it without another copy.
Raw = bytes | bytearray | int


class Requester(Protocol):
    """Who has asked for replies."""

    def arrive(self, index: int, raw: Raw) -> None:
        """On a thread of libca: the DBR bytes, or the ECA status of a failure."""


class ChannelOwner(Protocol):
    """Whose a channel is. Called on a thread of libca."""

    def connection_changed(self, up: bool, native_type: int, native_count: int) -> None:
        """The channel went up or down."""

    def exception(self, status: int, op: int, context: str) -> None:
        """Libca, or a server through it, reports a failure that has no callback of its own."""


# A token: who; which of the many requests that one owner may have out (a list of PVs); and the DBR
# type that was asked for, so that a reply of any other is known by it.
DBR_BITS = 6
_INDEX_BITS = 20
INDEX_ONE = 1 << DBR_BITS
DBR_MASK = (1 << DBR_BITS) - 1
MAX_INDEX = INDEX_MASK = (1 << _INDEX_BITS) - 1
KEY_SHIFT = DBR_BITS + _INDEX_BITS
_KEY_MASK = (1 << (64 - KEY_SHIFT)) - 1

# By the key in the token: each a Requester or a ChannelOwner, whichever C was given the token for
owners: dict[int, Any] = {}
owner_of = owners.get  # of a key; a bound method, as it is called for every reply
_keys = itertools.count(1)


def register(owner: Requester | ChannelOwner) -> int:
    """Enter an owner; ``token + index * INDEX_ONE + dbr`` is what C may be given."""
    key = next(_keys) & _KEY_MASK
    while key == 0 or key in owners:
        key = next(_keys) & _KEY_MASK
    owners[key] = owner
    return key << KEY_SHIFT


def unregister(token: int) -> None:
    """Make the token miss from now on. Idempotent; safe on any thread."""
    owners.pop(token >> KEY_SHIFT, None)


def token_count() -> int:
    """How many owners are in the table (for leak checks)."""
    return len(owners)


def after_fork() -> None:
    """In a forked child: no token of the parent's will be heard of again."""
    owners.clear()
