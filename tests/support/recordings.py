"""Readers of recordings, by the ending of the file.

Each reader returns rows as dictionaries with the columns of the CSV file; empty cells are None.
"""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def read_csv(path: Path) -> list[Row]:
    rows = []
    with path.open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            row: Row = {key: text or None for key, text in line.items()}
            for key in ("timestamp_ns", "severity", "status", "count"):
                row[key] = None if row[key] is None else int(row[key])
            if row["count"] is not None:
                row["value"] = json.loads(row["value"])
            elif row["type"] == "STRING":
                row["value"] = line["value"]
            elif row["value"] is not None:
                row["value"] = float(row["value"])
            rows.append(row)
    return rows


def read_parquet(path: Path) -> list[Row]:
    import pyarrow.parquet

    parquet: Any = pyarrow.parquet
    rows: list[Row] = []
    if any(path.iterdir()):
        rows = parquet.read_table(path).to_pylist()
    for row in rows:
        if row["text"] is not None:
            row["value"] = row["text"] if row["count"] is None else json.loads(row["text"])
        elif row["array"] is not None:
            row["value"] = row["array"]
    return rows


def read_hdf5(path: Path) -> list[Row]:
    import h5py

    try:
        file: Any = h5py.File(path, "r", swmr=True)
    except OSError:  # it is just being made
        return []
    with file:
        if "rows" not in file:
            return []
        names = [name.decode() for name in file["pvs"][:]]
        table = file["rows"]
        events = {v: k for k, v in h5py.check_enum_dtype(table.dtype["event"]).items()}
        types = {v: k for k, v in h5py.check_enum_dtype(table.dtype["type"]).items()}
        found = table[:]
        elements, characters = file["elements"][:], file["characters"][:].tobytes()
    rows = []
    for record in found:
        row: Row = {name: record[name].item() for name in found.dtype.names}
        piece = slice(row["start"], row["start"] + row["length"])
        row.update(pv=names[row["pv"]], event=events[row["event"]], type=types[row["type"]])
        for key in ("type", "severity", "status", "count"):
            row[key] = None if row[key] in ("NONE", -1) else row[key]
        if row["type"] == "STRING":
            text = characters[piece].decode()
            row["value"] = text if row["count"] is None else json.loads(text)
        elif row["count"] is not None:
            row["value"] = elements[piece].tolist()
        elif math.isnan(row["value"]):
            row["value"] = None
        rows.append(row)
    return rows


READERS = {".csv": read_csv, ".parquet": read_parquet, ".h5": read_hdf5}


def read(path: Path) -> list[Row]:
    return READERS[path.suffix](path)
