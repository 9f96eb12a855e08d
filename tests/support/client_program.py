"""A client in a process of its own: `Program`."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any


class Program:
    """A Python program in a process of its own, which prints a line of JSON for each event.

    Args:
        text: what it is.
        arguments: of the program.
        environment: in place of this process's ``EPICS_CA`` variables.
        prefix: a command that runs it.
    """

    def __init__(
        self,
        text: str,
        *arguments: object,
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("EPICS_CA")}
        command = [sys.executable, "-u", "-c", textwrap.dedent(text), *map(str, arguments)]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed on exit
        self._process = subprocess.Popen(
            [*prefix, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._errors, text=True, env={**inherited, **(environment or {})},
            start_new_session=True,
        )  # fmt: skip
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._seen: list[str] = []
        self._reader = threading.Thread(target=self._read, name="output of a program", daemon=True)
        self._reader.start()

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(10)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except OSError:
                pass  # it has ended without reading all
        self._errors.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def tell(self, line: str) -> None:
        """A line for its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def event(self, timeout: float = 30.0) -> Any:
        """What it says next."""
        try:
            line = self._lines.get(timeout=max(0.0, timeout))
        except queue.Empty:
            raise AssertionError(f"it says nothing more: {self._tail()}") from None
        if line is None:
            raise AssertionError(f"it has ended: {self._tail()}")
        self._seen.append(line)
        try:
            return json.loads(line)
        except ValueError:
            raise AssertionError(f"no event: {self._tail()}{self._rest()}") from None

    def until(self, wanted: Any, timeout: float = 30.0) -> list[Any]:
        """All that it says until it says this, which is the last of them."""
        give_up = time.monotonic() + timeout
        events: list[Any] = []
        while not events or events[-1] != wanted:
            events.append(self.event(give_up - time.monotonic()))
        return events

    def finish(self, timeout: float = 30.0) -> list[Any]:
        """What it says until it has ended, which it must do by itself and without an error."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end: {self._tail()}") from None
        rest = self._rest()
        assert code == 0, (code, self._tail(), rest)
        return [json.loads(line) for line in rest]

    def _rest(self) -> list[str]:
        lines: list[str] = []
        give_up = time.monotonic() + 5
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, give_up - time.monotonic()))
            except queue.Empty:
                return lines
            if line is None:
                self._lines.put(None)
                return lines
            lines.append(line)

    def _tail(self) -> str:
        self._errors.seek(0)
        return "".join(["\n", *self._seen[-20:], self._errors.read()])
