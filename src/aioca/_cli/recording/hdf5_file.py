"""HDF5, written as SWMR (single writer, multiple readers): always in a state that can be read.

SWMR needs all datasets to exist from the start, and no strings of variable length. So there is one
dataset ``rows``. Arrays and texts are pieces of two long datasets, ``elements`` and ``characters``:
a row has the start and the length of its piece. A piece is flushed before its row is written.

HDF5 cannot recover from a failed write: the process may crash when it closes the file. So space on
the disk is reserved before each write, by making the file longer than its data. HDF5 permits
that, and cuts the file off when it closes it.

Readers open the file with ``h5py.File(name, "r", swmr=True)``, also while it is being written and
after its writer was killed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .rows import EVENTS, NONE, TYPES, Rows, encoded

h5: Any = h5py  # it has no types

_EVENT_NUMBERS = {name: number for number, name in enumerate(EVENTS)}
_TYPE_NUMBERS = {name: number for number, name in enumerate(TYPES)}
_ROW = np.dtype(
    [
        ("timestamp_ns", "<i8"), ("pv", "<u4"),
        ("event", h5.enum_dtype(_EVENT_NUMBERS, "i1")), ("severity", "i1"), ("status", "<i2"),
        ("type", h5.enum_dtype({**_TYPE_NUMBERS, "NONE": NONE}, "i1")), ("count", "<i4"),
        ("value", "<f8"), ("start", "<i8"), ("length", "<i8"),
    ]
)  # fmt: skip
_ROWS_PER_CHUNK, _ITEMS_PER_CHUNK = 4096, 16384
_ROOM = 2**20  # bytes reserved beyond the data: for chunks that are not full, and for metadata


Pieces = dict[int, Any]  # by row, in ascending order


class Hdf5File:
    """An HDF5 file that must not exist yet; ``names`` are the PVs of its rows."""

    full = False

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._reserved = 0  # up to this size, the file has space on the disk
        new = path.open("xb")
        try:
            with new:
                self._reserve(new.fileno(), _ROOM)
                new.truncate(0)
            self._file: Any = h5.File(path, "w", libver="latest")
            self._descriptor = os.open(path, os.O_RDWR)
            self._make_datasets(names)
        except BaseException:
            path.unlink()  # it would be in the way of a second try
            raise
        self._waiting: list[tuple[Any, Pieces, Pieces]] = []  # rows, their arrays and texts
        self._reserved = 0  # HDF5 has cut the file off
        self.size = self._file.id.get_filesize()
        self.written = 0

    def _make_datasets(self, names: Sequence[str]) -> None:
        encodings = [encoded(name) for name in names]
        longest = max(map(len, encodings))
        self._file.create_dataset(
            "pvs", data=encodings, dtype=h5.string_dtype("utf-8", longest), track_times=False
        )
        make = self._file.create_dataset
        items: dict[str, Any] = {"shape": (0,), "maxshape": (None,), "chunks": (_ITEMS_PER_CHUNK,)}
        self._elements = make("elements", dtype="<f8", **items)
        self._characters = make("characters", dtype="u1", **items)
        rows: dict[str, Any] = {**items, "chunks": (_ROWS_PER_CHUNK,)}
        self._rows = make("rows", dtype=_ROW, **rows)
        self._file.swmr_mode = True

    def _reserve(self, descriptor: int, size: int) -> None:
        """Reserve space on the disk for a file of this size; raises OSError if there is none."""
        if size > self._reserved and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
            self._reserved = size

    def add(self, rows: Rows) -> None:
        """Make a table of rows."""
        table = np.zeros(len(rows), _ROW)
        for name in ("timestamp_ns", "pv", "event", "type", "count"):
            table[name] = getattr(rows, name)
        is_value = rows.event == 0
        table["severity"] = np.where(is_value, rows.severity.clip(-128, 127), NONE)
        table["status"] = np.where(is_value, rows.status, NONE)
        table["value"] = rows.number
        texts = {row: np.frombuffer(t.encode(), "u1") for row, t in rows.texts.items()}
        self._waiting.append((table, rows.arrays, texts))

    def flush(self) -> None:
        """Write the rows that wait: first their arrays and texts."""
        for table, arrays, texts in self._waiting:
            self._write(table, arrays, texts)
        self._waiting = []

    def _write(self, table: Any, arrays: Pieces, texts: Pieces) -> None:
        items = sum(map(len, (*arrays.values(), *texts.values())))
        new = table.nbytes + 8 * items
        if self.size + new + _ROOM > self._reserved:
            self._reserve(self._descriptor, self.size + new + 4 * _ROOM)
        self._add_pieces(self._elements, table, arrays)
        self._add_pieces(self._characters, table, texts)
        _append(self._rows, table)
        self.written += len(table)
        self.size = self._file.id.get_filesize()

    @staticmethod
    def _add_pieces(dataset: Any, table: Any, pieces: Pieces) -> None:
        """Append pieces to a dataset, and set start and length in their rows."""
        if not pieces:
            return
        places = list(pieces)
        lengths = np.array([len(piece) for piece in pieces.values()])
        table["length"][places] = lengths
        table["start"][places] = len(dataset) + np.cumsum(lengths) - lengths
        _append(dataset, np.concatenate(list(pieces.values())))

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()
            os.close(self._descriptor)


def _append(dataset: Any, data: Any) -> None:
    before = len(dataset)
    dataset.resize((before + len(data),))
    dataset[before:] = data
    dataset.flush()
