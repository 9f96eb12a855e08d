"""The recorded history of PVs, read from a file for `plot`.

Each format has a function that yields the rows of a file as `Row`, in the order of the file. A file
whose writer was killed, or still writes, is read up to its last complete row.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..._display.text import NEVER_BEFORE
from ..._values.dbr import is_long_string_name
from ..shared import BadInputError
from .recorded import Clock, RecordedPV, Row
from .rows import COLUMNS, EVENTS, strerror
from .target import FORMATS, check_library

_MAX_PVS = 20  # in one figure
_SHORTEST_SECONDS = 1.0  # that a chart shows
_ROWS_AT_ONCE = 65536
_LONGEST_CELL = 2**31 - 1  # characters; the most that csv takes on all systems


class RecordedFile(NamedTuple):
    """The PVs of a recording that were asked for, and the first and last time of all its PVs."""

    pvs: list[RecordedPV]
    begin: float
    end: float


def is_recording(name: str) -> bool:
    """Whether an argument of `plot` names a recording, and no PV."""
    return Path(name).suffix.lower() in FORMATS


def read_recording(path: Path, names: Sequence[str]) -> RecordedFile:
    """Read the PVs with these names, or all PVs. Blocks.

    Raises:
        BadInputError: the file is missing or damaged, its library is not installed, it lacks one of
            the PVs, or it has too many for one figure.
    """
    if not path.exists():
        raise BadInputError(f"{path}: there is no such file")
    check_library(path)
    read: Callable[[Path], Iterator[Row]] = _READERS[path.suffix.lower()]
    contents = _Contents(path, names)
    try:
        for row in read(path):
            contents.add(row)
    except (OSError, ValueError, KeyError, IndexError, csv.Error) as error:
        raise BadInputError(f"{path}: it is no recording, or damaged ({strerror(error)})") from None
    return contents.checked()


class _Contents:
    """The rows of a file, as far as they were read."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._path = path
        self._names = names
        self._pvs = {name: RecordedPV(name) for name in names}
        self._clocks: dict[str, Clock] = {}  # also of the PVs that were not asked for
        self._begin, self._end = math.inf, -math.inf

    def add(self, row: Row) -> None:
        clock = self._clocks.get(row.pv)
        if clock is None:
            clock = self._take_new(row.pv)
        when = clock.time_of(row)
        if clock.is_usable:
            self._begin, self._end = min(when, self._begin), max(when, self._end)
        pv = self._pvs.get(row.pv)
        if pv is not None:
            pv.add(row, when)

    def _take_new(self, name: str) -> Clock:
        if not self._names:
            if len(self._pvs) >= _MAX_PVS:
                raise BadInputError(
                    f"{self._path}: it has more than {_MAX_PVS} PVs; name those to plot after it"
                )
            self._pvs[name] = RecordedPV(name)
        pv = self._pvs.get(name)
        clock = self._clocks[name] = Clock() if pv is None else pv.clock
        return clock

    def checked(self) -> RecordedFile:
        """Return what was read; raises BadInputError if it cannot be shown."""
        if missing := [name for name in self._pvs if name not in self._clocks]:
            exists = any(Path(name).exists() for name in missing)
            files = "; one recording at a time" if exists else ""
            raise BadInputError(f"{self._path}: it does not have {', '.join(missing)}{files}")
        if not any(pv.kind for pv in self._pvs.values()):
            raise BadInputError(f"{self._path}: it has no value")
        if self._begin > self._end:  # no server had a time, and no event was recorded
            self._begin = self._end = float(NEVER_BEFORE)
        # If nothing changed, the file does not tell how long it was recorded
        end = max(self._end, self._begin + _SHORTEST_SECONDS)
        return RecordedFile(list(self._pvs.values()), self._begin, end)


# -- The formats -----------------------------------------------------------------------------------


@contextmanager
def _long_cells() -> Generator[None, None, None]:
    """Let csv read the cells of long arrays; its limit is one for the whole process."""
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _read_csv(path: Path) -> Iterator[Row]:
    with (
        path.open(newline="", encoding="utf-8", errors="surrogateescape") as file,
        _long_cells(),
    ):
        lines = csv.reader(file)
        if tuple(next(lines, ())) != COLUMNS:
            raise ValueError(f"its first line is not {','.join(COLUMNS)}")
        waiting: list[str] | None = None
        for cells in lines:  # one behind: a last line that is cut off is left out
            if waiting is not None:
                yield _csv_row(waiting)
            waiting = cells
        if waiting is not None and len(waiting) == len(COLUMNS) and _ends_in_newline(path):
            yield _csv_row(waiting)


def _ends_in_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read() == b"\n"


def _csv_row(cells: list[str]) -> Row:
    stamp, pv, event, severity, _, kind, count, text = cells
    value: Any = None
    if event == "value":
        if _is_text(pv, kind):
            value = text  # of an array of strings, its JSON, as in the other formats
        elif count:
            value = np.array(json.loads(text))
        else:
            value = float(text)
    return Row(int(stamp), pv, event, int(severity or -1), value)


def _is_text(pv: str, kind: str) -> bool:
    """Whether the value of a row is a text: of strings, or of a long string (``$``)."""
    return kind == "STRING" or (kind == "CHAR" and is_long_string_name(pv))


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow.parquet

    parquet: Any = pyarrow.parquet
    columns = ["timestamp_ns", "pv", "event", "severity", "value", "text", "array"]
    for part in sorted(path.glob("part-*.parquet")) if path.is_dir() else [path]:
        with parquet.ParquetFile(part) as file:
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=columns):
                lists = [column.to_pylist() for column in batch.select(columns).columns]
                for stamp, pv, event, severity, number, text, array in zip(*lists, strict=True):
                    value = number if text is None else text
                    if array is not None:
                        value = np.array(array)
                    yield Row(stamp, pv, event, -1 if severity is None else severity, value)


def _read_hdf5(path: Path) -> Iterator[Row]:
    import h5py

    h5: Any = h5py
    with h5.File(path, "r", swmr=True) as file:
        names = [name.decode(errors="replace") for name in file["pvs"][:]]
        rows, elements, characters = file["rows"], file["elements"], file["characters"]
        kinds = {number: kind for kind, number in h5.check_enum_dtype(rows.dtype["type"]).items()}
        for first in range(0, len(rows), _ROWS_AT_ONCE):
            for row in rows[first : first + _ROWS_AT_ONCE].tolist():
                stamp, pv, event, severity, _, kind, count, value, start, length = row
                if _is_text(names[pv], kinds.get(kind, "")):
                    value = characters[start : start + length].tobytes().decode()
                elif count >= 0:
                    value = elements[start : start + length]
                yield Row(stamp, names[pv], EVENTS[event], severity, value)


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".csv": _read_csv, ".parquet": _read_parquet, ".h5": _read_hdf5, ".hdf5": _read_hdf5,
}  # fmt: skip
