"""Lists of values as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .._display import html
from .._display.rows import Row, row_of
from .._errors import CANothing
from .._printable import printable
from ..types import AugmentedValue


class Table:
    """A table of values: HTML in a notebook, and text at a prompt. `table` makes one."""

    def __init__(self, rows: Sequence[Row], note: str = "", max_rows: int = html.MAX_ROWS) -> None:
        self._rows = rows
        self._note = note
        self._max_rows = max_rows

    def _repr_html_(self) -> str:
        return html.table(self._rows, self._note, self._max_rows)

    def __repr__(self) -> str:
        shown = self._rows[: self._max_rows]
        lines = [
            [printable(text) for text in (r.name, f"{r.value} {r.units}".strip(), r.alarm, r.time)]
            for r in shown
        ]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        texts = [
            "  ".join(map(str.ljust, line, widths)).rstrip() for line in lines
        ]  # an empty column is two more spaces
        if len(shown) < len(self._rows):
            texts.append(f"... {len(self._rows) - len(shown):,} more PVs")
        return "\n".join([*texts, *([self._note] if self._note else [])])


def table(values: Iterable[AugmentedValue | CANothing], *, max_rows: int = html.MAX_ROWS) -> Table:
    """Return a table of values, with a row for each.

    It has columns for what the values have: value and units, alarm, and time (local time). Units,
    precision and labels of enums come with FORMAT_CTRL, the time with FORMAT_TIME, and the alarm
    with both. The text of PVs is escaped.

    Args:
        values: values that `aioca.caget` has returned or a monitor has delivered. A `CANothing`
            shows why there is no value.
        max_rows: the most rows to show. Of a longer list the first and the last are shown, and the
            number of the others, of their alarms, and of those without a value.

    Raises:
        TypeError: an element is not a value of a PV.
        ValueError: ``max_rows`` is less than 1.
    """
    if max_rows < 1:
        raise ValueError(f"max_rows must be 1 or more, not {max_rows!r}")
    shown = list(values)
    for index, value in enumerate(shown):
        if not is_shown(value):
            raise TypeError(
                f"values[{index}] is no value of a PV, but of type {type(value).__name__}; a slice"
                " or a result of arithmetic is none either"
            )
    return Table([row_of(value) for value in shown], max_rows=max_rows)


def is_shown(value: Any) -> bool:
    """Whether this is what a table can show: a value of a PV, or a `CANothing`."""
    return isinstance(value, (AugmentedValue, CANothing)) and hasattr(value, "name")
