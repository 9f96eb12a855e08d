"""What the tests of event loops share.

A test that may end its process runs in a separate one: see `start` and `finish`.
"""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from aioca import caget, caput

both_backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])
BUSY = 50
DATABASE = (
    'record(ao, "PV1") {} record(ao, "PV2") { field(VAL, "5") } record(ao, "PV3") {}\n'
    'record(calc, "TICK") { field(SCAN, ".1 second") field(INPA, "TICK") field(CALC, "A+1") }\n'
    + "".join(
        f'record(calc, "BUSY{i}") {{ field(SCAN, ".1 second") field(INPA, "BUSY{i}")'
        ' field(CALC, "A+1") }\n'
        for i in range(BUSY)
    )
)


def interrupt_at(process: subprocess.Popen[str], line: str) -> list[str]:
    """Wait for a line of output, send SIGINT like Ctrl-C, and return the lines so far."""
    assert process.stdout is not None
    lines: list[str] = []
    for text in process.stdout:  # ends when the process ends
        lines.append(text.rstrip("\n"))
        if lines[-1] == line:
            process.send_signal(signal.SIGINT)
            return lines
    raise AssertionError(f"it ended first: {lines}\n{process.stderr and process.stderr.read()}")


def finish(process: subprocess.Popen[str], returncode: int | None = 0) -> tuple[str, str]:
    """Wait for the process to end, check its exit status, and return both outputs."""
    try:
        out, err = process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError(f"it did not end: {process.communicate()}") from None
    if returncode is not None:
        assert process.returncode == returncode, (out, err)
    return out, err


async def use_it(pv: str) -> None:
    await caput(pv, await caget(pv))
