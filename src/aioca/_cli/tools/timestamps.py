"""The time stamps of camonitor: of the server or the client, absolute or relative."""

from __future__ import annotations

import time
from typing import Any

from .text import server_stamp, stamp_text

_INDENT = " " * 14  # so that a relative time ends where an absolute one does


class Stamps:
    """The text for the time of each update.

    The first update of a PV has absolute times. Relative times count from the first time stamp of
    all PVs ("r"; the client's times count from the creation of this object), from the last update
    ("i"), or from the last update of the same PV ("I").

    Args:
        keys: "s" (server), "c" (client) or both, and one of "r", "i", "I" or none.
    """

    def __init__(self, keys: str) -> None:
        self._relative = ([key for key in keys if key in "riI"] or [""])[-1]
        self._server = _Clock(self._relative) if "s" in keys else None
        self._client = _Clock(self._relative, time.time_ns()) if "c" in keys else None
        self._seen: set[int] = set()

    def text(self, index: int, reply: Any) -> str:
        """Return the text for an update of PV ``index``."""
        absolute = not self._relative or index not in self._seen
        self._seen.add(index)
        text = ""
        if self._server is not None:
            passed = self._server.passed(index, reply.timestamp_ns)
            text = server_stamp(reply) if absolute else _INDENT + _seconds(passed)
        if self._client is not None:
            now = time.time_ns()
            passed = self._client.passed(index, now)
            text += f"({stamp_text(now)})" if absolute else f"{_INDENT}({_seconds(passed)})"
        return text


class _Clock:
    """Returns the time since an earlier update, in seconds; `now` is in nanoseconds."""

    def __init__(self, relative: str, first: int | None = None) -> None:
        self._relative = relative
        self._first = first
        self._last: int | None = None
        self._last_of: dict[int, int] = {}

    def passed(self, index: int, now: int) -> float:
        if self._first is None:
            self._first = now
        since = {"r": self._first, "i": self._last, "I": self._last_of.get(index)}.get(
            self._relative
        )
        self._last = self._last_of[index] = now
        return 0.0 if since is None else _difference(now, since)


def _difference(now: int, since: int) -> float:
    # Subtract as integers, then scale once. With an unset time stamp (1990), the difference exceeds
    # the precision of a float, and the last digit printed depends on the order of operations.
    return float(now - since) * 1e-9


def _seconds(seconds: float) -> str:
    return f"{seconds:+12.6f}"
