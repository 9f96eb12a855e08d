"""Lists of PVs in files: one name a line, and the request files of autosave (``.req``).

A request file is a list that may also have macros and lines ``file OTHER.req P=...,M=...``. The
macros of such a line are the only ones in that file, as in autosave.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ._files import read_text
from ._macros import expand, parse_macros
from ._model import SnapshotError

# Both limit the total size of files that include each other.
_MAX_DEPTH = 20  # files within files
_MAX_LINES = 1_000_000  # of all files; each can name a PV
_FILE_LINE = re.compile(r'\s*file\s+(?:"\s*([^"]+?)\s*"|([^\s",]+))[\s,]*(.*)')


def read_names(
    path: str | Path,
    macros: Mapping[str, str] | None = None,
    include: Iterable[str | Path] = (),
) -> list[str]:
    """Read the names of PVs from a list, or from a request file of autosave. Blocks.

    Args:
        path: the file. A line has one name, or is empty, or is a comment that begins with ``#``. A
            line ``file OTHER.req P=BL01:,M=m1`` includes another file.
        macros: values for the macros ``$(NAME)`` in the file; see `parse_macros`.
        include: directories in which included files are looked for, after the directory of the file
            that includes them.

    Returns:
        list[str]: the names in their order, each once.

    Raises:
        SnapshotError: a line is not understood, a macro is not defined, an included file is not
            found, or a file includes itself.
        OSError: the file cannot be read.
    """
    reader = _Reader([Path(directory) for directory in include])
    reader.read(Path(path), macros or {}, ())
    if not reader.names:
        raise SnapshotError("it names no PV", Path(path))
    return list(reader.names)


class _Reader:
    def __init__(self, include: list[Path]) -> None:
        self.names: dict[str, None] = {}
        self._include = include
        self._lines = 0

    def read(self, path: Path, macros: Mapping[str, str], within: tuple[Path, ...]) -> None:
        identity = path.resolve()
        if identity in within:
            raise SnapshotError("it includes itself", path)
        if len(within) >= _MAX_DEPTH:
            raise SnapshotError(f"more than {_MAX_DEPTH} files that include each other", path)
        for number, line in enumerate(read_text(path).splitlines(), 1):
            self._lines += 1
            if self._lines > _MAX_LINES:  # a file may include another one many times
                raise SnapshotError(f"more than {_MAX_LINES} lines, with included files", path)
            try:
                included = self._take(line, macros)
            except SnapshotError as error:
                raise SnapshotError(error.problem, path, number) from None
            if included is not None:
                name, text = included
                found = self._find(name, path, number)
                try:
                    inner = parse_macros(text)
                except SnapshotError as error:
                    raise SnapshotError(error.problem, path, number) from None
                self.read(found, inner, (*within, identity))

    def _take(self, line: str, macros: Mapping[str, str]) -> tuple[str, str] | None:
        """Take the name in a line; for a line ``file``, return the file and its macros."""
        if not line.strip() or line.lstrip().startswith("#"):
            return None
        line = expand(line, macros)
        if found := _FILE_LINE.fullmatch(line):
            # Quotes are ignored there, and blanks separate macros like commas, as in autosave
            definitions = re.split(r"[\s,]+", found[3].replace('"', " ").strip())
            return found[1] or found[2], ",".join(filter(None, definitions))
        name, *others = line.split()
        if others and not others[0].startswith("#"):
            raise SnapshotError(f"more than one name in the line: {line.strip()!r}")
        self.names[name] = None
        return None

    def _find(self, name: str, path: Path, number: int) -> Path:
        places = [path.parent, *self._include]
        for place in places:
            if (place / name).is_file():
                return place / name
        here = "the current directory"  # its name as a path is only a dot
        searched = ", ".join(here if place == Path() else str(place) for place in places)
        raise SnapshotError(f"the file {name!r} is not in {searched}", path, number)
