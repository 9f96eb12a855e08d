"""Parquet: a folder with numbered files (parts), each of which is complete.

A Parquet file can be read only when its footer, the last bytes, has been written. So rows wait in
memory, and `flush` writes a whole file under another name, and renames it.

While a part is small, the next `flush` writes it again with the newer rows added. A slow recording
thus does not become thousands of small files, and a fast one writes nothing twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from .rows import Rows

# pyarrow has no types of its own that are complete
arrow: Any = pyarrow
parquet: Any = pyarrow.parquet

# A part with this much is not written again
_FULL_ROWS, _FULL_BYTES = 100_000, 16 * 2**20
# Rows that wait are written before `flush` if they are this many: bounds the memory
_MAX_ROWS, _MAX_BYTES = 1_000_000, 64 * 2**20

_text = arrow.dictionary(arrow.int32(), arrow.string())
_SCHEMA = arrow.schema(
    {
        "timestamp_ns": arrow.int64(), "pv": _text, "event": _text, "severity": arrow.int8(),
        "status": arrow.int16(), "type": _text, "count": arrow.int32(), "value": arrow.float64(),
        "text": arrow.string(), "array": arrow.list_(arrow.float64()),
    }
)  # fmt: skip


class ParquetFolder:
    """A folder of Parquet files that must not exist yet."""

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self._path = path
        self._part = 1
        self._tables: list[Any] = []  # the rows of the part
        self._waiting = 0  # rows of them that are in no file yet
        self._closed_size = 0  # bytes of the parts before
        self.size = 0
        self.written = 0
        self.full = False

    def add(self, rows: Rows) -> None:
        """Add rows; they are in a file after `flush`."""
        columns: tuple[Any, ...] = (
            rows.timestamp_ns, rows.pv, rows.event, rows.severity, rows.status,
            rows.type, rows.count, rows.number, rows.text, rows.array,
        )  # fmt: skip
        arrays = [
            _column(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)
        ]
        self._tables.append(arrow.table(arrays, schema=_SCHEMA))
        self._waiting += len(rows)
        size = sum(table.nbytes for table in self._tables)
        self.full = self._waiting >= _MAX_ROWS or size >= _MAX_BYTES

    def flush(self) -> None:
        """Write the part, and begin the next one if it is full."""
        if not self._waiting:
            return
        name = f"part-{self._part:06}.parquet"
        # Readers of folders leave out names that begin with a dot
        unfinished = self._path / f".{name}"
        table = arrow.concat_tables(self._tables).unify_dictionaries()
        try:
            parquet.write_table(table, unfinished, compression="zstd")
            size = unfinished.stat().st_size
            unfinished.replace(self._path / name)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
        self.written += self._waiting
        self._waiting = 0
        self.full = False
        self.size = self._closed_size + size
        if len(table) >= _FULL_ROWS or table.nbytes >= _FULL_BYTES:
            self._part += 1
            self._closed_size = self.size
            self._tables = []
        else:
            self._tables = [table]

    def close(self) -> None:
        """Do nothing: each part is closed when it is written."""


def _column(cells: Sequence[Any], kind: Any) -> Any:
    """Return an array of Arrow of this type."""
    if kind == _text:
        present = [text for text in dict.fromkeys(cells) if text is not None]
        numbers = {text: number for number, text in enumerate(present)}
        # A byte of the command line that is not UTF-8 becomes a question mark
        texts = [text.encode("utf-8", "replace") for text in present]
        indices = arrow.array([numbers.get(cell) for cell in cells], arrow.int32())
        words = arrow.array(texts, arrow.binary()).cast(arrow.string())
        return arrow.DictionaryArray.from_arrays(indices, words)
    if all(cell is None for cell in cells):  # such as the texts of numbers
        return arrow.nulls(len(cells), kind)
    return arrow.array(cells, kind)
