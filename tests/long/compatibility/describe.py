"""What a call of the API has come to, as plain facts that two processes can compare."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
from epicscorelibs.ca import cadef, dbr

import aioca

# What a program can ask a value, an error or an info for; not all of them have all
FIELDS = [
    *aioca.ca_extra_fields, "errorcode", "ackt", "acks", "state", "host", "read", "write", "count",
    "connected", "subscriber_count", "dropped_callbacks", "all_updates",
]  # fmt: skip
METHODS = (aioca.CAInfo, aioca.Subscription)  # whose `count` or so would be a method elsewhere
CLAUSES = {
    "CANothing": aioca.CANothing, "CAException": cadef.CAException,
    "Disconnected": cadef.Disconnected, "asyncio.TimeoutError": asyncio.TimeoutError,
    "TimeoutError": TimeoutError, "ValueError": ValueError, "TypeError": TypeError,
    "AssertionError": AssertionError, "RuntimeError": RuntimeError, "KeyError": KeyError,
    "AttributeError": AttributeError, "OverflowError": OverflowError,
    "UnicodeError": UnicodeError, "OSError": OSError, "IndexError": IndexError,
}  # fmt: skip
KINDS = (dbr.ca_int, dbr.ca_float, dbr.ca_str, dbr.ca_bytes, dbr.ca_array)

# What it is, by names such as "type" and ".severity", and of a collection its "items"
Facts = dict[str, Any]


def describe(value: Any) -> Facts:
    """A value that was returned or delivered: its type, what it is, and its attributes."""
    facts: Facts = {"type": type(value).__name__}
    if isinstance(value, BaseException):
        facts.update(_error(value))
    elif isinstance(value, KINDS):
        facts["augmented"] = ", ".join(k.__name__ for k in KINDS if isinstance(value, k))
        facts["plain"] = _plain(+value)
        facts["str"] = _without_addresses(str(value))
    elif isinstance(value, Mapping):
        facts["items"] = {key: describe(item) for key, item in value.items()}
    elif isinstance(value, (list, tuple)):
        facts["items"] = {str(index): describe(item) for index, item in enumerate(value)}
    elif not isinstance(value, (*METHODS, aioca.ChannelInfo)):
        facts["plain"] = _plain(value)
    if isinstance(value, (*KINDS, *METHODS, aioca.ChannelInfo, BaseException)):
        for field in FIELDS:
            if field == "count" and not isinstance(value, METHODS):
                continue
            try:
                facts[f".{field}"] = _plain(getattr(value, field))
            except AttributeError:
                pass
    return facts


def raised(error: BaseException) -> Facts:
    return {"raised": "yes", **describe(error)}


def _error(error: BaseException) -> Facts:
    caught = [name for name, kind in CLAUSES.items() if isinstance(error, kind)]
    facts: Facts = {
        "caught by": ", ".join(caught), "bool": str(bool(error)), "str": str(error)
    }  # fmt: skip
    if isinstance(error, aioca.CANothing):
        facts["first line"] = re.split(r" \(|\n", str(error))[0]
        facts["exactly CANothing"] = str(type(error) is aioca.CANothing)
    return facts


def _plain(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return (
            f"{type(value).__name__} {value.dtype.str} {_without_addresses(repr(value.tolist()))}"
        )
    if isinstance(value, datetime):
        return f"datetime {value.isoformat()}"
    return f"{type(value).__name__} {_without_addresses(repr(value))}"


def _without_addresses(text: str) -> str:
    return re.sub(r"0x[0-9a-f]{6,}", "0x...", text)
