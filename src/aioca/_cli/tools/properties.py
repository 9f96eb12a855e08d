"""Units, precision, limits and labels for camonitor: the known ones, and the printed ones.

They arrive through a subscription of their own. When they have changed, the last JSON object of the
PV is printed again with the new ones, so the last object of a PV always has its current properties.
The subscription of the values may report the same event (``-m p``); then nothing is printed again.
"""

from __future__ import annotations

from typing import Any


class Properties:
    """The properties of all PVs, by the index of the PV."""

    def __init__(self) -> None:
        self._known: dict[int, dict[str, Any]] = {}
        self._rows: dict[int, dict[str, Any]] = {}  # the objects printed last
        self._corrected: set[int] = set()  # PVs whose last object came from `corrected`

    def learn(self, index: int, properties: dict[str, Any]) -> bool:
        """Note the current properties; returns whether they differ from the known ones."""
        changed = self._known.get(index) != properties
        self._known[index] = properties
        return changed

    def complete(self, index: int, row: dict[str, Any]) -> dict[str, Any] | None:
        """Return the object of a value with the properties; None if it was just printed so."""
        row = {**row, **self._known.get(index, {})}
        told = index in self._corrected and self._rows[index] == row
        self._corrected.discard(index)
        self._rows[index] = row
        return None if told else row

    def corrected(self, index: int, state: Any) -> dict[str, Any] | None:
        """Return the last object with the new properties; None if it is missing or unchanged.

        ``state`` is the value that came with the properties: of an enum, the number of its state.
        """
        before = self._rows.get(index)
        if before is None:
            return None
        row = self.complete(index, _relabelled(before, self._known.get(index, {}), state))
        if row is None or row == before:
            return None
        self._corrected.add(index)
        return row

    def lost(self, index: int) -> None:
        """Forget the last object: the PV is disconnected."""
        self._rows.pop(index, None)
        self._corrected.discard(index)


def _relabelled(row: dict[str, Any], properties: dict[str, Any], state: Any) -> dict[str, Any]:
    """Return an object whose value, if it is the label of a state, is the present label."""
    before, now = row.get("enums", []), properties.get("enums", [])
    numbers = [number for number, label in enumerate(before) if label == row["value"]]
    if not numbers:
        return row
    number = state if state in numbers else numbers[0]  # two states may have the same label
    return {**row, "value": now[number] if number < len(now) else ""}
