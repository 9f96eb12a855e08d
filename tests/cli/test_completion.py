"""``aioca completion``, in the shells themselves: what the Tab key makes of a line."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aioca._cli import main
from aioca._cli.app import COMMANDS
from tests.support.commands import IN_TERMINAL, Output

SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "--interactive"],
}
# What makes the running shell complete, as the help says
SETUP = {
    "bash": "PS1='ready> '; bind 'set enable-bracketed-paste off'; bind 'set bell-style none'\n"
    'eval "$(aioca completion bash)"\n',
    "zsh": "PS1='ready> '; unsetopt zle_bracketed_paste; autoload -Uz compinit; compinit -u -D\n"
    'eval "$(aioca completion zsh)"\n',
    "fish": "function fish_prompt; echo -n 'ready> '; end\naioca completion fish | source\n",
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with files, and with the command in the only other folder on the path."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "aioca"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m aioca "$@"\n')
    command.chmod(0o755)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "motors.db").write_text("")
    return tmp_path


@contextmanager
def _shell(name: str, place: Path) -> Iterator[tuple[Output, int]]:
    ours, theirs = pty.openpty()
    program = shutil.which(name)
    assert program is not None
    environment = {
        **os.environ, "PATH": f"{place / 'bin'}:{os.environ['PATH']}", "HOME": str(place),
        "TERM": "dumb" if name == "fish" else "vt100", "XDG_CONFIG_HOME": str(place),
        "XDG_DATA_HOME": str(place), "COLUMNS": "200",
    }  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-c", IN_TERMINAL, program, *SHELLS[name][1:]],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env=environment,
        cwd=place / "here",
    ) as process:  # fmt: skip
        os.close(theirs)
        try:
            yield Output(ours), ours
        finally:
            process.kill()
            os.close(ours)


@pytest.mark.parametrize("shell", SHELLS)
def test_tab(shell: str, place: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    with _shell(shell, place) as (output, keyboard):
        # Each answer is waited for; that it was made by the command itself is seen from `echo`.
        os.write(keyboard, SETUP[shell].encode() + b"echo set'-'up\n")
        output.until(lambda text: "set-up" in text)
        for typed, completed in [
            ("aioca doc", "aioca doctor "),
            ("aioca doctor --win", "aioca doctor --window "),
            ("aioca ioc mot", "aioca ioc motors.db "),
            ("aioca snapshot re", "aioca snapshot restore "),
            ("aioca snapshot diff mot", "aioca snapshot diff motors.db "),
        ]:
            before = len(output.text)
            os.write(keyboard, f"echo {typed}\x15{typed}\t".encode())
            output.until(lambda text, n=before, c=completed: c.rstrip() in text[n:])  # type: ignore[misc]
            os.write(keyboard, b"\x15")


@pytest.mark.parametrize("shell", SHELLS)
def test_what_is_printed_says_how_to_have_it(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert script.startswith("#compdef aioca\n" if shell == "zsh" else "# Completion of aioca")
    assert f"aioca completion {shell} >" in script
    assert script.count("#compdef") == (1 if shell == "zsh" else 0)
    if program := shutil.which(shell):
        checked = subprocess.run(
            [program, "-n"], input=script, text=True, capture_output=True, check=False
        )
        assert (checked.returncode, checked.stderr) == (0, "")


def test_all_commands_are_offered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the command itself answers to bash."""
    monkeypatch.setenv("_AIOCA_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "aioca ")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert main([]) == 0
    out, err = capsys.readouterr()
    assert [answer.partition(",")[2] for answer in out.splitlines()] == list(COMMANDS)
    assert err == ""


def test_a_shell_that_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "tcsh"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "'bash', 'fish', 'zsh'" in err


@pytest.mark.parametrize("command", ["snapshot", "doctor", "casw", "repeater", "ioc", "completion"])
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    out, err = capsys.readouterr()
    examples = out.partition("  Examples:\n")[2].partition("\n\n")[0]
    assert examples.count("aioca " + command) >= 2
    assert max(map(len, out.splitlines())) <= 100
    assert err == ""
