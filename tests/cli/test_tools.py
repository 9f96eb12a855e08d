"""``aioca caget | caput | camonitor | cainfo``: what is ours beside what base has.

That they print what those of base print is in `test_same_as_base`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from ctypes import CDLL, c_size_t, c_uint32, create_string_buffer
from typing import Any

import pytest
from epicscorelibs.lib import Com_dsoinfo

from aioca import DBR_DOUBLE, caput, run
from aioca._cli.tools.json_output import json_reply
from aioca._cli.tools.properties import Properties
from aioca._cli.tools.syntax import Style
from aioca._cli.tools.text import stamp_text
from aioca._cli.tools.timestamps import Stamps
from aioca._printable import printable_json
from aioca.testing import SoftIoc
from tests.support.commands import Output, run_cli, started
from tests.support.tools import NONE, run_tool

UNIT = True

com = CDLL(Com_dsoinfo.sofilename)


def lines_of(done: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


# -- caget -----------------------------------------------------------------------------------------


def test_caget(p: str, backend: str) -> None:
    pvs = [p + name for name in ("ai", "mbbi", "stringin", "wf:SHORT")]
    done = run_tool("caget", "--backend", backend, "-c", *pvs)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"{pvs[0]:30} 1.5\n{pvs[1]:30} zwei \\xc2\\xb5\n{pvs[2]:30} hello\n{pvs[3]} 3 1 -2 3\n"
    )


def test_caget_as_json(p: str, backend: str) -> None:
    names = ("ai", "mbbi", "stringin", "wf:SHORT", "wf:STRING", "wf:empty", "ai:never")
    done = run_tool("caget", "--backend", backend, "--json", "-c", *(p + name for name in names))
    assert (done.returncode, done.stderr) == (0, "")
    rows = lines_of(done)
    assert [row["name"] for row in rows] == [p + name for name in names]
    assert [row["value"] for row in rows] == [
        1.5, "zwei µ", "hello", [1, -2, 3], ["ab", "cdé", ""], [], 0.0
    ]  # fmt: skip
    assert set(rows[0]) == {"name", "value", "timestamp", "severity", "status"}
    assert (rows[0]["severity"], rows[0]["status"]) == ("NO_ALARM", "NO_ALARM")
    assert isinstance(rows[0]["timestamp"], float) and rows[0]["timestamp"] > 1.6e9
    assert (rows[-1]["severity"], rows[-1]["timestamp"]) == ("INVALID", None)


def test_json_has_what_was_asked_for(p: str) -> None:
    done = run_tool("caget", "--json", "-d", "CTRL_DOUBLE", p + "ai")
    (row,) = lines_of(done)
    assert (row["value"], row["units"], row["precision"]) == (1.5, "mm", 3)
    assert (row["lower_alarm_limit"], row["upper_ctrl_limit"]) == (-90.0, 100.0)
    (row,) = lines_of(run_tool("caget", "--json", "-d", "CTRL_ENUM", p + "mbbi"))
    assert (row["value"], row["enums"]) == (2, ["zero", "one", "zwei µ"])
    (row,) = lines_of(run_tool("caget", "--json", "-n", p + "mbbi"))
    assert row["value"] == 2
    (row,) = lines_of(run_tool("caget", "--json", "-d", "STSACK_STRING", p + "ackn"))
    assert (row["value"], row["ackt"], row["acks"]) == ("0", True, 0)


def test_json_of_what_is_no_number(own_ioc: Callable[..., SoftIoc], unique: str) -> None:
    database = "".join(
        f'record(ao, "{unique}{i}") {{ field(VAL, "{text}") field(PINI, "YES") }}\n'
        for i, text in enumerate(["nan", "inf", "-inf"])
    )
    with own_ioc(database):
        done = run_tool("caget", "--json", *(f"{unique}{i}" for i in range(3)))
    assert [row["value"] for row in lines_of(done)] == ["NaN", "Infinity", "-Infinity"]


def test_json_of_what_is_not_there(p: str, backend: str) -> None:
    """One that is missing does not keep the others from being shown."""
    done = run_tool("caget", "-w", "2", "--json", "--backend", backend, NONE, p + "ai")
    assert done.returncode == 1
    missing, found = lines_of(done)
    assert missing == {"name": NONE, "error": "not connected"}
    assert found["value"] == 1.5
    assert done.stderr == "Channel connect timed out: some PV(s) not found.\n"


def test_json_beside_a_name_that_is_none(p: str, backend: str) -> None:
    """An empty variable of a shell: the other PV is read all the same."""
    done = run_tool("caget", "--backend", backend, "--json", p + "ai", "")
    good, bad = lines_of(done)
    assert (good["value"], bad["error"]) == (1.5, "not connected")
    assert done.returncode == 1 and "Invalid string" in done.stderr


def test_a_value_that_cannot_be_read_is_not_made_up(p: str) -> None:
    """Base prints a zero, after the timeout."""
    done = run_tool("caget", "-d", "DOUBLE", p + "stringin")
    assert done.returncode == 0
    assert done.stdout == f"{p}stringin\n    *** CA error Channel read request failed\n"
    assert done.stderr == "Read operation timed out: some PV data was not read.\n"
    (row,) = lines_of(run_tool("caget", "--json", "-d", "DOUBLE", p + "stringin"))
    assert row == {"name": p + "stringin", "error": "CA error Channel read request failed"}


def test_text_of_anybody_is_no_command_for_the_terminal(
    own_ioc: Callable[..., SoftIoc], unique: str
) -> None:
    """Names, units, labels; as values are."""
    pv, enum, escape = unique + "a", unique + "m", "\x1b[2J"
    nasty = f'{pv}.{{"dbnd":\n{{"d":0}}}}'
    shown = rf'{pv}.{{"dbnd":\n{{"d":0}}}}'
    with own_ioc(f'record(ao, "{pv}") {{}}\nrecord(mbbo, "{enum}") {{}}'):
        run(caput([f"{pv}.EGU", f"{enum}.ZRST"], [escape, escape], wait=True))
        lines = run_tool("caget", "-d", "CTRL_DOUBLE", nasty).stdout.splitlines()
        assert lines[0] == shown
        assert r"    Units:            \x1b[2J" in lines
        assert run_tool("caget", "-d", "CTRL_ENUM", enum).stdout.count(r"\x1b[2J") == 2
        assert run_tool("caget", nasty).stdout == f"{shown} 0\n"
        assert run_tool("cainfo", nasty).stdout.startswith(f"{shown}\n    State:")
        assert f'"{shown}"' in run_tool("cainfo", "-s", "2", nasty).stdout
        done = run_tool("caget", "--json", "-d", "CTRL_DOUBLE", nasty)
        assert done.stdout.count("\n") == 1 and "\x1b" not in done.stdout
        (row,) = lines_of(done)
        assert (row["name"], row["units"]) == (nasty, escape)
        with started(
            "camonitor", "-t", "n", "--properties", nasty, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            output = Output(process.stdout.fileno())
            output.until(lambda text: text.endswith("UDF INVALID\n"))
        assert output.text.splitlines()[-1] == f"{shown}  0 UDF INVALID"
        assert "\x1b" not in output.text
    for tool in ("caget", "cainfo", "doctor", "camonitor"):
        arguments = ["--window", "0.1"] if tool == "doctor" else []
        arguments += ["--backend", "no\x9b"] if tool == "camonitor" else ["-w", "0.1"]
        done = run_cli(tool, *arguments, f"{escape}\n\x9b")
        assert done.returncode != 0
        assert done.stderr.count("\n") == 1 and done.stderr.rstrip("\n").isprintable()


def test_json_escapes_what_a_terminal_obeys() -> None:
    row = {"name": "a\x9b\x1b\x7fµ\u202e\U000e0001", "value": ["x", 1.5]}
    assert printable_json(row).isprintable()
    assert json.loads(printable_json(row)) == row


NS = [0, 499, 500, 999_999_499, 999_999_500, 999_999_999, 123_456_499, 123_456_500]


@pytest.mark.parametrize("nanoseconds", NS)
def test_time_stamps_are_those_of_base(nanoseconds: int) -> None:
    """Rounded, but never to the next second: as libCom does."""
    seconds = 1_800_000_040
    stamp = (c_uint32 * 2)(seconds - 631152000, nanoseconds)
    text = create_string_buffer(99)
    com.epicsTimeToStrftime.restype = c_size_t
    com.epicsTimeToStrftime(text, c_size_t(99), b"%Y-%m-%d %H:%M:%S.%06f", stamp)
    ours = stamp_text(seconds * 10**9 + nanoseconds)
    assert ours == text.value.decode()
    reply: Any = ca_reply(seconds, nanoseconds)
    written = json_reply("X", reply, None, Style())["timestamp"]
    assert f"{written:.6f}".split(".") == [str(seconds), ours[-6:]]
    assert Stamps("s").text(0, reply) == ours


def ca_reply(seconds: int, nanoseconds: int) -> object:
    """A value of that time."""

    class Reply(float):
        datatype = DBR_DOUBLE
        raw_stamp = (seconds, nanoseconds)
        timestamp_ns = seconds * 10**9 + nanoseconds
        timestamp = round(timestamp_ns / 1e9, 6)

    return Reply(1.5)


def test_not_utf8(own_ioc: Callable[..., SoftIoc], unique: str) -> None:
    """The bytes of a string are shown as they are; JSON has none of such, and has U+FFFD."""
    with own_ioc(f'record(waveform, "{unique}c") {{ field(FTVL, "CHAR") field(NELM, "9") }}'):
        done = run_tool("caput", "-t", "-S", unique + "c", r"a\xb5b")
        assert (done.returncode, done.stdout) == (0, "a\\xb5b\n")
        (row,) = lines_of(run_tool("caget", "--json", "-S", unique + "c"))
        assert row["value"] == "a�b"


# -- caput -----------------------------------------------------------------------------------------


def test_caput(p: str, backend: str) -> None:
    pv = p + "put:ao"
    run_tool("caput", pv, "1")
    done = run_tool("caput", "--backend", backend, "-c", pv, "-2.5")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Old : {pv:30} 1\nNew : {pv:30} -2.5\n"


def test_caput_as_json(p: str, backend: str) -> None:
    pv = p + "put:mbbo"
    run_tool("caput", pv, "0")
    done = run_tool("caput", "--backend", backend, "--json", pv, "Manual")
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = lines_of(done)
    assert (row["name"], row["old"], row["value"]) == (pv, "Off", "Manual")
    assert set(row) == {"name", "value", "timestamp", "severity", "status", "old"}


def test_a_write_without_wait_that_is_refused_is_told(p: str, backend: str) -> None:
    """As with base, the exit status does not know of it."""
    pv = p + "put:ao"
    run_tool("caput", pv, "1")
    done = run_tool("caput", "--backend", backend, pv, "nonsense")
    assert done.returncode == 0
    assert done.stdout.splitlines()[1] == f"New : {pv:30} 1"
    assert done.stderr.startswith(f"{pv}: Channel write request failed (writing without wait")
    assert done.stderr.count("\n") == 1


def test_a_write_that_is_refused(p: str, backend: str) -> None:
    done = run_tool("caput", "--backend", backend, "-c", p + "put:ao", "nonsense")
    assert done.returncode == 1
    assert done.stderr == "ERROR occured writing data: Channel write request failed\n"
    done = run_tool("caput", "--backend", backend, p + "ao:readonly", "1")
    assert done.returncode == 1
    assert done.stderr == "ERROR from put operation: Write access denied\n"


# -- cainfo ----------------------------------------------------------------------------------------


def test_cainfo_as_json(p: str, ioc: SoftIoc, backend: str) -> None:
    done = run_tool("cainfo", "-w", "2", "--backend", backend, "--json", p + "ao:readonly", NONE)
    assert done.returncode == 1
    found, missing = lines_of(done)
    assert found["host"] == f"localhost:{ioc.port}"
    assert (found["state"], found["datatype"], found["count"]) == ("connected", "double", 1)
    assert (found["read"], found["write"]) == (True, False)
    assert missing == {"name": NONE, "error": "not connected"}


def test_cainfo_of_the_client(p: str, ioc: SoftIoc) -> None:
    done = run_tool("cainfo", "-s", "2", p + "ai", p + "longin")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Channel Access client: aioca ")
    assert f"    EPICS_CA_ADDR_LIST={os.environ['EPICS_CA_ADDR_LIST']}\n" in done.stdout
    assert f'Virtual circuit to "localhost:{ioc.port}": 2 channel(s)\n' in done.stdout
    assert (
        f'    Channel "{p}longin": connected, DBF_LONG, 1 element(s), read access, write access\n'
    ) in done.stdout
    assert run_tool("cainfo", "-s", "1").stdout.endswith("0 virtual circuit(s), 0 channel(s)\n")


# -- Priority --------------------------------------------------------------------------------------


def test_priority(own_ioc: Callable[..., SoftIoc], unique: str, backend: str) -> None:
    """The server knows it of each circuit."""
    with (
        own_ioc(f'record(ao, "{unique}a") {{}}') as own,
        started(
            "camonitor", "--backend", backend, "-p", "42", unique + "a", stdout=subprocess.PIPE
        ) as process,
    ):
        assert process.stdout is not None
        Output(process.stdout.fileno()).until(lambda text: "\n" in text)
        assert "Priority = 42," in own.command("casr 1")


# -- camonitor -------------------------------------------------------------------------------------


def test_camonitor_until_ctrl_c(p: str, ioc: SoftIoc, backend: str) -> None:
    ioc.command(f"dbpf {p}m:a 0")  # other tests use these, too
    ioc.command(f"dbpf {p}m:enum 0")
    with started(
        "camonitor", "--backend", backend, p + "m:a", p + "m:enum",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        output = Output(process.stdout.fileno())
        output.until(lambda text: text.count("\n") == 2)
        ioc.command(f"dbpf {p}m:a 1")
        ioc.command(f"dbpf {p}m:enum 1")
        ioc.command(f"dbpf {p}m:enum 0")
        output.until(lambda text: text.count("\n") == 5)
        process.send_signal(signal.SIGINT)
        text = output.to_the_end(10)
        assert process.wait(10) == 130
        assert process.stderr.read() == b""
    values = [line.split()[-1] for line in text.splitlines()[2:]]
    assert values == ["1", "Manual", "Off"]


def test_camonitor_as_json(own_ioc: Callable[..., SoftIoc], unique: str, backend: str) -> None:
    """Values, a PV that is not there, a lost server, and its return."""
    with (
        own_ioc(f'record(ao, "{unique}a") {{ field(VAL, "1") field(PINI, "YES") }}') as own,
        started(
            "camonitor", "--backend", backend, "--json", "-w", "5", unique + "a", unique + "no",
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process,
    ):  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        output = Output(process.stdout.fileno())
        output.until(lambda text: text.count("\n") == 2)
        own.kill()
        output.until(lambda text: text.count("\n") == 3)
        own.start()
        output.until(lambda text: text.count("\n") == 4)
        process.send_signal(signal.SIGINT)
        rows = [json.loads(line) for line in output.to_the_end(10).splitlines()]
        assert process.wait(10) == 130
    assert (rows[0]["name"], rows[0]["value"]) == (unique + "a", 1.0)
    assert set(rows[0]) == {"name", "value", "timestamp", "severity", "status"}
    assert rows[1] == {"name": unique + "no", "error": "not connected"}
    assert rows[2] == {"name": unique + "a", "error": "not connected"}
    assert (rows[3]["name"], rows[3]["value"]) == (unique + "a", 1.0)


PROPERTIES = """
record(ao, "$(P)a") {
    field(VAL, "1") field(PINI, "YES") field(EGU, "mA") field(PREC, "2") field(HOPR, "10")
}
record(mbbo, "$(P)m") { field(ZRST, "Off") field(ONST, "On") field(VAL, "0") field(PINI, "YES") }
record(stringout, "$(P)s") { field(VAL, "text") field(PINI, "YES") }
record(waveform, "$(P)w") { field(FTVL, "DOUBLE") field(NELM, "3") field(EGU, "V") }
"""


@pytest.mark.parametrize("options", [["-m", "p"], ["-m", "vap"], ["--properties"]], ids=str)
def test_camonitor_of_properties_as_json(
    own_ioc: Callable[..., SoftIoc], unique: str, backend: str, options: list[str]
) -> None:
    """They are in each object; a change is one object more, a change to the same none."""
    names = [unique + name for name in "amsw"]
    with (
        own_ioc(PROPERTIES, {"P": unique}) as own,
        started(
            "camonitor", "--backend", backend, "--json", "-w", "15", *options, *names,
            stdout=subprocess.PIPE,
        ) as process,
    ):  # fmt: skip
        assert process.stdout is not None
        output = Output(process.stdout.fileno())

        def rows() -> list[dict[str, Any]]:
            whole = output.text[: output.text.rfind("\n") + 1]
            return [json.loads(line) for line in whole.splitlines()]

        def last(name: str) -> dict[str, Any]:
            return next((row for row in rows()[::-1] if row["name"] == unique + name), {})

        output.until(lambda _: last("w") and last("m").get("enums") and last("a").get("units"))
        first = {row["name"]: row for row in rows()}
        a, m, s, w = (first[name] for name in names)
        assert (a["value"], a["units"], a["precision"], a["severity"]) == (1, "mA", 2, "NO_ALARM")
        assert (a["upper_disp_limit"], a["upper_alarm_limit"]) == (10.0, "NaN")
        assert isinstance(a["timestamp"], float)
        assert (m["value"], m["enums"]) == ("Off", ["Off", "On"])
        assert set(s) == {"name", "value", "timestamp", "severity", "status"}
        assert (w["value"], w["units"]) == ([], "V")
        before = len(rows())
        own.command(f"dbpf {names[0]}.EGU A")
        own.command(f"dbpf {names[0]}.EGU A")
        own.command(f"dbpf {names[1]}.ONST Auto")
        output.until(lambda _: last("m")["enums"] == ["Off", "Auto"])
        assert last("a") == {**a, "units": "A"}
        assert last("m")["value"] == "Off"
        assert len(rows()) == before + 2
        own.command(f"dbpf {names[1]}.ZRST Closed")
        output.until(lambda _: last("m")["enums"] == ["Closed", "Auto"])
        assert last("m")["value"] == "Closed"
        assert all(row["value"] in row["enums"] for row in rows() if row["name"] == names[1])
        own.command(f"dbpf {names[0]} 3")
        own.command(f"dbpf {names[0]}.PREC 4")
        output.until(lambda _: last("a")["precision"] == 4 and last("a")["value"] == 3)
        own.kill()
        output.until(lambda _: all("error" in last(name) for name in "amsw"))
        assert last("a") == {"name": names[0], "error": "not connected"}
        own.start()
        output.until(lambda _: last("a").get("units") == "mA")
        assert (last("a")["value"], last("a")["precision"]) == (1, 2)


@pytest.mark.unit
def test_the_label_in_a_corrected_object_is_that_of_its_state() -> None:
    """Also where two states have one label, and where the state is not that of the object."""
    properties = Properties()

    def corrected(enums: list[str], state: int) -> str:
        properties.learn(0, {"enums": enums})
        row = properties.corrected(0, state)
        assert row is not None and row["enums"] == enums
        return str(row["value"])

    properties.learn(0, {"enums": ["a", "a"]})
    properties.complete(0, {"name": "X", "value": "a"})
    assert corrected(["a", "b"], 1) == "b"
    assert corrected(["c", "d"], 0) == "d"
    assert corrected(["c"], 0) == ""  # as servers send it for a state without a label


def test_camonitor_of_properties(
    own_ioc: Callable[..., SoftIoc], unique: str, backend: str
) -> None:
    """As the lines that caget -d has for them, at first and when one has changed."""
    pv, enum, text = (unique + name for name in "ams")
    lines = [
        "    Units:            mA", "    Precision:        2",
        "    Lo disp limit:    0", "    Hi disp limit:    10",
        "    Lo alarm limit:   nan", "    Lo warn limit:    nan",
        "    Hi warn limit:    nan", "    Hi alarm limit:   nan",
        "    Lo ctrl limit:    0", "    Hi ctrl limit:    0",
    ]  # fmt: skip
    with (
        own_ioc(PROPERTIES, {"P": unique}) as own,
        started(
            "camonitor", "--backend", backend, "-t", "n", "-w", "15", "--properties", pv, enum,
            text, stdout=subprocess.PIPE,
        ) as process,
    ):  # fmt: skip
        assert process.stdout is not None
        output = Output(process.stdout.fileno())
        output.until(lambda so_far: so_far.count("\n") == 18)
        found = output.text.splitlines()
        assert found == [
            pv, *lines, f"{pv:30}  1  ",
            enum, "    Enums:            ( 2)", *(f"{'':22}[ {n}] {label}" for n, label in
                                                  enumerate(["Off", "On"])), f"{enum:30}  Off  ",
            f"{text:30}  text  ",
        ]  # fmt: skip
        own.command(f"dbpf {pv}.PREC 3")
        own.command(f"dbpf {pv} 5")
        output.until(lambda so_far: so_far.count("\n") == 30)
        lines[1] = "    Precision:        3"
        assert output.text.splitlines()[18:] == [pv, *lines, f"{pv:30}  5  "]


def test_camonitor_of_a_lost_server(own_ioc: Callable[..., SoftIoc], unique: str) -> None:
    with (
        own_ioc(f'record(ao, "{unique}a") {{}}') as own,
        started("camonitor", "-t", "n", unique + "a", stdout=subprocess.PIPE) as process,
    ):
        assert process.stdout is not None
        output = Output(process.stdout.fileno())
        output.until(lambda text: text.count("\n") == 1)
        own.kill()
        output.until(lambda text: text.count("\n") == 2)
    assert re.fullmatch(
        rf"{unique}a +20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\.\d{{6}} \*\*\* disconnected",
        output.text.splitlines()[1],
    )


def test_camonitor_of_what_comes_later(
    own_ioc: Callable[..., SoftIoc], unique: str, backend: str
) -> None:
    own = own_ioc(f'record(ao, "{unique}a") {{}}')
    with started(
        "camonitor", "--backend", backend, "-w", ".3", unique + "a", stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        output = Output(process.stdout.fileno())
        output.until(lambda text: "\n" in text)
        assert output.text == f"{unique + 'a':30} *** Not connected (PV not found)\n"
        with own:
            output.until(lambda text: text.count("\n") == 2)
        assert output.text.splitlines()[1] == f"{unique + 'a':30} <undefined> 0 UDF INVALID"


def test_camonitor_of_a_name_that_is_none(p: str, backend: str) -> None:
    done = run_tool("camonitor", "--backend", backend, p + "ai", "")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == ("CA error Invalid string occurred while trying to create channel ''.\n")


def test_camonitor_into_a_pipe_that_is_closed(p: str, backend: str) -> None:
    """``aioca camonitor X | head -1``: it ends, without a word."""
    with started(
        "camonitor", "--backend", backend, p + "ticks",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        Output(process.stdout.fileno()).until(lambda text: "\n" in text)
        process.stdout.close()
        assert process.wait(20) == 0
        assert process.stderr.read() == b""
