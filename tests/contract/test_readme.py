"""The examples of the README."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aioca.testing import SoftIoc, loopback_environment

UNIT = True

README = Path(__file__).parents[2] / "README.md"
MakeIoc = Callable[..., SoftIoc]
README_RECORDS = """
record(ao, "SETPOINT") {}
record(ai, "TEMPERATURE") { field(VAL, "21.5") }
"""


@pytest.mark.parametrize("call", ["run(main())", 'run(main(), backend="trio")'])
def test_the_program_of_the_readme(own_ioc: MakeIoc, call: str, tmp_path: Path) -> None:
    """The program runs unchanged until Ctrl-C, in both ways that the README describes."""
    program = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[0]
    assert call in program
    program = re.sub(r"^run\(main\(\)\).*$", call, program, flags=re.MULTILINE)
    file = tmp_path / "program.py"
    file.write_text(program, encoding="utf-8")
    ioc = own_ioc(README_RECORDS)
    ioc.start()
    with subprocess.Popen(
        [sys.executable, "-u", str(file)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **loopback_environment(ioc.port)},
    ) as process:  # fmt: skip
        watchdog = threading.Timer(30, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None and process.stderr is not None
            assert process.stdout.readline() == "[25.5, 21.5]\n"
            assert process.stdout.readline() == "21.5\n"
            ioc.command("dbpf TEMPERATURE 22.5")
            assert process.stdout.readline() == "22.5\n"
            begin = time.monotonic()
            process.send_signal(signal.SIGINT)
            process.wait(10)
            assert time.monotonic() - begin < 5.0
            errors = process.stderr.read()
        finally:
            watchdog.cancel()
            process.kill()
    assert process.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    for not_there in ("aioca/_libca", "aioca/_trampolines", "aioca/_intake", "Exception ignored"):
        assert not_there not in errors


def test_python_in_the_readme_compiles() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
