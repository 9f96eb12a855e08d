"""CSV: one line for each row, and one head line.

Each `flush` passes whole lines to the operating system. They are in the file then, even if
the process is killed. After a failed write the file is cut off behind the last whole line.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from .rows import COLUMNS, Rows, encoded


class CsvFile:
    """A CSV file that must not exist yet."""

    full = False

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb", buffering=0)
        self.size = 0
        self.written = 0
        self._waiting: list[bytes] = []
        self._waiting_rows = 0
        try:
            self._format([COLUMNS])
            self.flush()
        except BaseException:
            self._file.close()
            raise

    def add(self, rows: Rows) -> None:
        """Format rows."""
        values: list[Any] = rows.number
        if rows.has_arrays or any(text is not None for text in rows.text):
            values = [_value(*row) for row in zip(rows.number, rows.text, rows.array, strict=True)]
        columns = (
            rows.timestamp_ns, rows.pv, rows.event, rows.severity, rows.status, rows.type,
            rows.count, values,
        )  # fmt: skip
        self._format(zip(*columns, strict=True))
        self._waiting_rows += len(rows)

    def _format(self, lines: Any) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(lines)
        self._waiting.append(encoded(text.getvalue()))

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


def _value(number: float | None, text: str | None, array: Any) -> object:
    if array is not None:
        return json.dumps(array.tolist())
    return number if text is None else text
