"""`tests.support.forks`: a command that is a fork does what a command in a new Python does."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import AIOCA
from tests.support.forks import Fork, can_fork

Start = Callable[..., Any]


def new_python(arguments: list[str], **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*AIOCA, *arguments], **options)


@pytest.fixture(params=[Fork, new_python], ids=["fork", "new"])
def start(request: pytest.FixtureRequest) -> Start:
    if request.param is Fork and not can_fork(os.environ):
        pytest.skip("the forks need pidfds, and measure no coverage")
    return request.param  # type: ignore[no-any-return]


def test_streams_and_status(start: Start, p: str) -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with start(["caget", "-t", p + "ai"], **pipes) as process:
        assert process.communicate(60) == (b"1.5\n", b"")
        assert (process.poll(), process.returncode) == (0, 0)
    with start(["nonsense"], stdin=subprocess.DEVNULL, **pipes) as process:
        out, errors = process.communicate(60)
        assert process.returncode == 2
    assert out == b""
    assert errors.splitlines() == [b"aioca: No such command 'nonsense' (aioca --help shows more)"]


def test_environment_and_directory(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the environment of this process is in it that was not given."""
    monkeypatch.chdir(tmp_path)
    given = {k: v for k, v in os.environ.items() if not k.startswith("EPICS_CA")}
    given["EPICS_CA_ADDR_LIST"] = "127.0.0.1:1"
    with start(["cainfo", "-s", "1"], stdout=subprocess.PIPE, env=given) as process:
        text = process.communicate(60)[0].decode()
    settings = [line.strip() for line in text.splitlines() if "EPICS_CA_" in line]
    assert settings == ["EPICS_CA_ADDR_LIST=127.0.0.1:1"]
    arguments = ["ioc", "here.db"]
    (tmp_path / "here.db").write_text("nonsense")
    with start(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        errors = process.communicate(60)[1]
    assert process.returncode == 1
    assert b"syntax error" in errors  # of the IOC, which has read the file


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)]
)
def test_signals(start: Start, p: str, number: int, status: int) -> None:
    with start(["camonitor", p + "ai"], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline().startswith(f"{p}ai ".encode())
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.send_signal(number)
        assert process.wait(30) == status


def test_random_numbers_are_not_those_of_another_fork(start: Start, tmp_path: Path) -> None:
    """The port of an IOC is chosen at random."""
    (tmp_path / "one.db").write_text('record(ai, "X") {}')
    ports = set()
    for _ in range(2):
        with start(["ioc", str(tmp_path / "one.db")], stdout=subprocess.PIPE) as process:
            line = process.stdout.readline()
            process.send_signal(signal.SIGINT)
            process.wait(30)
        ports.add(line)
    assert len(ports) == 2


@pytest.mark.parametrize("variable", ["LC_ALL", "PYTHONUTF8", "COVERAGE_PROCESS_START"])
def test_what_counts_at_the_start_of_python(variable: str) -> None:
    assert not can_fork({**os.environ, variable: "0"})
