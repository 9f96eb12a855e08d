"""Units, precision, limits and labels for camonitor: what is known, and what has been printed.

They come by a subscription of their own. When they have changed, the last JSON object of the PV is
printed once more, with them: the last object of a PV always has the properties that the PV has. The
subscription of the values may tell of the same event (``-m p``), with nothing new to be printed.
"""

from __future__ import annotations

from typing import Any


class Properties:
    """Of each PV, by its number."""

    def __init__(self) -> None:
        self._known: dict[int, dict[str, Any]] = {}
        self._rows: dict[int, dict[str, Any]] = {}  # as they were printed last
        self._corrected: set[int] = set()  # those that were so by `corrected`

    def learn(self, index: int, properties: dict[str, Any]) -> bool:
        """They are these now; whether they were others before, or not known."""
        changed = self._known.get(index) != properties
        self._known[index] = properties
        return changed

    def complete(self, index: int, row: dict[str, Any]) -> dict[str, Any] | None:
        """The object for a value, with what is known; None if it has just been printed so."""
        row = {**row, **self._known.get(index, {})}
        told = index in self._corrected and self._rows[index] == row
        self._corrected.discard(index)
        self._rows[index] = row
        return None if told else row

    def corrected(self, index: int) -> dict[str, Any] | None:
        """The object to be printed once more; None if there was none, or it had them all."""
        before = self._rows.get(index)
        row = None if before is None else self.complete(index, before)
        if row is None or row == before:
            return None
        self._corrected.add(index)
        return row

    def lost(self, index: int) -> None:
        """The PV is not connected: its last object says so."""
        self._rows.pop(index, None)
        self._corrected.discard(index)
