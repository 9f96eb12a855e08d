"""The Python parts of the commands in ``.ci``, which those load by path."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from aioca._api import arguments, connect, monitor, read, wait_for_value, write
from aioca.blocking import _monitor as blocking_monitor

CI = Path(__file__).parents[2] / ".ci"


def slow_machine(monkeypatch: pytest.MonkeyPatch, slowness: str) -> Any:
    monkeypatch.setenv("SLOWNESS", slowness)
    spec = importlib.util.spec_from_file_location("slow_machine", CI / "slow_machine.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_limits_from_a_second_on_are_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    longer = slow_machine(monkeypatch, "10").longer
    assert [longer(5), longer(1), longer(0.99), longer(0), longer(-1)] == [50, 10, 0.99, 0, -1]
    assert [longer(None), longer((12.0,)), longer("5")] == [None, (12.0,), "5"]


@pytest.mark.parametrize(
    ("args", "options", "expected"),
    [
        ((1, 5), {}, ((1, 50), {})),
        ((1,), {"timeout": 5, "other": 5}, ((1,), {"timeout": 50, "other": 5})),
        ((1,), {}, ((1,), {})),
        ((1, 5, 5), {}, ((1, 50, 5), {})),
    ],
)
def test_argument_that_is_a_limit(
    monkeypatch: pytest.MonkeyPatch, args: Any, options: Any, expected: Any
) -> None:
    module = slow_machine(monkeypatch, "10")
    given = module.waiting_longer(lambda *args, **options: (args, options), "timeout", 1)
    assert given(*args, **options) == expected


def test_limits_of_the_tests_are_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once pytest has loaded the plugin: `anyio.fail_after`, processes, and the calls of aioca."""
    module = slow_machine(monkeypatch, "3")
    monkeypatch.setattr(anyio, "fail_after", anyio.fail_after)
    for name in ("wait", "communicate"):
        monkeypatch.setattr(subprocess.Popen, name, getattr(subprocess.Popen, name))
    for calls in (read, write, connect, wait_for_value, monitor, blocking_monitor):
        monkeypatch.setattr(calls, "deadline_of", arguments.deadline_of)
    monkeypatch.setattr(arguments, "deadline_of", arguments.deadline_of)
    module.pytest_configure()

    async def limits() -> list[float]:
        portal: Any = SimpleNamespace(now=lambda: 100.0)
        with anyio.fail_after(2) as scope:
            left = scope.deadline - anyio.current_time()
        modules: list[Any] = [read, write, connect, wait_for_value, monitor, blocking_monitor]
        return [round(left), *(calls.deadline_of(5.0, portal) - 100 for calls in modules)]

    assert anyio.run(limits) == [6] + [15] * 6
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1.5)"]) as process:
        assert process.wait(timeout=1) == 0


XML = """<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite>
<testcase classname="tests.operations.test_get" name="a"/>
<testcase classname="tests.operations.test_get" name="b"><failure message="no"/></testcase>
<testcase classname="tests.operations.test_get" name="c"><skipped message="old"/></testcase>
<testcase classname="tests.operations.test_get" name="d"><error message="no"/></testcase>
<testcase classname="tests.monitors.test_forms" name="a"><system-out>x</system-out></testcase>
</testsuite></testsuites>
"""


def test_tests_by_file(tmp_path: Path) -> None:
    (tmp_path / "tests.xml").write_text(XML)
    done = subprocess.run(
        [sys.executable, str(CI / "tests_by_file.py"), str(tmp_path / "tests.xml")],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[2:] == [
        "| tests/monitors/test_forms.py | 1 | 0 | 0 |",
        "| tests/operations/test_get.py | 1 | 2 | 1 |",
        "| all | 2 | 2 | 1 |",
    ]
