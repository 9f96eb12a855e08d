"""JSON from a file that is not trusted: every error is a SnapshotError without a path."""

from __future__ import annotations

import json
import math
from typing import Any

from ._model import SnapshotError


def read_json(text: str, bare_nan: bool = False) -> Any:
    """Parse JSON from a file that is not trusted; SnapshotError with the reason.

    Args:
        text: the JSON.
        bare_nan: accept NaN and Infinity without quotes, which Python writes, but JSON lacks.
    """

    def constant(name: str) -> float:
        if bare_nan:
            return float(name)
        raise SnapshotError(f'JSON has no {name}; write it in quotes: "{name}"')

    try:
        return json.loads(
            text, object_pairs_hook=_pairs, parse_float=_number, parse_constant=constant
        )
    except SnapshotError:
        raise
    except json.JSONDecodeError as error:
        raise SnapshotError(f"it is not JSON: {error.msg}", None, error.lineno) from None
    except RecursionError:
        raise SnapshotError("its JSON is nested too deeply") from None
    except ValueError:  # Python refuses integers of thousands of digits
        raise SnapshotError("it has an integer of thousands of digits") from None


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise SnapshotError(f"{json.dumps(name)[:100]} occurs twice")
        found[name] = value
    return found


def _number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise SnapshotError(f"the number {text[:40]} is too large for a double")
    return number


def decoded(data: bytes) -> str:
    """Decode UTF-8; SnapshotError with the number of the line if it is none."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SnapshotError("the line is not UTF-8", None, line) from None


def octets(text: str, pv: str) -> int:
    """Return the number of bytes of a text; SnapshotError if a character has none."""
    try:
        return len(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:  # half of a surrogate pair
        raise SnapshotError(f"{pv}: {json.dumps(text)[:40]} is not UTF-8") from None
