"""``aioca casw``: what beacons tell, beside the tool of EPICS base."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from aioca._cli import main
from aioca._cli.wire.beacons import Watch
from aioca._cli.wire.protocol import Beacon, Message
from aioca._cli.wire.repeater import repeater_runs
from aioca.testing import SoftIoc, free_port
from tests.support.base_tools import MISSING, base_environment, base_tool, find_base
from tests.support.commands import Output, in_terminal, started
from tests.support.proc import alive, children_of, gone

SERVER = ("10.0.0.1", 5064)


def _sightings(*beacons: tuple[int, float], minor: int = 13, begin: float = 0.0) -> list[bool]:
    """Whether each is an anomaly: beacons with their number and time."""
    watch = Watch(begin)
    return [watch.take(Beacon(SERVER, n, minor), now).anomaly for n, now in beacons]


# -- What is an anomaly ----------------------------------------------------------------------------


@pytest.mark.unit
def test_a_steady_server_is_news_only_if_it_was_not_there_before() -> None:
    steady = [(n, 100.0 + 15 * n) for n in range(5)]
    assert _sightings(*steady, begin=98.0) == [False] * 5
    assert _sightings(*steady, begin=0.0) == [False, True, False, False, False]


@pytest.mark.unit
def test_a_server_that_was_away_is_an_anomaly() -> None:
    """And so is the first usual period after that, against a mean that was drawn up."""
    times = [0.0, 15, 30, 45, 105, 120]
    assert _sightings(*enumerate(times), begin=-1.0) == [False] * 4 + [True, True]


@pytest.mark.unit
def test_a_server_that_starts_again_is_an_anomaly() -> None:
    """It sends quickly then; the first numbers of the new count are not believed."""
    beacons = [(7, 0.0), (8, 15.0), (9, 30.0), (0, 31.0), (1, 31.02), (2, 31.06)]
    assert _sightings(*beacons, begin=-1.0) == [False, False, False, False, True, True]


@pytest.mark.unit
def test_beacons_that_come_twice_or_with_gaps_change_nothing() -> None:
    watch = Watch(-1.0)
    for number, now in [(1, 0.0), (2, 15.0), (2, 15.1), (1, 15.2), (4, 40.0)]:
        assert not watch.take(Beacon(SERVER, number, 13), now).anomaly
    assert watch.take(Beacon(SERVER, 5, 13), 30.0).current == 15.0  # since the one of 15 s


@pytest.mark.unit
def test_old_servers_do_not_count() -> None:
    assert _sightings((0, 0.0), (0, 15.0), (0, 30.0), (0, 31.0), minor=9, begin=-1.0) == [
        False, False, False, True,
    ]  # fmt: skip


@pytest.mark.unit
def test_numbers_start_over_after_32_bits() -> None:
    beacons = [(2**32 - 2, 0.0), (2**32 - 1, 15.0), (1, 30.0), (2, 31.0)]
    assert _sightings(*beacons, begin=-1.0)[-1]


@pytest.mark.unit
def test_servers_are_apart() -> None:
    watch = Watch(-1.0)
    assert not watch.take(Beacon(("10.0.0.1", 1), 1, 13), 0.0).current
    assert not watch.take(Beacon(("10.0.0.1", 2), 1, 13), 1.0).current
    assert watch.take(Beacon(("10.0.0.1", 1), 2, 13), 2.0).current == 2.0


# -- The command -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """That of a repeater of ours."""
    port = free_port()
    with started("repeater", "--port", str(port), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        Output(process.stdout.fileno()).until(lambda text: "CA repeater at" in text)
        yield port


class Server:
    """Sends beacons."""

    def __init__(self, repeater: int, server_port: int) -> None:
        self._to = ("127.0.0.1", repeater)
        self._port = server_port
        self._number = 0
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def beacon(self, skip: int = 0) -> None:
        self._number += 1 + skip
        self._sock.sendto(bytes(Message(13, 13, self._port, self._number)), self._to)

    def until_heard(self, output: Output, server_port: int = 6999) -> None:
        """Send beacons of another server until the program listens."""
        while f":{server_port}" not in output.text:
            number = int(10 * time.time()) % 2**31
            self._sock.sendto(bytes(Message(13, 13, server_port, number)), self._to)
            try:
                output.until(lambda text: f":{server_port}" in text, 0.2)
            except AssertionError:
                pass  # not yet

    def close(self) -> None:
        self._sock.close()


@contextmanager
def server(repeater: int, server_port: int) -> Iterator[Server]:
    made = Server(repeater, server_port)
    try:
        yield made
    finally:
        made.close()


def _environment(port: int) -> dict[str, str]:
    return {**os.environ, "EPICS_CA_REPEATER_PORT": str(port)}


def _lines(text: str, server_port: int) -> list[str]:
    """What was printed of a server, times and periods left out."""
    kept, ours = [], False
    for line in text.splitlines():
        if not line.startswith("\t"):
            ours = f":{server_port} " in line
        if ours:
            timeless = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{9}", "TIME", line)
            kept.append(re.sub(r"=\d+\.\d{6}", "=N", timeless))
    return kept


@pytest.mark.base
@pytest.mark.skipif(find_base() is None, reason=MISSING)
def test_it_prints_what_the_tool_of_epics_base_prints(port: int) -> None:
    """Both registered with our repeater, and the same beacons.

    What is an anomaly hangs on when each of the two gets a beacon: on a machine that is too busy
    they may rightly differ, so there is more than one attempt.
    """
    with (
        subprocess.Popen(
            [base_tool("casw"), "-i", "2"],
            stdout=subprocess.PIPE,
            env=base_environment({"EPICS_CA_REPEATER_PORT": str(port)}),
        ) as theirs,  # fmt: skip
        started("casw", "-i", "2", stdout=subprocess.PIPE, env=_environment(port)) as ours,
    ):
        try:
            assert theirs.stdout is not None and ours.stdout is not None
            outputs = [Output(theirs.stdout.fileno()), Output(ours.stdout.fileno())]
            for server_port in (6101, 6102, 6103, 6104):
                shown = _series(port, server_port, outputs)
                marked = sum(line.startswith("* ") for line in shown[1])
                if shown[0] == shown[1] and marked == 5:
                    break
        finally:
            theirs.kill()
    assert shown[0] == shown[1]
    assert marked == 5
    assert sum(line == "\testimate=N current=N" for line in shown[1]) == 5


def _series(repeater: int, server_port: int, outputs: list[Output]) -> list[list[str]]:
    """Send beacons, and give what each of some programs prints of them."""
    with server(repeater, server_port) as ioc:
        for output in outputs:
            ioc.until_heard(output)
        # After a while (what is seen sooner may have been there before): steady, a number left
        # out, away for a while, early, steady.
        beacons = [(1.0, 0), (0.2, 0), (0.2, 0), (0.2, 1), (0.1, 0), (0.9, 0), (0.05, 0), (0.2, 0),
                   (0.2, 7)]  # fmt: skip
        for wait, skip in beacons:
            time.sleep(wait)  # the periods are what is shown
            ioc.beacon(skip)
        for output in outputs:
            ioc.until_heard(output, server_port + 1000)  # all before that is printed then
    return [_lines(output.text, server_port) for output in outputs]


def test_beacons_of_a_soft_ioc(port: int) -> None:
    with started("casw", "--json", "-i2", stdout=subprocess.PIPE, env=_environment(port)) as casw:
        assert casw.stdout is not None
        output = Output(casw.stdout.fileno())
        with server(port, 6002) as ready:
            ready.until_heard(output)
        with SoftIoc("", environment={"EPICS_CAS_BEACON_PORT": str(port)}) as ioc:
            output.until(lambda text: text.count(f'"127.0.0.1:{ioc.port}"') >= 3)
    seen = [json.loads(line) for line in output.text.splitlines() if f":{ioc.port}" in line]
    assert [beacon["number"] for beacon in seen] == sorted(beacon["number"] for beacon in seen)
    assert any(beacon["anomaly"] for beacon in seen)  # it was not there when the watch began
    assert {beacon["version"] for beacon in seen} == {"4.13"}


def test_it_starts_a_repeater_where_none_runs(port: int) -> None:
    """Which stays, since by then others may count on it: libca does the same."""
    own = free_port()
    with started(
        "casw", "-i2", stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment(own)
    ) as casw, server(own, 6003) as ioc:  # fmt: skip
        assert casw.stdout is not None and casw.stderr is not None
        messages = Output(casw.stderr.fileno())
        messages.until(lambda text: "\n" in text)
        found = re.search(r"started one \(pid (\d+)\), which keeps running", messages.text)
        assert found is not None, messages.text
        repeater = int(found[1])
        try:
            ioc.until_heard(Output(casw.stdout.fileno()))
            casw.send_signal(signal.SIGINT)
            assert casw.wait(10) == 130
            assert alive(repeater)
            assert repeater_runs(own)
        finally:
            os.kill(repeater, signal.SIGTERM)
    assert gone({repeater})


def test_in_a_terminal_until_ctrl_c(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPICS_CA_REPEATER_PORT", str(port))
    with in_terminal("casw", "-i", "2") as (process, output, keyboard), server(port, 6004) as ioc:
        ioc.until_heard(output)
        os.write(keyboard, b"\x03")
        assert process.wait(10) == 130
        assert "Traceback" not in output.to_the_end()
        assert not children_of(process.pid)


def test_without_a_repeater_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Something else has the port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", 0))
        port = taken.getsockname()[1]
        monkeypatch.setenv("EPICS_CA_REPEATER_PORT", str(port))
        assert main(["casw"]) == 1
    assert capsys.readouterr().err == (
        f"aioca casw: no CA repeater answers at UDP port {port}; `aioca doctor` shows the cause\n"
    )


def test_bad_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["casw", "-i", "much"]) == 2
    assert capsys.readouterr().err.startswith("aioca casw: Invalid value for '-i'")
