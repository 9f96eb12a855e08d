"""``aioca caget | caput | camonitor | cainfo``: what is ours beside what base has.

That they print what those of base print is in `test_same_as_base`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable

import anyio
import pytest
from commands import AIOCA, Output, in_terminal, run_cli, started

from aioca._cli import main
from aioca._cli._common import run_command
from aioca._cli._details import dbr_code
from aioca._cli._syntax import Style
from aioca._cli._text import float_text
from aioca._cli.caput import unescaped
from aioca.testing import SoftIoc

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

NONE = "NO:SUCH:PV"


def run_tool(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Patiently, as the machine may be busy; a ``-w`` in the arguments overrules that."""
    return run_cli(tool, "-w", "15", *arguments)


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
    assert rows[1] == {"name": unique + "no", "error": "not connected"}
    assert rows[2] == {"name": unique + "a", "error": "not connected"}
    assert (rows[3]["name"], rows[3]["value"]) == (unique + "a", 1.0)


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


# -- In a terminal ---------------------------------------------------------------------------------


def test_severities_are_coloured_in_a_terminal(p: str) -> None:
    with in_terminal("caget", "-a", p + "ai:never", p + "ai") as (process, output, _):
        text = output.to_the_end()
        assert process.wait(10) == 0
    first, second = text.splitlines()
    assert first.endswith(" <undefined> 0 \x1b[35mUDF INVALID\x1b[0m")
    assert "\x1b" not in second


def test_ctrl_c_in_a_terminal(p: str, backend: str) -> None:
    with in_terminal("camonitor", "--backend", backend, p + "ticks") as (process, output, keys):
        output.until(lambda text: text.count("\n") > 2)
        os.write(keys, b"\x03")
        text = output.to_the_end(10)
        assert process.wait(10) == 130
    assert "Traceback" not in text


def test_ctrl_c_while_connecting_in_a_terminal(backend: str) -> None:
    """The progress bar is in a task group, out of which trio raises a group."""
    with in_terminal("caget", "--backend", backend, "-w", "60", NONE) as (process, output, keys):
        output.until(lambda text: "connecting" in text)
        os.write(keys, b"\x03")
        text = output.to_the_end(10)
        assert process.wait(10) == 130
    assert "Traceback" not in text


def test_ctrl_c_comes_alone_out_of_task_groups(backend: str) -> None:
    async def main() -> None:
        async with anyio.create_task_group(), anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            signal.raise_signal(signal.SIGINT)
            await anyio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        run_command(main(), backend)


def test_an_error_beside_ctrl_c_is_not_lost(backend: str) -> None:
    async def main() -> None:
        raise BaseExceptionGroup("both", [KeyboardInterrupt(), ValueError("the other")])

    with pytest.raises(BaseExceptionGroup) as raised:
        run_command(main(), backend)
    assert raised.value.subgroup(ValueError) is not None


def test_progress_in_a_terminal(backend: str) -> None:
    """Connecting takes over a second: a bar on stderr, gone in the end."""
    pvs = [f"{NONE}{i}" for i in range(3)]
    with in_terminal("caget", "--backend", backend, "-w", "2.5", *pvs) as (process, output, _):
        text = output.to_the_end()
        assert process.wait(10) == 1
    assert "connecting" in text and "0/3" in text
    assert text.rstrip().endswith("Channel connect timed out: some PV(s) not found.")


def test_no_progress_in_a_pipe() -> None:
    done = run_tool("caget", "-w", "1.5", NONE)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Channel connect timed out: '{NONE}' not found.\n"


# -- Standard streams ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [["caget"], ["caget", "--json"], ["camonitor"], ["cainfo"], ["doctor"]]
)
def test_a_full_disk_is_one_line(p: str, arguments: list[str], backend: str) -> None:
    command = [*AIOCA, *arguments, "--backend", backend, "-w", "15", p + "ai"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    said = "aioca: standard output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.parametrize("closed", ["<&-", ">&-", ">&- 2>&-"])
def test_a_closed_stream_is_no_failure(p: str, closed: str) -> None:
    """Nor do libca's sockets get its number: what is printed would go to a server."""
    command = f"exec {shlex.join([*AIOCA, 'caget', '-w', '15', p + 'ai'])} {closed}"
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("" if ">&-" in closed else f"{p + 'ai':30} 1.5\n")


def test_a_dumb_terminal_gets_no_colours(p: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with in_terminal("caget", "-w", "15", "-a", p + "ai:never") as (_, screen, _):
        text = screen.to_the_end()
    assert "INVALID" in text and "\x1b" not in text


# -- Values without a server -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("plain µ", "plain µ".encode()),
        (r"a\tb\n", b"a\tb\n"),
        (r"\x41\x4\x412", b"A\x04A2"),
        (r"\0\\\q", b"\0\\q"),
        ("ends\\", b"ends"),
        (r"\xzz", b"zz"),
    ],
    ids=ascii,
)
def test_escapes_of_the_command_line(text: str, meant: bytes) -> None:
    assert unescaped(text) == meant


@pytest.mark.parametrize(
    ("number", "style", "text"),
    [
        (1.5, Style(), "1.5"),
        (1e300, Style(float_spec="%.2e"), "1.00e+300"),
        (float("nan"), Style(), "nan"),
        (-float("nan"), Style(float_spec="%.3f"), "-nan"),
        (-2.5, Style(float_base="x"), "0xFFFFFFFD"),
        (2.5, Style(float_base="b"), "11"),
        (1e10, Style(float_base="o"), "0o20000000000"),
        (float("inf"), Style(float_base="x"), "0x80000000"),
        (-0.49, Style(float_base="x"), "0x0"),
    ],
)
def test_floats(number: float, style: Style, text: str) -> None:
    assert float_text(number, style) == text


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("0", 0), ("34", 34), ("38", 38), ("35", None), ("39", None), ("-1", None), ("6x", 6),
        ("DOUBLE", 6), ("DBR_CTRL_ENUM", 31), ("STSACK_STRING", 37), ("double", None), ("", None),
    ],
)  # fmt: skip
def test_dbr_types(text: str, code: int | None) -> None:
    assert dbr_code(text) == code


# -- The command line ------------------------------------------------------------------------------


TOOLS = ("caget", "caput", "camonitor", "cainfo")


@pytest.mark.parametrize("tool", TOOLS)
def test_help(tool: str, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("-h", "--help"):
        assert main([tool, option]) == 0
        done = capsys.readouterr()
        assert done.err == ""
        assert done.out.startswith(f"Usage: aioca {tool} ")
        assert f"  aioca {tool} " in done.out  # an example
    assert main([tool, "-V"]) == 0
    assert capsys.readouterr().out.startswith("aioca ")


def test_a_prompt_tool_imports_nothing_heavy() -> None:
    """rich is for progress; the other backend, for whoever asks for it."""
    program = (
        "import sys\nfrom aioca._cli import main\nfor tool in sys.argv[1:]: main([tool])\n"
        "print(*sorted({'rich', 'matplotlib', 'trio', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *TOOLS],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == "".join(
        f"No pv name specified. ('aioca {tool} -h' for help.)\n" for tool in TOOLS
    )
    assert done.stdout == "\n"


def test_what_is_typed_is_completed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_AIOCA_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "aioca caget --b")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert main([]) == 0
    assert "--backend" in capsys.readouterr().out
