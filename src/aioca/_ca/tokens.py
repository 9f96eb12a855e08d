"""The table of tokens: the integers that libca passes back, and the Python objects that own them.

libca is given integer tokens, never the address of a Python object. When an owner has left the
table, the look-up of its token finds nothing. So no token that libca still holds is a dangling
pointer.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .._channels.connection import Connection

# The bytes of one DBR, or the ECA status of a failure. A large array is a bytearray, so that numpy
# can use it without another copy.
Raw = bytes | bytearray | int


class Requester(Protocol):
    """The owner of requests, to which the replies go."""

    def arrive(self, index: int, raw: Raw) -> None:
        """Take a reply: the DBR bytes, or the ECA status of a failure. On a libca thread."""


# A token has three parts: the key of the owner; the index of the request, as one owner may have
# many (a list of PVs); and the DBR type that was requested, to detect a reply of another type.
DBR_BITS = 6
_INDEX_BITS = 20
INDEX_ONE = 1 << DBR_BITS
DBR_MASK = (1 << DBR_BITS) - 1
MAX_INDEX = INDEX_MASK = (1 << _INDEX_BITS) - 1
KEY_SHIFT = DBR_BITS + _INDEX_BITS
_KEY_MASK = (1 << (64 - KEY_SHIFT)) - 1

# The owners by key. Each is a Requester or a channel, depending on what the token is for.
owners: dict[int, Any] = {}
owner_of = owners.get  # a bound method, as it is called for every reply
_keys = itertools.count(1)


def register(owner: Requester | Connection) -> int:
    """Add an owner to the table and return its token. Any thread.

    The value to give to libca is ``token + index * INDEX_ONE + dbr``.
    """
    return enter(owner) << KEY_SHIFT


def enter(owner: Requester | Connection) -> int:
    """Add an owner to the table and return its key: the token without its other parts.

    Any thread. An owner that keeps the key needs no memory for another number.
    """
    key = 0
    while key == 0 or owners.setdefault(key, owner) is not owner:  # atomic: two threads may come
        key = next(_keys) & _KEY_MASK
    return key


def unregister(token: int) -> None:
    """Remove the owner of a token from the table. Idempotent; any thread."""
    leave(token >> KEY_SHIFT)


def leave(key: int) -> None:
    """Remove an owner from the table, by the key that `enter` has returned. Idempotent."""
    owners.pop(key, None)


def token_count() -> int:
    """The number of owners in the table (for leak checks)."""
    return len(owners)


def after_fork() -> None:
    """Empty the table; in a forked child, where libca will not use the parent's tokens."""
    owners.clear()
