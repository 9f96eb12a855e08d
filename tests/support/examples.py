"""How the tests run the examples: as programs of their own, on an IOC with their records."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aioca.testing import SoftIoc
from tests.support.programs import environment_for

EXAMPLES = Path(__file__).parents[2] / "examples"
RECORDS = EXAMPLES / "records.db"


class Program:
    """A running example.

    Attributes:
        lines: what it has printed so far, errors among it.
    """

    def __init__(self, arguments: list[str], port: int, folder: Path | None = None) -> None:
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            [sys.executable, "-u", *arguments], env=environment_for(port), cwd=folder,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify()
        with self._news:
            self._ended = True
            self._news.notify()

    def until(self, pattern: str, seconds: float = 20.0, after: int = 0) -> str:
        """Wait for a line in which the pattern is found, and return it.

        ``after``: the number of lines, of those printed first, that do not count.
        """
        deadline = time.monotonic() + seconds
        with self._news:
            while True:
                found = [line for line in self.lines[after:] if re.search(pattern, line)]
                if found:
                    return found[0]
                left = deadline - time.monotonic()
                assert not self._ended and left > 0, f"no {pattern!r} in {self.lines}"
                self._news.wait(left)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def finish(self, status: int = 0, seconds: float = 20.0) -> list[str]:
        """Wait for its end, and return all that it has printed."""
        self.process.wait(seconds)
        self._reader.join(seconds)
        assert self.process.returncode == status, self.lines
        return self.lines

    def stop(self, number: signal.Signals = signal.SIGINT, status: int = 0) -> list[str]:
        self.send(number)
        return self.finish(status)

    def close(self) -> None:
        """Gone, however the test went."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def running(
    example: str, *arguments: object, port: int, folder: Path | None = None
) -> Iterator[Program]:
    program = Program([str(EXAMPLES / example), *map(str, arguments)], port, folder)
    try:
        yield program
    finally:
        program.close()


def value_of(ioc: SoftIoc, pv: str) -> str:
    """As the IOC's shell shows it."""
    return ioc.command(f"dbgf {pv}").rpartition(":")[2].split("=")[-1].strip().strip('"')
