"""`load` and `save`: which format a file has, how it is read, and how it is replaced.

Invariant: `save` leaves either the old file or the whole new one, whatever fails.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from . import _autosave, _burt, _json_format, _psi
from ._model import Snapshot, SnapshotError, check_snapshot

_MAX_FILE_BYTES = 1 << 30  # a larger file, or a device that never ends, is refused


def read_bytes(path: Path) -> bytes:
    """Read a whole file; SnapshotError if it is too large, OSError if it cannot be read."""
    with path.open("rb") as file:
        data = file.read(_MAX_FILE_BYTES + 1)
    if len(data) > _MAX_FILE_BYTES:
        raise SnapshotError(f"it has more than {_MAX_FILE_BYTES >> 20} MiB", path)
    return data


def read_text(path: Path) -> str:
    """Read a file in UTF-8; SnapshotError if it has other bytes."""
    data = read_bytes(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SnapshotError("the line is not UTF-8", path, line) from None


def load(path: str | Path, macros: Mapping[str, str] | None = None) -> Snapshot:
    """Read a snapshot from a file. Blocks.

    The content decides which format it has:

    - the format of this package (JSON), written by `save`
    - a ``.sav`` file of autosave
    - a ``.snap`` file of BURT, or of the snapshot tool of PSI

    Args:
        path: the file.
        macros: values for the macros ``$(NAME)`` in the names of PVs, which the formats of autosave
            and PSI may have; see `parse_macros`.

    Returns:
        Snapshot: the values; nothing is compared with the PVs.

    Raises:
        SnapshotError: the file has none of these formats, is damaged, or names a PV twice.
        OSError: the file cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a directory", str(path))
    data = read_bytes(path)
    try:
        return _parsed(data, path, macros or {})
    except SnapshotError as error:
        raise SnapshotError(error.problem, path, error.line) from None


def _parsed(data: bytes, path: Path, macros: Mapping[str, str]) -> Snapshot:
    data = data.removeprefix(b"\xef\xbb\xbf")
    first = data.lstrip()[:200]
    if not first:
        raise SnapshotError("the file is empty")
    if first.startswith(b"SDDS"):
        raise SnapshotError("SDDS files are not supported; have BURT write a plain snapshot file")
    if first.startswith(b"{"):
        return _json_format.parse(data)
    if first.startswith(b"--- Start BURT header"):
        return _burt.parse(data)
    if first.startswith(b"#") and first[1:].lstrip().startswith(b"{"):
        return _psi.parse(data, macros)
    if _autosave.is_autosave(data, path.name):
        return _autosave.parse(data, macros)
    if path.suffix == ".snap":
        return _burt.parse(data)
    raise SnapshotError("it is no snapshot: neither of aioca, nor of autosave, BURT or PSI")


def save(snapshot: Snapshot, path: str | Path) -> None:
    """Write a snapshot to a file, in the format of this package. Blocks.

    The file is replaced at once when all of it is on the disk. If anything fails before, the old
    file is left as it was. The mode of an old file is kept; a symbolic link still leads to the
    file.

    Args:
        snapshot: the values. Those read from a file of another program keep their text.
        path: the file.

    Raises:
        OSError: the file cannot be written, or is not a regular file.
        TypeError: ``snapshot`` is no snapshot.
    """
    check_snapshot(snapshot)
    data = _json_format.text_of(snapshot).encode("utf-8")
    path = Path(os.path.realpath(path))
    mode = check_target(path)
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}")
    # The mode is that of a new file: 0666, less the bits of the umask
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_directory(path.parent)


def check_target(path: str | Path) -> int | None:
    """Return the mode of a file that is to be replaced, None if there is none.

    Raises:
        OSError: the file cannot be written.
    """
    path = Path(os.path.realpath(path))
    try:
        status = path.stat()
    except FileNotFoundError:
        status = None
    if status is not None and not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "its directory does not exist", str(path))
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "its directory cannot be written", str(path))
    if status is not None and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, "it is write-protected", str(path))
    return None if status is None else stat.S_IMODE(status.st_mode)


def _sync_directory(path: Path) -> None:
    """Have the new name of the file on the disk as well, where the system can do that."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
