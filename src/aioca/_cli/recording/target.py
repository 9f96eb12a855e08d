"""Where a recording goes: the name, the format by its ending, and the numbered files of a rotation.

An existing file is never replaced.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..shared import BadInputError
from .options import Rotation
from .rows import Writer, strerror

# By ending: module, class, and the library that has to be installed
FORMATS = {
    ".csv": ("csv_file", "CsvFile", None),
    ".parquet": ("parquet_file", "ParquetFolder", "pyarrow"),
    ".h5": ("hdf5_file", "Hdf5File", "h5py"),
    ".hdf5": ("hdf5_file", "Hdf5File", "h5py"),
}


def check_library(path: Path) -> None:
    """Raise unless the library for the format of this file is installed."""
    _, _, library = FORMATS[path.suffix.lower()]
    if library is not None and importlib.util.find_spec(library) is None:
        raise BadInputError(f"{path}: {library} is not installed; pip install 'aioca[record]'")


class Target:
    """The files of one recording.

    Args:
        path: the file, or with a rotation the name to which numbers are added.
        names: the PVs.
        rotation: when the next file begins; None for a single file.

    Attributes:
        files: the files so far, the last of which is open.

    Raises:
        BadInputError: the ending is unknown, a library is missing, a file exists, or the directory
            is missing or cannot be written to.
    """

    def __init__(self, path: Path, names: Sequence[str], rotation: Rotation | None) -> None:
        self._path = path
        self._names = names
        self._rotation = rotation
        self.files: list[Path] = []
        self._check()
        self._next_at = 0.0
        self._beginning = 0

    @property
    def rotates(self) -> bool:
        return self._rotation is not None

    def _check(self) -> None:
        path = self._path
        if path.suffix.lower() not in FORMATS:
            raise BadInputError(f"{path}: the name must end in {', '.join(FORMATS)}")
        check_library(path)
        if not path.parent.is_dir():
            raise BadInputError(f"{path}: its directory does not exist")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise BadInputError(f"{path}: its directory cannot be written to")
        first = self._name(1)
        if os.path.lexists(first):
            raise BadInputError(f"{first}: it exists, and is not replaced; choose another name")

    def _name(self, number: int) -> Path:
        if self._rotation is None:
            return self._path
        return self._path.with_name(f"{self._path.stem}-{number:04}{self._path.suffix}")

    def open(self) -> Writer:
        """Open the next file. Blocks.

        Raises:
            OSError: it exists, or cannot be made.
        """
        module, name, _ = FORMATS[self._path.suffix.lower()]
        make: Any = getattr(importlib.import_module(f"..{module}", __name__), name)
        path = self._name(len(self.files) + 1)
        writer: Writer = make(path, self._names)
        self.files.append(path)
        self._beginning = 0
        if self._rotation is not None and self._rotation.seconds is not None:
            self._next_at = time.monotonic() + self._rotation.seconds
        return writer

    def note_beginning(self, writer: Writer) -> None:
        """Do not count what the file has so far as a part of the size of the rotation.

        The last values of all PVs may be larger than that: each write would begin another file.
        """
        self._beginning = writer.size

    def is_over(self, writer: Writer) -> bool:
        """Whether it is time for the next file."""
        if self._rotation is None:
            return False
        if self._rotation.size is not None:
            return writer.size - self._beginning >= self._rotation.size
        return time.monotonic() >= self._next_at

    def text(self) -> str:
        """Return the names of the files for a message."""
        if len(self.files) < 2:
            return str(self.files[0] if self.files else self._name(1))
        return f"{self.files[0]} to {self.files[-1].name}"


def error_text(target: Target, error: Exception) -> str:
    """Return the message of an error of writing, with the name of the file."""
    path = target.files[-1] if target.files else target.text()
    return f"{getattr(error, 'filename', None) or path}: {strerror(error)}"
