"""What a recording of counters has: how many values, and how many are missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Counts(NamedTuple):
    """What is in a file: the number of values, of counters, and of values that are missing."""

    values: int
    counters: int
    missing: int


def count(file: Path) -> Counts:
    """Count the values, and those that are missing between the first and last of each counter."""
    places, values = {".parquet": of_parquet, ".csv": of_csv, ".h5": of_hdf5}[file.suffix](file)
    order = np.argsort(places, kind="stable")  # the values of each counter, in order of arrival
    places, values = places[order], values[order]
    steps = np.diff(values)[np.diff(places) == 0]
    if (steps < 1).any():
        raise SystemExit(f"{file}: {np.count_nonzero(steps < 1)} values are there twice or swapped")
    return Counts(len(values), len(np.unique(places)), int((steps - 1).sum()))


def of_parquet(file: Path) -> tuple[Any, Any]:
    import pyarrow.compute
    import pyarrow.parquet

    compute: Any = pyarrow.compute
    parquet: Any = pyarrow.parquet
    table = parquet.read_table(file, columns=["pv", "event", "value"])
    table = table.filter(compute.equal(table["event"], "value"))
    names = table["pv"].combine_chunks().cast("string").dictionary_encode()
    if hasattr(names, "combine_chunks"):
        names = names.combine_chunks()
    return np.asarray(names.indices), np.asarray(table["value"])


def of_csv(file: Path) -> tuple[Any, Any]:
    import pyarrow.csv

    reader: Any = pyarrow.csv
    table = reader.read_csv(file)
    is_value = np.asarray(table["event"]) == "value"
    _, places = np.unique(np.asarray(table["pv"])[is_value], return_inverse=True)
    return places, np.asarray(table["value"])[is_value]


def of_hdf5(file: Path) -> tuple[Any, Any]:
    import h5py

    with h5py.File(file, "r", swmr=True) as recording:
        rows: Any = recording["rows"]
        rows = rows[:]
    rows = rows[rows["event"] == 0]
    return rows["pv"], rows["value"]
