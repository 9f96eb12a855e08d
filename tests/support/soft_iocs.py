"""What the tests of aioca.testing share."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from aioca.testing import SoftIoc

MakeIoc = Callable[..., SoftIoc]
ONE = 'record(ao, "$(P)x") { field(VAL, "1.5") field(DESC, "$(D=none)") }'


def pid_of(ioc: SoftIoc) -> int:
    assert ioc.process is not None
    return ioc.process.pid


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.01)  # /proc has no event to wait for
    return True
