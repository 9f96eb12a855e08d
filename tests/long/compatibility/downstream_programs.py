"""The programs whose tests ``downstream.py`` runs, and what their tests need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Program(NamedTuple):
    """Where the tests of a program are, and what they need beside it.

    Attributes:
        tests: files and folders in the source distribution, with options for pytest.
        needs: requirements beside the program.
        extras: those of the program that are installed with it.
    """

    version: str
    tests: Sequence[str]
    needs: Sequence[str] = ()
    extras: str = ""


PROGRAMS = {
    # Uses aioca by way of pytac
    "atip": Program(
        "1.0.0",
        ["tests", "-oasyncio_default_fixture_loop_scope=function"],
        ["pytest-asyncio", "testfixtures", "setuptools<81"],
    ),
    # Its own tests: the nearest there is to a specification of it
    "aioca": Program(
        "2.1",
        [
            "tests/test_aioca.py",
            "tests/test_cli.py",
            "-oasyncio_default_fixture_loop_scope=function",
        ],
        ["pytest-asyncio", "setuptools<81"],
    ),
    "coniql": Program(
        "0.4.2", ["tests"], ["pytest-asyncio", "pytest-aiohttp", "setuptools>=67,<81"]
    ),
    "fastcs": Program(
        "0.14.4",
        ["tests/transports/epics/ca", "-oasyncio_default_fixture_loop_scope=function"],
        [
            "pytest-asyncio",
            "pytest-mock",
            "pytest-timeout",
            "pytest-forked",
            "httpx",
            "p4p",
            "pytest-benchmark",
            "setuptools>=70.1,<81",
        ],
        extras="[all,demo]",
    ),
    "ophyd-async": Program(
        "0.21.3",
        [
            "tests/system_tests/epics",
            "tests/system_tests/test_tutorials.py",
            "tests/unit_tests/epics",
            "--ignore=tests/system_tests/epics/eiger",
        ],
        [
            "pytest-asyncio",
            "pytest-timeout",
            "pytest-rerunfailures",
            "pytest-forked",
            "ipython",
            "matplotlib",
            "ophyd>=1.10.7",
            "pyepics",
            "inflection",
            "setuptools<81",
        ],
        extras="[ca,pva,sim,tango]",
    ),
    "pandablocks-ioc": Program(
        "0.11.6",
        ["tests"],
        ["pytest>=8.2,<8.4", "pytest-asyncio~=0.21.2", "mock", "p4p", "setuptools>=64,<81"],
    ),
    # Uses aioca by way of ophyd-async. The module pyaml.bpm.bpm of the test that is left out is not
    # in the pyaml that is installed with it
    "pyaml-cs-oa": Program(
        "0.3.1",
        ["tests", "--ignore=tests/test_bpm_orbit.py"],
        ["setuptools<81"],
        extras="[epics,tango]",
    ),
    "pytac": Program(
        "2.0.0",
        ["tests", "-oasyncio_default_fixture_loop_scope=function"],
        ["pytest-asyncio", "testfixtures"],
    ),
    "softioc": Program(
        "4.7.2",
        ["tests/test_records.py", "tests/test_deviocstats.py", "tests/test_record_values.py"],
        ["pytest<9.1", "pytest-asyncio", "p4p", "setuptools<81"],
    ),
}

# Tests that pass with aioca 2.1 only, as patterns, and why that is as it should be.
EXPECTED: dict[str, dict[str, str]] = {
    "aioca": {
        "*::test_get_non_existent_pvs_no_throw": "it looks into the private module",
        "*::test_value_event_raises": "it tests the private module",
        "*::test_subscription": "it tests the private module",
        "*::test_monitor_with_failing_dbr": "it replaces a private part of a subscription",
        "*::test_cainfo": "str() of a CAInfo is what the cainfo tool prints",
        "*::test_caget_non_existent": "repr() tells a CATimeout from a CANothing",
        "*::test_caput_on_ro_pv_fails": "the message goes on after that of libca",
        "*::test_exception_raising_monitor_callback": "it is in the log, not on stderr",
        "*::test_async_exception_raising_monitor_callback": "it is in the log, not on stderr",
        "*::test_run_forever": "run() makes an event loop of its own; it stops another",
    }
}
