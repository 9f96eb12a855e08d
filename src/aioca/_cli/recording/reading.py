"""The recorded history of PVs, read from a file for `plot`.

Each format has a function that yields the rows of a file as `Row`, in the order of the file. A file
whose writer was killed, or still writes, is read up to its last complete row.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..._display.text import number_text
from ..._printable import printable
from ..._values.dbr import is_long_string_name
from ..live.recording import Recording
from .rows import COLUMNS, EVENTS, strerror
from .target import FORMATS, BadInputError, check_library

_MAX_PVS = 20  # in one figure
_MAX_UPDATES = 5_000_000  # of one PV, the newest
_ROWS_AT_ONCE = 65536
_ALARMS = ("no alarm", "MINOR", "MAJOR", "INVALID")


class Row(NamedTuple):
    """A row of a recording: ``value`` is a number, a text, an array, or None."""

    timestamp_ns: int
    pv: str
    event: str
    severity: int
    value: Any


class RecordedPV(Recording):
    """The recorded values of a PV."""

    __slots__ = ("_begin", "_last_severity")

    max_updates = _MAX_UPDATES

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._begin: float | None = None  # the time of a connection, until its first value
        self._last_severity = -1

    def add(self, row: Row) -> None:
        """Add the next row of this PV."""
        when = row.timestamp_ns / 1e9
        if row.event == "value":
            if self._begin is not None:  # the PV may have had the value for days
                when, self._begin = self._begin, None
            self.value, self._last_severity = row.value, row.severity
            is_number = isinstance(row.value, (int, float))
            if self.kind is None:
                is_text = isinstance(row.value, str)
                self.kind = "strip" if is_number else "text" if is_text else "trace"
            if self.kind == "strip":
                self._append(when, float(row.value) if is_number else math.nan, row.severity)
        elif row.event == "connected":
            self._begin = when
        elif row.event == "disconnected":
            self._last_severity = -1
            if self.kind == "strip":
                self._append(when, math.nan, -1)

    @property
    def connected(self) -> bool:
        return self._last_severity >= 0

    @property
    def severity(self) -> int:
        return self._last_severity

    @property
    def condition(self) -> str:
        return _ALARMS[self.severity & 3] if self.connected else "disconnected"

    def text(self) -> str:
        """Return the last value as text; an array as its length."""
        if self.is_array:
            return f"[{len(self.value)}]"
        if isinstance(self.value, float):
            return number_text(self.value, None)
        return printable(str(self.value))

    @property
    def span(self) -> tuple[float, float] | None:
        """The times of the first and last row of a number; None if there is none."""
        return (self._times[0], self._times[-1]) if self._times else None


def is_recording(name: str) -> bool:
    """Whether an argument of `plot` names a recording, and no PV."""
    return Path(name).suffix.lower() in FORMATS


def read_recording(path: Path, names: Sequence[str]) -> list[RecordedPV]:
    """Read the PVs with these names, or all PVs. Blocks.

    Raises:
        BadInputError: the file is missing or damaged, its library is not installed, it lacks one of
            the PVs, or it has too many for one figure.
    """
    if not path.exists():
        raise BadInputError(f"{path}: there is no such file")
    check_library(path)
    read: Callable[[Path], Iterator[Row]] = _READERS[path.suffix.lower()]
    found: dict[str, RecordedPV] = {name: RecordedPV(name) for name in names}
    present: set[str] = set()
    try:
        for row in read(path):
            pv = found.get(row.pv)
            if pv is None:
                if names:
                    continue
                if len(found) >= _MAX_PVS:
                    raise BadInputError(
                        f"{path}: it has more than {_MAX_PVS} PVs; name those to plot after it"
                    )
                pv = found[row.pv] = RecordedPV(row.pv)
            present.add(row.pv)
            pv.add(row)
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise BadInputError(f"{path}: it is no recording, or damaged ({strerror(error)})") from None
    if missing := [name for name in found if name not in present]:
        files = "; one recording at a time" if any(Path(name).exists() for name in missing) else ""
        raise BadInputError(f"{path}: it does not have {', '.join(missing)}{files}")
    if not any(pv.kind for pv in found.values()):
        raise BadInputError(f"{path}: it has no value")
    return list(found.values())


# -- The formats -----------------------------------------------------------------------------------


def _read_csv(path: Path) -> Iterator[Row]:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
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
        if count:
            value = np.array(json.loads(text))
        elif _is_text(pv, kind):
            value = text
        else:
            value = float(text)
    return Row(int(stamp), pv, event, int(severity or -1), value)


def _is_text(pv: str, kind: str) -> bool:
    """Whether the value of a row is a text: that of a string, or of a long string (``$``)."""
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
