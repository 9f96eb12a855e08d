"""The programs in examples/ do what they say, on a real IOC."""

from __future__ import annotations

import ast
import csv
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from aioca.testing import SoftIoc
from tests.support.examples import EXAMPLES, RECORDS, Program, running, value_of
from tests.support.iocs import PORTS


@pytest.fixture(scope="module")
def records() -> Iterator[SoftIoc]:
    """The IOC of this module: tests may change its values, but not stop it."""
    with SoftIoc(RECORDS, port=PORTS[5]) as ioc:
        yield ioc


# -- All of them -----------------------------------------------------------------------------------


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_every_example_says_what_it_is_and_how_to_run_it(example: Path) -> None:
    text = ast.get_docstring(ast.parse(example.read_text())) or ""
    assert "aioca ioc examples/records.db" in text
    assert f"python examples/{example.name}" in text
    gallery = (EXAMPLES.parent / "docs/how-to/examples.md").read_text()
    assert f"../../examples/{example.name}" in gallery


# -- seed.py ---------------------------------------------------------------------------------------


def test_seed(records: SoftIoc, backend: str) -> None:
    """The smallest program: it goes on until Ctrl-C, which ends it without a word."""
    text = f"import aioca, seed; aioca.run(seed.do_stuff(), forever=True, backend={backend!r})"
    program = Program(["-c", text], records.port, EXAMPLES)
    try:
        program.until("^callback [0-9.]+$")
        first, *others = program.stop()
    finally:
        program.close()
    assert first == "2.5"
    assert all(line.startswith("callback ") for line in others)
    assert value_of(records, "PV1") == "1234"


def test_seed_as_it_is(records: SoftIoc) -> None:
    with running("seed.py", port=records.port) as program:
        program.until("^callback")
        assert program.stop()[0] == "2.5"


# -- nursery_scoped_monitor.py ---------------------------------------------------------------------


def test_nursery_scoped_monitor(records: SoftIoc) -> None:
    """The error of a callback cancels the nursery that owns the monitor."""
    records.command("dbpf PV3 0")
    with running("nursery_scoped_monitor.py", "PV3", 3, port=records.port) as program:
        *values, cancelled, stopped = program.finish()
    assert all(line.startswith("PV3 ") for line in values)
    assert cancelled == "work was cancelled"
    assert stopped.startswith("stopped: PV3 is ")


# -- move_and_wait.py ------------------------------------------------------------------------------


def test_move_and_wait(records: SoftIoc, backend: str) -> None:
    records.command("dbpf SETPOINT 0")
    arguments = ("SETPOINT", "READBACK", 3, "--backend", backend)
    with running("move_and_wait.py", *arguments, port=records.port) as program:
        (line,) = program.finish()
    assert line.startswith("there: ")
    assert float(line.split()[1]) == pytest.approx(3, abs=0.01)


def test_move_and_wait_says_if_it_is_not_there(records: SoftIoc) -> None:
    """The setpoint is limited by the record; so the readback never comes near to 30."""
    arguments = ("SETPOINT", "READBACK", 30, "--timeout", 2)
    with running("move_and_wait.py", *arguments, port=records.port) as program:
        (line,) = program.finish()
    assert line.startswith("not there: READBACK: ")
    assert "the last value was 10.0" in line


# -- scan.py ---------------------------------------------------------------------------------------


def test_scan(records: SoftIoc, backend: str, tmp_path: Path) -> None:
    """A line for each position, with the peak where it is; then back to where it was."""
    records.command("dbpf SETPOINT 1")
    arguments = ("SETPOINT", "READBACK", "DETECTOR", 1, 3, 3, "-o", "it.csv", "--backend", backend)
    with running("scan.py", *arguments, port=records.port, folder=tmp_path) as program:
        (line,) = program.finish()
    assert line.startswith("SETPOINT ") and "100%" in line
    with (tmp_path / "it.csv").open() as file:
        header, *rows = csv.reader(file)
    assert header == ["READBACK", "DETECTOR"]
    positions, counts = zip(*((float(x), float(y)) for x, y in rows), strict=True)
    assert positions == pytest.approx([1, 2, 3], abs=0.005)
    assert counts[1] > 990 and max(counts[0], counts[2]) < 200
    assert value_of(records, "SETPOINT") == "1"


def test_scan_shows_its_progress_and_goes_back_on_ctrl_c(
    records: SoftIoc, backend: str, tmp_path: Path
) -> None:
    records.command("dbpf SETPOINT -5")
    arguments = ("SETPOINT", "READBACK", "DETECTOR", 0, 9, 1000, "--backend", backend)
    output = tmp_path / "scan.csv"
    with running("scan.py", *arguments, port=records.port, folder=tmp_path) as program:
        while not (output.exists() and value_of(records, "SETPOINT") not in ("-5", "0")):
            assert program.process.poll() is None, program.lines
        lines = program.stop(signal.SIGINT, status=1)
    assert lines[-1] == "stopped"
    assert lines[0].startswith("SETPOINT ") and "%" in lines[0]
    assert value_of(records, "SETPOINT") == "-5"
    with output.open() as file:
        assert next(csv.reader(file)) == ["READBACK", "DETECTOR"]


# -- scan_without_async.py -------------------------------------------------------------------------


def test_scan_without_async(records: SoftIoc) -> None:
    records.command("dbpf PV1 0")
    records.command("dbpf SETPOINT 0.5")
    with running("scan_without_async.py", 0, 2, 1, port=records.port) as program:
        lines = program.finish()
    assert [round(float(line.split()[0])) for line in lines] == [0, 1, 2]
    counts = [float(line.split()[2]) for line in lines]
    assert counts[2] > 900 > counts[0]  # the peak is at 2 mm
    assert float(value_of(records, "SETPOINT")) == 0.5


def test_an_interlock_ends_the_scan_without_async(records: SoftIoc) -> None:
    records.command("dbpf PV1 0")
    records.command("dbpf SETPOINT 0.5")
    with running("scan_without_async.py", 0, 9, 0.1, port=records.port) as program:
        program.until("^-?0.0. mm")
        records.command("dbpf PV1 1")
        assert program.finish()[-1] == "stopped: PV1 is 1.0"
    assert float(value_of(records, "SETPOINT")) == 0.5
    records.command("dbpf PV1 0")
