"""CSV: one line for each row, and one head line.

Each `flush` passes whole lines to the operating system. They are in the file then, even if
the process is killed. After a failed write the file is cut off behind the last whole line.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .rows import COLUMNS, EVENTS, FLOATS, NONE, TYPES, Rows, encoded

_TYPES = (*TYPES, None)  # the last one has the place `NONE`


class CsvFile:
    """A CSV file that must not exist yet; ``names`` are the PVs of its rows."""

    full = False

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._file = path.open("xb", buffering=0)
        self._names = names
        self.size = 0
        self.written = 0
        self._waiting: list[bytes] = []
        self._waiting_rows = 0
        try:
            self._waiting.append(encoded(_lines([[column] for column in COLUMNS])))
            self.flush()
        except BaseException:
            self._file.close()
            path.unlink()  # it would be in the way of a second try
            raise

    def add(self, rows: Rows) -> None:
        """Format rows."""
        is_value = rows.event == 0
        columns: tuple[list[Any], ...] = (
            rows.timestamp_ns.tolist(),
            [self._names[place] for place in rows.pv.tolist()],
            [EVENTS[number] for number in rows.event.tolist()],
            _cells(rows.severity, is_value),
            _cells(rows.status, is_value),
            [_TYPES[number] for number in rows.type.tolist()],
            _cells(rows.count, rows.count != NONE),
            _values(rows),
        )
        self._waiting.append(encoded(_lines(columns)))
        self._waiting_rows += len(rows)

    def flush(self) -> None:
        """Write the lines that wait."""
        left = data = memoryview(b"".join(self._waiting))
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            self._file.truncate(self.size)
            raise
        self.size += len(data)
        self.written += self._waiting_rows
        self._waiting = []
        self._waiting_rows = 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _lines(columns: Sequence[Sequence[Any]]) -> str:
    """Return columns as lines."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(zip(*columns, strict=True))
    if "\r" not in text.getvalue():
        return text.getvalue()
    # Before Python 3.13, a writer quotes only those newline characters that end its own lines. So
    # these lines end in both, and the ends are replaced line by line: a cell may have both, too.
    lines: list[str] = []
    for row in zip(*columns, strict=True):
        line = io.StringIO()
        csv.writer(line, lineterminator="\r\n").writerow(row)
        lines.append(line.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)


def _cells(column: Any, present: Any) -> list[Any]:
    """Return the cells of a column; None, which CSV writes as nothing, for those not present."""
    cells: list[Any] = column.tolist()
    for place in np.flatnonzero(~present).tolist():
        cells[place] = None
    return cells


def _values(rows: Rows) -> list[Any]:
    cells = _cells(rows.number, rows.has_number)
    is_integer = rows.has_number & ~np.isin(rows.type, FLOATS)
    for place in np.flatnonzero(is_integer).tolist():
        cells[place] = int(cells[place])
    for place, text in rows.texts.items():
        cells[place] = text
    for place, array in rows.arrays.items():
        cells[place] = json.dumps(array.tolist())
    return cells
