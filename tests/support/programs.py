"""Programs that tests start as processes of their own, and their environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aioca.testing import loopback_environment


def environment_for(ports: int | list[int]) -> dict[str, str]:
    """The environment for a program that searches these ports, unlike this process."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("EPICS_CA")}
    return {**inherited, **loopback_environment(ports)}


@contextmanager
def programs(port: int, *options: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start programs that find the IOC at a port: ``start(text, *arguments)``; kill them at exit.

    Args:
        options: for Python itself.
    """
    started: list[subprocess.Popen[str]] = []

    def start(text: str, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *options, "-u", "-c", textwrap.dedent(text), *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment_for(port),
            start_new_session=True,  # so that its own child processes can be killed too
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()  # closes its pipes


def python(program: str, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, in the environment of this process and with these variables."""
    return subprocess.run(
        [sys.executable, "-c", program, *args],
        capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
