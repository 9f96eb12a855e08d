"""The programs in examples/ do what they say, on a real IOC."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from aioca.testing import SoftIoc, loopback_environment

EXAMPLES = Path(__file__).parent.parent / "examples"
DATABASE = """
record(ao, "PV1") {}
record(ao, "PV2") { field(VAL, "2.5") }
record(calc, "PV3") { field(SCAN, ".1 second") field(INPA, "PV3") field(CALC, "A+1") }
record(calcout, "SETPOINT") {
    field(CALC, "A") field(ODLY, "0.2") field(OUT, "READBACK PP") field(OOPT, "Every Time")
}
record(ao, "READBACK") {}
"""


@pytest.fixture
def start(own_ioc: Callable[..., SoftIoc]) -> Callable[..., subprocess.Popen[str]]:
    """Run an example against an IOC that has the records it is written for."""
    ioc = own_ioc(DATABASE)
    ioc.start()

    def run(example: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-u", str(EXAMPLES / example), *arguments],
            env={**os.environ, **loopback_environment(ioc.port)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return run


def output_until(process: subprocess.Popen[str], end: str) -> list[str]:
    """What it prints, up to a line that starts with ``end``; fails after ten seconds."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    assert process.stdout is not None
    stdout = process.stdout
    reader = threading.Thread(target=lambda: [lines.put(line) for line in stdout])
    reader.start()
    seen: list[str] = []
    try:
        while not seen or not seen[-1].startswith(end):
            seen.append(lines.get(timeout=10))
    except queue.Empty:
        process.kill()
        pytest.fail(f"{seen} {process.stderr and process.stderr.read()}")
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(10)
        reader.join()
    return seen


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    return out, err


def test_seed(start: Callable[..., subprocess.Popen[str]]) -> None:
    """The smallest program: it goes on until Ctrl-C, which ends it without a word."""
    process = start("seed.py")
    seen = output_until(process, "callback")
    assert seen[0] == "2.5\n"
    assert process.stderr is not None
    assert (process.returncode, process.stderr.read()) == (0, "")
    process.stderr.close()
    assert process.stdout is not None
    process.stdout.close()


def test_nursery_scoped_monitor(start: Callable[..., subprocess.Popen[str]]) -> None:
    """The error of a callback cancels the nursery that owns the monitor."""
    out, err = finish(start("nursery_scoped_monitor.py", "PV3", "1"))
    *_, cancelled, stopped = out.splitlines()
    assert cancelled == "work was cancelled"
    assert stopped.startswith("stopped: PV3 is ")
    assert err == ""


def test_move_and_wait(start: Callable[..., subprocess.Popen[str]]) -> None:
    assert finish(start("move_and_wait.py", "SETPOINT.A", "READBACK", "3")) == ("there: 3.0\n", "")
