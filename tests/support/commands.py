"""How the tests run the ``aioca`` command: in processes of its own, in pipes and in terminals.

The processes are forks of one that has imported aioca, where this makes no difference (`forks`).
"""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.forks import Fork, can_fork

AIOCA = [sys.executable, "-u", "-m", "aioca"]


def run_cli(
    *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, in the environment of this process and with these variables."""
    return run_cli_in({**os.environ, **(environment or {})}, *arguments)


def run_cli_in(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, in this environment."""
    if not can_fork(env):
        return subprocess.run(
            [*AIOCA, *arguments], capture_output=True, text=True, timeout=60, check=False, env=env
        )
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        with Fork(list(arguments), stdout=out, stderr=errors, env=env) as process:
            try:
                process.wait(60)
            finally:
                process.kill()
        out.seek(0)
        errors.seek(0)
        status = process.wait()
        return subprocess.CompletedProcess(process.args, status, out.read(), errors.read())


# A finder that does not find some modules, as where they are not installed
WITHOUT = """
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split(","):
            return None
        return self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
from aioca._cli import main
sys.exit(main(sys.argv[2:]))
"""


def run_without(modules: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command where some modules, separated by commas, are not installed."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, modules, *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def start(*arguments: str, **options: Any) -> subprocess.Popen[bytes] | Fork:
    """Start the command; the options are those of Popen that `Fork` has."""
    if can_fork(options.get("env") or os.environ):
        return Fork(list(arguments), **options)
    return subprocess.Popen([*AIOCA, *arguments], **options)


@contextmanager
def started(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[bytes] | Fork]:
    """A running command, which is ended however the test goes."""
    with start(*arguments, **options) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


class Output:
    """What comes from a file descriptor, waited for."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.data = b""

    @property
    def text(self) -> str:
        return self.data.decode("utf-8", "replace")

    def _more(self, deadline: float) -> bool:
        """Read what is there, or comes by the deadline; False at the end of it."""
        ready, _, _ = select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"no more output in time; so far:\n{self.text}"
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # EIO: the other end of a pseudoterminal is closed
            data = b""
        self.data += data
        return bool(data)

    def until(self, condition: Callable[[str], object], seconds: float = 30.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition(self.text):
            assert self._more(deadline), f"output has ended:\n{self.text}"

    def to_the_end(self, seconds: float = 30.0) -> str:
        deadline = time.monotonic() + seconds
        while self._more(deadline):
            pass
        return self.text


# Takes standard input for its controlling terminal, then becomes the program: Ctrl-C works.
IN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@contextmanager
def in_terminal(
    *arguments: str, env: dict[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[bytes] | Fork, Output, int]]:
    """The command in a pseudoterminal; its output, and what is to be typed to."""
    ours, theirs = pty.openpty()
    streams: Any = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    try:
        with (
            Fork(list(arguments), **streams, env=env, start_new_session=True, terminal=True)
            if can_fork(env or os.environ)
            else subprocess.Popen(
                [sys.executable, "-c", IN_TERMINAL, *AIOCA, *arguments],
                **streams, env=env, start_new_session=True,
            )
        ) as process:  # fmt: skip
            os.close(theirs)
            try:
                yield process, Output(ours), ours
            finally:
                if process.poll() is None:
                    process.kill()
    finally:
        os.close(ours)
