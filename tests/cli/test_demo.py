"""``aioca demo``, and what holds for every command: pipes, terminals, Ctrl-C, bad arguments."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from importlib.metadata import entry_points, version

import pytest

from tests.support.commands import (
    Output,
    in_terminal,
    run_cli,
    run_without,
    started,
)
from tests.support.proc import children_of, gone

MONITORING = "async with camonitor("

# -- aioca demo ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demos() -> dict[str, subprocess.CompletedProcess[str]]:
    """One run of the demo per backend, for several tests to look at."""
    return {
        backend: run_cli("demo", "--backend", backend, "--seconds", "3")
        for backend in ("asyncio", "trio")
    }


@pytest.fixture
def demo(
    demos: dict[str, subprocess.CompletedProcess[str]], backend: str
) -> subprocess.CompletedProcess[str]:
    return demos[backend]


def test_demo_succeeds_and_is_quiet(demo: subprocess.CompletedProcess[str], backend: str) -> None:
    assert demo.stderr == ""
    assert demo.returncode == 0
    assert f"({backend})" in demo.stdout
    assert "\x1b" not in demo.stdout  # it is no terminal


def test_demo_gets(demo: subprocess.CompletedProcess[str]) -> None:
    assert re.search(r"^ +TEMPERATURE +21\.5 degC$", demo.stdout, re.MULTILINE)
    assert re.search(r"^ +SETPOINT +20\.0 degC$", demo.stdout, re.MULTILINE)
    assert re.search(r"^ +MODE +1 = Manual$", demo.stdout, re.MULTILINE)
    assert re.search(r"^ +NAME +demo$", demo.stdout, re.MULTILINE)
    assert re.search(r"^ +SPECTRUM +\[0\. 1\. 4\. 9\. 4\. 1\. 0\.\]$", demo.stdout, re.MULTILINE)


def test_demo_puts(demo: subprocess.CompletedProcess[str]) -> None:
    assert "read back: 25.5" in demo.stdout
    assert "read back: Automatic" in demo.stdout
    took = re.search(r"MOVE\.A.*\n +done after ([0-9.]+) ms", demo.stdout)
    assert took is not None
    assert float(took[1]) >= 690  # the record takes 0.7 s: its completion was waited for


def test_demo_shows_a_refused_put(demo: subprocess.CompletedProcess[str]) -> None:
    assert re.search(r"Sideways.*\n +CARequestError: \S+:MODE: .*refused", demo.stdout)


def test_demo_shows_info(demo: subprocess.CompletedProcess[str]) -> None:
    assert re.search(r"^ +State: +connected$", demo.stdout, re.MULTILINE)
    assert re.search(r"^ +Native data type: +DBF_DOUBLE$", demo.stdout, re.MULTILINE)


def test_demo_shows_moving_values(demo: subprocess.CompletedProcess[str]) -> None:
    monitored = demo.stdout.partition(MONITORING)[2]
    counters = [float(number) for number in re.findall(r"COUNTER ([0-9.]+)", monitored)]
    assert len(counters) >= 2
    assert counters == sorted(set(counters))
    total = re.search(r"(\d+) updates in 3 s", monitored)
    assert total is not None
    assert int(total[1]) >= 30  # 25 a second are made


def test_demo_stops_its_ioc(demo: subprocess.CompletedProcess[str]) -> None:
    assert demo.stdout.rstrip().endswith("Stopping the soft IOC.")
    port = re.search(r"127\.0\.0\.1:(\d+)", demo.stdout)
    assert port is not None
    with socket.socket() as tcp, pytest.raises(ConnectionRefusedError):
        tcp.connect(("127.0.0.1", int(port[1])))


def test_two_demos_do_not_meet() -> None:
    """Each has its own port and its own random prefix."""
    seen = set()
    with (
        started("demo", "--seconds", "0", stdout=subprocess.PIPE) as one,
        started("demo", "--seconds", "0", stdout=subprocess.PIPE) as two,
    ):
        for process in (one, two):
            text = process.communicate(timeout=60)[0].decode()
            assert process.returncode == 0
            found = re.search(r"127\.0\.0\.1:(\d+), its records under (\S+)", text)
            assert found is not None
            seen |= {found[1], found[2]}
    assert len(seen) == 4


def test_demo_leaves_the_control_system_of_the_user_alone(backend: str) -> None:
    """The EPICS_CA_* settings of the user name a host: it must not get a single packet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
        udp.bind(("127.0.0.1", 0))
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        udp_port, tcp_port = udp.getsockname()[1], tcp.getsockname()[1]
        done = run_cli(
            "demo", "--backend", backend, "--seconds", "0",
            environment={
                "EPICS_CA_ADDR_LIST": f"127.0.0.1:{udp_port}",
                "EPICS_CA_AUTO_ADDR_LIST": "YES",
                "EPICS_CA_NAME_SERVERS": f"127.0.0.1:{tcp_port}",
                "EPICS_CA_SERVER_PORT": str(udp_port),
                "EPICS_CAS_BEACON_ADDR_LIST": f"127.0.0.1:{udp_port}",
                "EPICS_CAS_INTF_ADDR_LIST": "127.0.0.2",
                "EPICS_CA_MAX_ARRAY_BYTES": "nonsense",
            },
        )  # fmt: skip
        assert done.stderr == ""
        assert done.returncode == 0
        for listener in (udp, tcp):
            listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            udp.recvfrom(65536)
        with pytest.raises(BlockingIOError):
            tcp.accept()


# -- In a terminal ---------------------------------------------------------------------------------


def test_rows_are_redrawn_in_a_terminal(backend: str) -> None:
    with in_terminal("demo", "--backend", backend, "--seconds", "2") as (process, output, _):
        text = output.to_the_end()
        assert process.wait(10) == 0
    live = text.partition(MONITORING)[2]
    assert live.count("\x1b[3A") >= 10  # three rows up, ten times a second
    assert "\x1b[3A" not in text.partition(MONITORING)[0]
    # What is left on the screen: each row once, however often it was drawn.
    frames = live.split("\x1b[3A")
    for frame in frames[1:]:
        names = re.findall(r"\x1b\[2K    (COUNTER|SINE|NOISE)", frame)
        assert names == ["COUNTER", "SINE", "NOISE"]
    counters = [re.findall(r"COUNTER +([0-9.]+)", frame)[0] for frame in frames[1:]]
    assert len(set(counters)) > 5
    severities = set(re.findall(r"\b(NO_ALARM|MINOR|MAJOR|INVALID)\b", live))
    assert "NO_ALARM" in severities and "INVALID" not in severities


def test_ctrl_c_in_a_terminal(backend: str) -> None:
    """Typed, so that it goes to all of the foreground process group."""
    with in_terminal("demo", "--backend", backend, "--seconds", "60") as (process, output, keys):
        output.until(lambda text: "\x1b[3A" in text)
        children = children_of(process.pid)
        os.write(keys, b"\x03")
        text = output.to_the_end(10)
        assert process.wait(10) == 130
    assert children
    assert gone(children)
    assert "Traceback" not in text
    assert text.rstrip().endswith("stopped")


# -- Ctrl-C ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "when",
    ["Starting a soft IOC", "await caget(", "MOVE.A", "    COUNTER"],
    ids=["starting", "getting", "waiting for a put", "monitoring"],
)
def test_ctrl_c(backend: str, when: str) -> None:
    """It ends promptly with 130, says so, and leaves neither process nor noise."""
    with started(
        "demo", "--backend", backend, "--seconds", "60",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        output = Output(process.stdout.fileno())
        output.until(lambda text: when in text)
        children = children_of(process.pid)
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        text = output.to_the_end(10)
        assert process.wait(10) == 130
        took = time.monotonic() - begin
        errors = process.stderr.read().decode()
    assert errors == ""
    assert text.rstrip().endswith("stopped")
    assert took < 5.0
    assert children or when.startswith("Starting")
    assert gone(children)


def test_a_killed_demo_leaves_no_ioc() -> None:
    with started("demo", "--seconds", "60", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        Output(process.stdout.fileno()).until(lambda text: MONITORING in text)
        children = children_of(process.pid)
        process.kill()
    assert children
    assert gone(children)


def test_a_reader_that_has_seen_enough() -> None:
    """``aioca demo | head -1``: no traceback, and no IOC that stays."""
    with started(
        "demo", "--seconds", "60", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        Output(process.stdout.fileno()).until(lambda text: MONITORING in text)
        children = children_of(process.pid)
        process.stdout.close()
        process.wait(20)
        errors = process.stderr.read().decode()
    assert gone(children)
    assert "Traceback" not in errors


# -- Arguments -------------------------------------------------------------------------------------


def test_version() -> None:
    done = run_cli("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{version('aioca')}\n", "")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["demo", "--help"]])
def test_help(arguments: list[str]) -> None:
    done = run_cli(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: aioca")
    assert ("--backend" if "demo" in arguments else "demo") in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "command"),
        (["nonsense"], "nonsense"),
        (["demo", "--backend", "curio"], "curio"),
        (["demo", "--backend"], "--backend"),
        (["demo", "--seconds", "soon"], "soon"),
        (["demo", "--seconds", "nan"], "nan"),
        (["demo", "--seconds", "-1"], "-1"),
        (["demo", "extra"], "extra"),
        (["--nonsense"], ""),
    ],
    ids=lambda given: " ".join(given) or "nothing" if isinstance(given, list) else "",
)
def test_bad_arguments(arguments: list[str], said: str) -> None:
    """Exit status 2 and one line, before anything is started."""
    done = run_cli(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("aioca")
    assert done.stderr.count("\n") == 1
    assert "--help" in done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_is_installed() -> None:
    (command,) = entry_points(group="console_scripts", name="aioca")
    assert command.value == "aioca._cli:main"
    assert callable(command.load())


def test_trio_is_missing() -> None:
    done = run_without("trio", "demo", "--backend", "trio")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("aioca demo: trio is not installed")
    assert "pip install 'aioca[trio]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_trio_is_missing_and_not_needed() -> None:
    done = run_without("trio", "demo", "--seconds", "0")
    assert (done.returncode, done.stderr) == (0, "")
    assert "(asyncio)" in done.stdout


EXTRAS = "click,rich,matplotlib,trio"


def test_the_demo_needs_no_extras() -> None:
    done = run_without(EXTRAS, "demo")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.rstrip().endswith("Stopping the soft IOC.")


def test_the_version_needs_no_extras() -> None:
    done = run_without(EXTRAS, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{version('aioca')}\n", "")


@pytest.mark.parametrize("arguments", [[], ["caget", "X"], ["demo", "--seconds", "1"]])
def test_all_else_says_what_to_install(arguments: list[str]) -> None:
    done = run_without(EXTRAS, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "pip install 'aioca[cli]'" in done.stderr
