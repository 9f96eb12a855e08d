"""The tools in terminals, pipes and locales, and their command lines."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from aioca._cli import main
from aioca._cli.commands.caput import unescaped
from aioca._cli.shared import run_command
from aioca._cli.tools.dbr_details import dbr_code
from aioca._cli.tools.syntax import Style
from aioca._cli.tools.text import float_text
from aioca.testing import SoftIoc, free_port, loopback_environment
from tests.support.commands import AIOCA, Output, in_terminal, run_cli, started

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

from tests.support.tools import NONE, run_tool

UNIT = True


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


@pytest.mark.process
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


@pytest.mark.process
def test_progress_in_a_terminal(backend: str) -> None:
    """Connecting takes over a second: a bar on stderr, gone in the end."""
    pvs = [f"{NONE}{i}" for i in range(3)]
    with in_terminal("caget", "--backend", backend, "-w", "2.5", *pvs) as (process, output, _):
        text = output.to_the_end()
        assert process.wait(10) == 1
    assert "connecting" in text and "0/3" in text
    assert text.rstrip().endswith("Channel connect timed out: some PV(s) not found.")


@pytest.mark.process
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


# -- Locales ---------------------------------------------------------------------------------------
# Without UTF-8, and without what Python does by itself about that
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
UTF8_RECORDS = """
record(ao, "$(P)µSv") { field(EGU, "µSv") }
record(mbbo, "$(P)é") { field(ZRST, "aus") field(ONST, "eins µ") }
record(stringout, "$(P)s") {}
"""


def test_names_and_values_in_a_locale_without_utf8(
    own_ioc: Callable[..., SoftIoc], unique: str
) -> None:
    """They reach the server as what was typed, and are shown so."""
    dose, mode, text = (unique + name for name in ("µSv", "é", "s"))

    def tool(*arguments: str) -> str:
        done = run_cli(arguments[0], "-w", "15", *arguments[1:], environment=C_LOCALE)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        return done.stdout

    with own_ioc(UTF8_RECORDS, {"P": unique}) as own:
        assert tool("caget", "-t", dose) == "0\n"
        assert tool("caget", dose) == f"{dose + ' ' * (30 - len(dose.encode()))} 0\n"
        assert "Units:            µSv\n" in tool("caget", "-d", "CTRL_DOUBLE", dose)
        assert tool("cainfo", dose).startswith(f"{dose}\n")
        assert json.loads(tool("caput", "--json", "-c", mode, "eins µ"))["value"] == "eins µ"
        tool("caput", "-c", text, "µ")
        assert r'"\xc2\xb5"' in own.command(f"dbgf {text}")
        done = run_cli("doctor", "--window", "0.1", dose, environment=C_LOCALE)
        assert "connected to" in done.stdout and done.stderr == ""
        with started(
            "camonitor", dose, stdout=subprocess.PIPE, env={**os.environ, **C_LOCALE}
        ) as process:
            assert process.stdout is not None
            Output(process.stdout.fileno()).until(lambda shown: f"{dose} " in shown)


def test_files_in_a_locale_without_utf8(
    own_ioc: Callable[..., SoftIoc], unique: str, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    database = tmp_path / "µ.db"
    database.write_text('record(ao, "$(P)é") {}\n', encoding="utf-8")
    environment = {**os.environ, **C_LOCALE}
    port = free_port()
    with started(
        "ioc", str(database), "-m", f"P={unique}µ:", "--port", str(port),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        Output(process.stdout.fileno()).until(lambda text: "Ctrl-C ends it." in text)
        done = run_cli(
            "caget", "-w", "15", "-t", f"{unique}µ:é", environment=loopback_environment(port)
        )
        assert done.stdout == "0\n"
        picture = tmp_path / "ö.png"
        done = run_cli(
            "plot", "--seconds", "0", "-o", str(picture), f"{unique}µ:é",
            environment={**C_LOCALE, **loopback_environment(port)},
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert picture.exists()


@pytest.mark.process
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("word", ["µ", "\udcb5"], ids=ascii)
def test_words_that_are_no_text_of_the_locale_are_completed(shell: str, word: str) -> None:
    completed = subprocess.run(
        AIOCA, capture_output=True, timeout=60, check=False,
        env={
            **os.environ, **C_LOCALE, "_AIOCA_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": f"aioca plot -o {word}", "COMP_CWORD": word if shell == "fish" else "3",
        },
    )  # fmt: skip
    assert (completed.returncode, completed.stderr) == (0, b"")
    assert b"file" in completed.stdout and os.fsencode(word) in completed.stdout


def test_what_is_no_text_at_all_is_refused(p: str) -> None:
    """Bytes of another encoding than UTF-8, wherever."""
    for environment in ({}, C_LOCALE):
        done = run_cli("caget", "-w", ".1", "a\udcb5", environment=environment)
        assert (done.returncode, done.stdout) == (1, "")
        assert r"'a\xb5'" in done.stderr and done.stderr.count("\n") == 1


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


@pytest.mark.process
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
