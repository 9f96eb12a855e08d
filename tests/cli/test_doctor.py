"""``aioca doctor``: broken set-ups and the report on one PV."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from aioca import CAInfo
from aioca._cli import main
from aioca._cli.diagnosis.conversation import converse
from aioca._cli.diagnosis.diagnose import diagnose
from aioca._cli.diagnosis.examine import Report
from aioca._cli.diagnosis.examine_pv import PvReport
from aioca._cli.diagnosis.findings_pv import _FIXED
from aioca._cli.diagnosis.report import print_report
from aioca._cli.diagnosis.settings import Settings, read_settings
from aioca._cli.wire.search import Found
from aioca.testing import SoftIoc, free_port
from tests.support.broken_setups import BROKEN, Setup, answering_but_mute, nothing_broken, sessions
from tests.support.commands import in_terminal, run_cli, started
from tests.support.programs import environment_for

UNIT = True


# -- Broken set-ups, with the command itself -------------------------------------------------------
ADVICE = {
    "wrong_port": "Start the server, or find out its port",
    "low_port": "Set EPICS_CA_SERVER_PORT to a port from 5001",
    "no_that_means_yes": "Set EPICS_CA_AUTO_ADDR_LIST=NO",
    "misspelt": "Check the spelling",
    "wrong_case": "Use PUMP:CURRENT.",
    "wrong_field": "Use one of its fields",
    "refused_channel": "Use another field of PUMP:CURRENT",
    "refused_filter": 'Correct the filter `{"dbnd":{"width":1}}`, or leave it out',
    "dollar_on_a_number": "Leave out the `$`",
    "array_too_large": "Unset EPICS_CA_AUTO_ARRAY_BYTES here",
    "array_over_the_limit_of_the_server": "Start the server with EPICS_CA_MAX_ARRAY_BYTES=",
    "two_servers": "Take PUMP:CURRENT off all of them but one",
    "frozen": "Check whether its process is stopped",
    "unknown_host": "Correct `pump-ioc.invalid` in EPICS_CA_ADDR_LIST",
    "read_only": "PUMP:SETPOINT may be read, not written, by",
    "no_writes": "PUMP:LIMIT refuses every write: the field DISP of its record is not 0: to write",
    "disabled": "PUMP:VALVE is in a record that is disabled",
    "no_time": "PUMP:PULSE has no time stamp (it is 0, 1990-01-01): its record takes the time from",
    "no_beacons": "Set EPICS_CAS_BEACON_ADDR_LIST in the environment of the server",
    "mute_circuit": "Check whether its process is stopped or overloaded",
    "name_server_gone": "Start the name server 127.0.0.1:",
}
ONLY_NOTES = {"read_only", "no_writes", "disabled", "no_time"}
PAGE = "find-out-why-a-pv-does-not-connect.md"
Session = tuple[Setup, str, str, int]


@pytest.fixture(scope="module")
def said() -> dict[str, Session]:
    """What the doctor says to each set-up."""
    makers = (nothing_broken, *BROKEN)
    options = ("--window", "0.6", "--timeout", "1.5")
    some = sessions(makers, *options)
    return {maker.__name__: session for maker, session in zip(makers, some, strict=True)}


@pytest.mark.process
def test_a_good_pv(said: dict[str, Session]) -> None:
    setup, output, errors, status = said["nothing_broken"]
    at = re.escape(setup.environment["EPICS_CA_ADDR_LIST"])
    assert (errors, status) == ("", 0)
    for line in (
        rf"  EPICS_CA_ADDR_LIST +{at} +environment",
        r"  EPICS_CA_CONN_TMO +30 +default",
        rf"  {at}  answers searches  EPICS_CA_ADDR_LIST",
        r"  127\.0\.0\.1:\d+  does not run; clients start one",
        rf"  answered by  {at} after [0-9.]+ ms \(UDP, CA 4\.13\)",
        r"  circuit      connected to \S+ in [0-9.]+ ms",
        r"  type         double, 1 element, in a record of type ai",
        r"  access       read, write",
        r"  value        7\.5, read in [0-9.]+ ms",
        r"What to do: Nothing: all is well\.",
    ):
        assert re.search(rf"(?m)^{line}$", output), line
    assert "Findings" not in output
    assert "\x1b" not in output


@pytest.mark.process
@pytest.mark.parametrize("name", ADVICE)
def test_a_broken_set_up(said: dict[str, Session], name: str) -> None:
    _, output, errors, status = said[name]
    assert errors == ""  # libca's own complaints neither
    last = output.rstrip().splitlines()[-1]
    assert last.startswith("What to do: ")
    assert last.removeprefix("What to do: ").startswith(ADVICE[name])
    assert status == (0 if name in ONLY_NOTES else 1)
    assert "Findings" in output


@pytest.mark.process
def test_every_set_up_has_its_advice() -> None:
    assert [maker.__name__ for maker in BROKEN] == list(ADVICE)


@pytest.mark.process
def test_the_docs_show_what_is_said(said: dict[str, Session]) -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / PAGE
    shown = re.findall(r"(?m)^### (.*)|^What to do: (.*)$", page.read_text())
    advice = {title: text for (title, _), (_, text) in zip(shown[::2], shown[1::2], strict=True)}

    def plain(text: str) -> str:
        return re.sub(r"127\.0\.0\.1:\d+|\S+@\S+|UDP port \d+", "*", text)

    assert list(advice) == [setup.title for setup, *_ in said.values()]
    for setup, output, _, _ in said.values():
        last = output.rstrip().splitlines()[-1].removeprefix("What to do: ")
        assert plain(advice[setup.title]) == plain(last)


def test_json_through_a_name_server(ioc: SoftIoc, p: str, backend: str) -> None:
    environment = {
        "EPICS_CA_ADDR_LIST": "", "EPICS_CA_AUTO_ADDR_LIST": "NO",
        "EPICS_CA_NAME_SERVERS": f"127.0.0.1:{ioc.port}",
        "EPICS_CA_REPEATER_PORT": str(free_port()),
        "PATH": "/none",  # where no caRepeater is found
    }  # fmt: skip
    done = run_cli(
        "doctor", "--json", "--backend", backend, "--window", "0.3", f"{p}wf:LONG", f"{p}ai",
        environment=environment,
    )  # fmt: skip
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.count("\n") == 1
    report = json.loads(done.stdout)
    assert report["ok"]
    assert report["name_servers"][0]["tcp"] == "speaks"
    assert report["settings"]["EPICS_CA_CONN_TMO"] == {"value": "30", "given": None}
    wave, scalar = report["pvs"]
    assert (wave["datatype"], wave["count"]) == ("long", 5)
    assert (wave["read"], wave["write"]) == (True, True)
    assert (scalar["record_type"], scalar["count"], scalar["state"]) == ("ai", 1, "connected")
    (answer,) = scalar["answers"]
    assert answer["server"] == f"127.0.0.1:{ioc.port}"
    assert answer["version"] == "4.13"
    assert answer["via"] == f"TCP 127.0.0.1:{ioc.port}"


def test_found_through_a_name_server_only(ioc: SoftIoc, p: str) -> None:
    environment = {
        "EPICS_CA_ADDR_LIST": "", "EPICS_CA_AUTO_ADDR_LIST": "NO",
        "EPICS_CA_NAME_SERVERS": f"127.0.0.1:{ioc.port}",
        "EPICS_CA_REPEATER_PORT": str(free_port()), "PATH": "/none",
    }  # fmt: skip
    done = run_cli("doctor", "--json", "--window", "0.3", f"{p}ai", environment=environment)
    (finding,) = json.loads(done.stdout)["findings"]
    assert finding["severity"] == "note"
    assert finding["what"] == f"{p}ai is found through a name server only"


@pytest.mark.process
def test_beacons_that_are_heard() -> None:
    """The doctor ends as soon as it has heard the server; a new server sends beacons often."""
    repeater = str(free_port())
    environment = {"EPICS_CAS_BEACON_PORT": repeater}
    with SoftIoc('record(ai, "X") { field(PINI, "YES") }', environment=environment) as soft_ioc:
        done = run_cli(
            "doctor", "--json", "--window", "0.3", "--beacons", "30", "X",
            environment={**environment_for(soft_ioc.port), "EPICS_CA_REPEATER_PORT": repeater,
                         "PATH": "/none"},
        )  # fmt: skip
    report = json.loads(done.stdout)
    assert report["findings"] == []
    assert report["beacons"] == {f"127.0.0.1:{soft_ioc.port}": True}


def test_beacons_without_a_repeater() -> None:
    report = Report(Settings(repeater_port=5999), beacon_seconds=1.0)
    (finding,) = [f for f in diagnose(report) if f.about == "beacons"]
    assert finding.severity == "error" and "5999" in finding.what


def test_in_a_terminal(ioc: SoftIoc, p: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment_for(ioc.port).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    arguments = ["doctor", "--window", "0.3", f"{p}none"]
    with in_terminal(*arguments) as (process, output, _):
        text = output.to_the_end()
        assert process.wait(10) == 1
    assert "\x1b[1;31merror" in text.replace("\x1b[1m\x1b[31m", "\x1b[1;31m")
    assert " What to do " in text
    assert "─────╯" in text


@pytest.mark.process
@pytest.mark.parametrize(
    ("options", "sockets"),
    [
        pytest.param(["--window", "300"], 1, id="our search"),
        pytest.param(["--window", "0.05", "--timeout", "300"], 3, id="libca"),  # its is the third
    ],
)
def test_ctrl_c_is_heard_at_once(
    options: list[str], sockets: int, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(30.0)
        for name, value in environment_for(udp.getsockname()[1]).items():
            monkeypatch.setenv(name, value)
        arguments = ["doctor", "--backend", backend, *options, "X"]
        with in_terminal(*arguments) as (process, output, keyboard):
            searching: set[object] = set()
            while len(searching) < sockets:
                searching.add(udp.recvfrom(65536)[1])
            os.write(keyboard, b"\x03")
            assert process.wait(20) == 130
            assert "Traceback" not in output.to_the_end()


@pytest.mark.parametrize("name", ["", "X" * 992, "é" * 496])
def test_bad_names_are_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", name]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("aioca doctor: the name of a PV has 1 to 991 bytes")


@pytest.mark.parametrize("name", ["\udcff", "A\n", "\x1b[2J"])
def test_names_that_cannot_be_printed_are_refused(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first is what a byte that is no UTF-8 becomes on the command line."""
    assert main(["doctor", name]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1 and f"not {name!r}" in err


def test_what_the_locale_does_not_have(ioc: SoftIoc) -> None:
    done = run_cli(
        "doctor", "--window", "0.1", "--timeout", "0.1", "µ:€",
        environment={**environment_for(ioc.port), "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    assert "\n\\xb5:\\u20ac\n" in done.stdout


# -- One PV ----------------------------------------------------------------------------------------


def examined(*arguments: str, port: int, **environment: str) -> dict[str, Any]:
    """The doctor's report."""
    done = run_cli(
        "doctor", "--json", "--window", "0.5", "--timeout", "2", *arguments,
        environment={
            **environment_for(port), "EPICS_CA_REPEATER_PORT": str(free_port()), **environment,
        },
    )  # fmt: skip
    assert done.stderr == ""
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if report["ok"] else 1)
    return report


def test_a_server_that_refuses_the_channel(ioc: SoftIoc, p: str) -> None:
    """It says that it does, and why that may be; and nobody is told to restart a server."""
    expected = {
        f"{p}ai.TIME": f"use another field of {p}ai",
        f"{p}ai.VAL$": "leave out the `$`",
        f"{p}stringout.DESC$$": "leave out the `$`",
        f"{p}ai.VAL ": f"use '{p}ai.VAL', without the blank",
        f'{p}ai.{{"nosuch":{{}}}}': 'correct the filter `{"nosuch":{}}`',
        f"{p}wf:LONG.VAL[1:2": "correct the filter `[1:2`",
    }
    report = examined(*expected, port=ioc.port)
    at = f"127.0.0.1:{ioc.port}"
    found = {finding["about"]: finding for finding in report["findings"]}
    assert list(found) == list(expected)
    for pv, advice in expected.items():
        assert found[pv]["severity"] == "error"
        assert found[pv]["what"] == f"{at} has {pv}, but refuses a channel to it"
        assert found[pv]["advice"].startswith(advice)
        assert "restart" not in found[pv]["advice"]
    assert [pv["refused_by"] for pv in report["pvs"]] == [[at]] * len(expected)
    assert [pv["state"] for pv in report["pvs"]] == ["never connected"] * len(expected)


def test_a_channel_is_asked_for(ioc: SoftIoc, p: str) -> None:
    server = ("127.0.0.1", ioc.port)
    assert converse(server, [], 10.0, f"{p}ai").channel == "made"
    assert converse(server, [], 10.0, f"{p}ai.TIME").channel == "refused"
    both = converse(server, [f"{p}none", f"{p}ai"], 10.0, f"{p}ai")
    assert (both.channel, len(both.found), both.missing) == ("made", 1, [f"{p}none"])
    assert converse(server, [], 10.0).channel == ""
    with answering_but_mute() as port:
        assert converse(("127.0.0.1", port), [], 0.2, "X").channel == ""


def test_what_may_only_be_read(ioc: SoftIoc, p: str) -> None:
    """A rule of access security is advised only where it would help."""
    fixed = [f"{p}ai.STAT", f"{p}ai.SEVR", f"{p}ai.NAME$", f"{p}ao:readonly.STAT", f"{p}calc.LA"]
    ruled = [f"{p}ao:readonly", f"{p}ao:readonly.DESC"]
    report = examined(*fixed, *ruled, port=ioc.port)
    assert report["ok"]
    findings = {f["about"]: f for f in report["findings"] if "may be read" in f["what"]}
    assert list(findings) == [*fixed, *ruled]
    for pv in fixed:
        field = pv.partition(".")[2].rstrip("$")
        assert findings[pv]["what"] == f"{pv} may be read, not written, by any client"
        assert findings[pv]["advice"].endswith(f"let no client write the field {field}")
        assert "no rule of access security would help" in findings[pv]["advice"]
    for pv in ruled:
        assert findings[pv]["advice"].startswith("to write it, have a RULE for ")


FIELDS = re.compile(r"\b([A-Z0-9]{1,5}) *: ")


@pytest.mark.process
def test_fields_of_any_record_that_no_client_writes() -> None:
    """Those of dbCommon, as an IOC has them: what records of all types have in common."""
    types = ["ai", "bo", "compress", "event", "stringout"]
    with SoftIoc("".join(f'record({kind}, "{kind}") {{}}\n' for kind in types)) as ioc:
        names = [
            f"{kind}.{field}"
            for kind in types
            for field in sorted(set(FIELDS.findall(ioc.command(f"dbpr {kind} 4"))))
        ]
        done = subprocess.run(
            [sys.executable, "-c", RIGHTS, *names], env=environment_for(ioc.port),
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
    fixed: dict[str, set[str]] = {kind: set() for kind in types}
    for name in done.stdout.split():
        kind, _, field = name.partition(".")
        fixed[kind].add(field)
    assert set.intersection(*fixed.values()) == _FIXED


RIGHTS = """
import sys
import aioca
names = sys.argv[1:]
infos = aioca.run(aioca.cainfo(names, timeout=3, throw=False))
for name, info in zip(names, infos):
    if isinstance(info, aioca.CAInfo) and not info.write:
        print(name)
"""


def test_an_array_is_read_whole(ioc: SoftIoc, p: str) -> None:
    report = examined(f"{p}wf:LONG", f"{p}wf:empty", f"{p}ai", port=ioc.port)
    assert report["ok"]
    assert [pv["elements_read"] for pv in report["pvs"]] == [3, 0, None]
    assert [pv["record_type"] for pv in report["pvs"]] == ["waveform", "waveform", "ai"]


@pytest.mark.process
@pytest.mark.parametrize("whose", ["server", "client"])
def test_an_array_that_is_too_large(whose: str) -> None:
    """Its first element comes, the whole does not: whose setting that is, is told."""
    setting = {"EPICS_CA_AUTO_ARRAY_BYTES": "NO"}
    at_server, here = (setting, {}) if whose == "server" else ({}, setting)
    database = 'record(histogram, "H") { field(NELM, "5000") }'
    with SoftIoc(database, environment=at_server) as ioc:
        report = examined("H", port=ioc.port, **here)
    finding = report["findings"][0]
    assert (finding["about"], finding["severity"]) == ("H", "error")
    assert finding["what"].startswith("the 5000 elements of H cannot be read")
    (pv,) = report["pvs"]
    assert (pv["record_type"], pv["elements_read"]) == ("histogram", None)
    if whose == "server":
        assert finding["advice"].startswith("start the server with EPICS_CA_MAX_ARRAY_BYTES=40000")
    else:
        assert "though they can be written" in finding["what"]
        assert finding["advice"].startswith("unset EPICS_CA_AUTO_ARRAY_BYTES here")
        assert "libca drops more than 16408" in pv["array_problem"]


def _channel_of(write: bool) -> Any:
    return SimpleNamespace(
        ok=True, host="gw:5064", state=2, state_strings=CAInfo.state_strings, count=1,
        datatype=6, datatype_strings=CAInfo.datatype_strings, read=True, write=write,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "shown", "advice"),
    [
        ("Not Supported by Gateway", "behind a CA gateway", "access security file of the gateway"),
        ("caproto", "in a caproto server", "change that program"),
        ("", "double, 1 element\n", "change the access rights in its server"),
        ("ao", "in a record of type ao", "have a RULE for"),
    ],
)
def test_what_serves_a_pv(kind: str, shown: str, advice: str) -> None:
    found = [Found("X", ("127.0.0.1", 6064), 1.0, "UDP", 13)]
    pv = PvReport("X", found=found, connect_ms=1.0, read_ms=1.0, value="1", severity="NO_ALARM")
    pv.record_type, pv.info = kind, _channel_of(write=False)
    report = Report(Settings(), repeater=True, pvs=[pv])
    report.findings = diagnose(report)
    (finding,) = [f for f in report.findings if "may be read" in f.what]
    assert advice in finding.advice
    assert ("RULE" in finding.advice) == (kind == "ao")
    text = io.StringIO()
    print_report(report, Console(file=text, width=200))
    assert shown in text.getvalue()
    assert "Gateway" not in text.getvalue()


def test_a_name_that_nobody_has_behind_a_gateway() -> None:
    """A gateway is silent where an IOC is down, and does not say so."""
    found = [Found("X", ("127.0.0.1", 6064), 1.0, "UDP", 13)]
    pv = PvReport("X", found=found, connect_ms=1.0, read_ms=1.0, severity="NO_ALARM")
    pv.record_type, pv.info = "Not Supported by Gateway", _channel_of(write=True)
    report = Report(Settings(), repeater=True, pvs=[pv, PvReport("Y")])
    known, missing = sorted(diagnose(report), key=lambda finding: finding.about)
    assert "gw:5064 is a CA gateway" in known.what
    assert known.severity == "note"
    assert missing.what == "no server has Y, or its IOC behind 127.0.0.1:6064 is down"
    assert "check whether the IOC runs" in missing.advice


# -- What cannot be set up so quickly --------------------------------------------------------------


def test_that_nobody_reads_on_is_no_error(ioc: SoftIoc) -> None:
    with started("doctor", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                 env=environment_for(ioc.port)) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.wait(30) == 0
        assert process.stderr.read() == b""


@pytest.mark.parametrize("terminal", [True, False])
def test_strings_of_servers_do_not_reach_the_terminal(terminal: bool) -> None:
    """What it would obey, nor what rich would take for its own."""
    settings = read_settings({"EPICS_CA_CONN_TMO": "\x1b[5m"}, list)
    pv = PvReport("[bold]X[/bold]", found=[Found("X", ("127.0.0.1", 6064), 1.0, "UDP", 13)])
    report = Report(settings, repeater=True, pvs=[pv])
    pv.connect_ms = pv.read_ms = 1.0
    pv.value, pv.record_type = "\x1b[31mred\r\n\x9b1m", "a\x07i"
    pv.severity = "NO_ALARM"
    pv.info = SimpleNamespace(  # type: ignore[assignment]
        ok=True, host="\x1b]0;title\x07", state=2, state_strings=CAInfo.state_strings, count=1,
        datatype=0, datatype_strings=CAInfo.datatype_strings, read=True, write=False,
    )  # fmt: skip
    report.findings = diagnose(report)
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=terminal, color_system=None, width=100)
    print_report(report, console)
    text = shown.getvalue()
    # What is left without color is bold and dim, by rich.
    text = re.sub("\x1b\\[[0-9;]*m", "", text) if terminal else text
    assert {c for c in text if not c.isprintable()} == {"\n"}
    assert "[bold]X[/bold]\n" in text
    assert re.search(r"value  +\\x1b\[31mred(\\r)?\\n\\x9b1m, read in", text)


def test_a_pv_on_two_addresses_of_one_port_may_be_one_server() -> None:
    found = [Found("X", (host, 5064), 1.0, "UDP", 13) for host in ("10.0.0.1", "10.0.1.1")]
    report = Report(Settings(), repeater=True, pvs=[PvReport("X", found=found)])
    report.pvs[0].connect_ms = 1.0
    (finding,) = diagnose(report)
    assert "perhaps one server with several addresses" in finding.what


def test_a_port_that_no_repeater_holds_is_told() -> None:
    (finding,) = diagnose(Report(Settings(), repeater=None, pvs=[]))
    assert (finding.severity, finding.about) == ("warning", "repeater")


@pytest.mark.process
def test_a_mute_circuit_is_a_finding_of_its_server() -> None:
    with answering_but_mute() as port:
        said = converse(("127.0.0.1", port), [], 0.2)
    report = Report(Settings(), repeater=True)
    pv = PvReport("X", found=[Found("X", ("127.0.0.1", port), 1.0, "UDP", 13)])
    pv.circuits[("127.0.0.1", port)] = said
    report.pvs = [pv]
    (finding,) = diagnose(report)
    assert finding.severity == "error"
    assert f"127.0.0.1:{port} answers for X and accepts connections" in finding.what
