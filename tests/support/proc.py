"""What /proc tells of other processes."""

from __future__ import annotations

from pathlib import Path

from tests.support.waiting import wait_until


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    return _status(pid)[0] not in "ZX"


def asleep(pid: int) -> bool:
    """Whether the main thread of a process waits for something."""
    return _status(pid)[0] == "S"


def gone(pids: set[int], seconds: float = 5.0) -> bool:
    """Wait until none of these processes runs."""
    return wait_until(lambda: not any(map(alive, pids)), seconds)


def children_of(pid: int) -> set[int]:
    """The living processes that a process has started."""
    children = set()
    for folder in Path("/proc").glob("[0-9]*"):
        state, parent = _status(int(folder.name))
        if parent == pid and state not in "ZX":
            children.add(int(folder.name))
    return children


def _status(pid: int) -> tuple[str, int]:
    """The state of a process, X if there is none, and its parent."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "X", 0
    return fields[0], int(fields[1])
