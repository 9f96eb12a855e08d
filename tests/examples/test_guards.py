"""The examples that watch and guard: alarms reported, a heater switched off, whatever happens."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest

from aioca.testing import SoftIoc
from tests.support.examples import EXAMPLES, RECORDS, Program, running, value_of
from tests.support.iocs import PORTS


@pytest.fixture(scope="module")
def records() -> Iterator[SoftIoc]:
    """The IOC of this module: tests may change its values, but not stop it."""
    with SoftIoc(RECORDS, port=PORTS[5]) as ioc:
        yield ioc


# -- alarm_watcher.py ------------------------------------------------------------------------------

ALARMS = """
record(ao, "$(P)A") { field(HIGH, "5") field(HSV, "MINOR") field(HIHI, "9") field(HHSV, "MAJOR") }
record(ao, "$(P)B") { field(LOW, "-5") field(LSV, "MINOR") field(PINI, "YES") }
"""


def test_alarm_watcher(own_ioc: Callable[..., SoftIoc], unique: str, backend: str) -> None:
    ioc = own_ioc(ALARMS, {"P": unique})
    ioc.start()
    a, b, missing = unique + "A", unique + "B", unique + "MISSING"
    arguments = (a, b, missing, "--backend", backend)
    with running("alarm_watcher.py", *arguments, port=ioc.port) as program:
        program.until(rf"CRITICAL {a} UDF INVALID 0")
        program.until(rf"INFO     {b} NO_ALARM NO_ALARM 0")
        for value in (1, 2, 6, 7, 10):  # 2 and 7 change no severity
            ioc.command(f"dbpf {a} {value}")
        program.until(rf"ERROR    {a} HIHI MAJOR 10")
        program.until(rf"CRITICAL {missing}: ")
        ioc.command(f"dbpf {b} -6")
        program.until(rf"WARNING  {b} LOW MINOR -6")
        ioc.kill()
        program.until(rf"CRITICAL {a}: .*disconnect")
        program.until(rf"CRITICAL {b}: .*disconnect")
        lines = program.stop()
    of_a = [line.split(maxsplit=3)[3] for line in lines if f" {a} " in line]
    assert of_a[:4] == [
        "UDF INVALID 0.0",
        "NO_ALARM NO_ALARM 1.0",
        "HIGH MINOR 6.0",
        "HIHI MAJOR 10.0",
    ]
    assert not any("Traceback" in line for line in lines)


# -- structured_shutdown.py ------------------------------------------------------------------------


@pytest.fixture
def heating(records: SoftIoc, backend: str) -> Iterator[Callable[..., Program]]:
    """The program, once it heats; at once if it is to end by itself."""
    programs = []

    def start(
        *options: object, ioc: SoftIoc = records, prefix: str = "", ends: bool = False
    ) -> Program:
        arguments = [f"{prefix}HEATER", f"{prefix}TEMPERATURE", *options, "--backend", backend]
        text = [str(EXAMPLES / "structured_shutdown.py"), *map(str, arguments)]
        program = Program(text, ioc.port)
        programs.append(program)
        if ends:  # what the test before has heated is warm still: it may end as soon as it looks
            return program
        while value_of(ioc, f"{prefix}HEATER") in ("0", "0.0"):
            assert program.process.poll() is None, program.lines
        assert value_of(ioc, f"{prefix}HEATER:ENABLE") == "On"
        return program

    yield start
    for program in programs:
        program.close()


def off(ioc: SoftIoc) -> bool:
    return (value_of(ioc, "HEATER"), value_of(ioc, "HEATER:ENABLE")) == ("0", "Off")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_the_heater_off(
    records: SoftIoc, heating: Callable[..., Program], number: signal.Signals
) -> None:
    *lines, last = heating().stop(number)  # a temperature may still be printed in between
    assert number.name in lines
    assert last == "the heater is off"
    assert off(records)


def test_the_interlock_ends_it_with_the_heater_off(
    records: SoftIoc, heating: Callable[..., Program]
) -> None:
    *_, interlock, last = heating("--limit", 20.5, ends=True).finish()
    assert (interlock, last) == ("interlock", "the heater is off")
    assert off(records)


def test_an_ioc_that_is_silent_does_not_keep_it(
    own_ioc: Callable[..., SoftIoc], unique: str, heating: Callable[..., Program]
) -> None:
    """Last values that cannot be written: it says so, and ends all the same."""
    ioc = own_ioc(RECORDS, {"P": unique})
    ioc.start()
    program = heating(ioc=ioc, prefix=unique)
    ioc.pause()
    *_, last = program.stop(signal.SIGTERM)
    assert last.startswith("CHECK THE HEATER: ") and unique in last


def test_an_ioc_that_is_gone_ends_it(
    own_ioc: Callable[..., SoftIoc], unique: str, heating: Callable[..., Program]
) -> None:
    ioc = own_ioc(RECORDS, {"P": unique})
    ioc.start()
    program = heating(ioc=ioc, prefix=unique)
    ioc.kill()
    assert "CHECK THE HEATER: " in program.until("^CHECK")
    # 1 if it was lost during a write: that error comes out of the task group
    assert program.process.wait(20) in (0, 1)
