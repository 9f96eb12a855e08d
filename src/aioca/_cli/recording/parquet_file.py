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

import numpy as np
import pyarrow
import pyarrow.parquet

from .rows import EVENTS, NONE, TYPES, Rows

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

# A dictionary of time stamps or array elements would take time and save nothing: nearly all differ.
# The deltas of the time stamps take a third of the space.
_OPTIONS: dict[str, Any] = {
    "compression": "zstd",
    "use_dictionary": [name for name in _SCHEMA.names if name not in ("timestamp_ns", "array")],
    "column_encoding": {"timestamp_ns": "DELTA_BINARY_PACKED"},
}


class ParquetFolder:
    """A folder of Parquet files that must not exist yet; ``names`` are the PVs of its rows."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        path.mkdir()
        self._names = _words(names)
        self._path = path
        self._part = 1
        self._tables: list[Any] = []  # the rows of the part
        self._waiting = self._waiting_bytes = 0  # the rows of them that are in no file yet
        self._closed_size = 0  # bytes of the parts before
        self.size = 0
        self.written = 0
        self.full = False

    def add(self, rows: Rows) -> None:
        """Add rows; they are in a file after `flush`."""
        other = rows.event != 0
        columns: dict[str, Any] = {
            "timestamp_ns": rows.timestamp_ns,
            "pv": _coded(rows.pv, self._names),
            "event": _coded(rows.event, _EVENTS),
            "severity": arrow.array(rows.severity.clip(-128, 127).astype("i1"), mask=other),
            "status": arrow.array(rows.status, mask=other),
            "type": _coded(rows.type, _TYPES),
            "count": arrow.array(rows.count, mask=rows.count == NONE),
            "value": arrow.array(rows.number, mask=~rows.has_number),
            "text": _texts(rows),
            "array": _arrays(rows),
        }
        table = arrow.table(columns, schema=_SCHEMA)
        self._tables.append(table)
        self._waiting += len(rows)
        self._waiting_bytes += table.nbytes
        self.full = self._waiting >= _MAX_ROWS or self._waiting_bytes >= _MAX_BYTES

    def flush(self) -> None:
        """Write the part, and begin the next one if it is full."""
        if not self._waiting:
            return
        name = f"part-{self._part:06}.parquet"
        # Readers of folders leave out names that begin with a dot
        unfinished = self._path / f".{name}"
        table = arrow.concat_tables(self._tables)
        try:
            parquet.write_table(table, unfinished, **_OPTIONS)
            size = unfinished.stat().st_size
            unfinished.replace(self._path / name)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
        self.written += self._waiting
        self._waiting = self._waiting_bytes = 0
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


def _words(texts: Sequence[str]) -> Any:
    # A byte of the command line that is not UTF-8 becomes a question mark
    return arrow.array([text.encode("utf-8", "replace").decode() for text in texts])


_EVENTS, _TYPES = _words(EVENTS), _words(TYPES)


def _coded(places: Any, words: Any) -> Any:
    """Return a text column: the places of its texts in ``words``; null where it is `NONE`."""
    indices = arrow.array(places.astype("i4"), mask=places == NONE)
    return arrow.DictionaryArray.from_arrays(indices, words)


def _texts(rows: Rows) -> Any:
    if not rows.texts:  # as nearly always
        return arrow.nulls(len(rows), arrow.string())
    return arrow.array([rows.texts.get(row) for row in range(len(rows))], arrow.string())


def _arrays(rows: Rows) -> Any:
    kind = _SCHEMA.field("array").type
    if not rows.arrays:
        return arrow.nulls(len(rows), kind)
    places = list(rows.arrays)
    lengths = np.zeros(len(rows) + 1, "i8")
    lengths[np.add(places, 1)] = [len(array) for array in rows.arrays.values()]
    is_null = np.ones(len(rows) + 1, "?")
    is_null[[*places, -1]] = False  # the last offset is the end
    offsets = arrow.array(np.cumsum(lengths).astype("i4"), mask=is_null)
    elements = np.concatenate(list(rows.arrays.values())).astype("f8", copy=False)
    return arrow.ListArray.from_arrays(offsets, elements).cast(kind)
