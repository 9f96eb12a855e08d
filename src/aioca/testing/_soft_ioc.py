"""A soft IOC in a process of its own, which can be killed, paused and restarted.

Invariant: the IOC listens on 127.0.0.1 only, and ends with the process that started it.
"""

from __future__ import annotations

import queue
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from ._ioc_program import MARK
from ._ports import free_port
from ._process import (
    CAN_PAUSE,
    NEW_GROUP,
    arguments_for,
    environment_for,
    hint_for,
    pause,
    resume,
    start_reading,
)


class SoftIocError(RuntimeError):
    """The IOC did not start, has ended, or did not reply. The message has its last output."""

    __module__ = "aioca.testing"


class SoftIoc:
    """A soft IOC in a subprocess, on 127.0.0.1.

    As a context manager, it starts the IOC on entry and kills it on exit. The IOC also ends when
    this process ends, in whatever way.

    Args:
        database: the text of a database, or the `pathlib.Path` of a database file.
        macros: values for the macros ``$(NAME)`` of the database.
        port: the port for searches (UDP) and connections (TCP); a free one by default. A restarted
            IOC uses the same port.
        access_security: an access security file (``ASG(...) {...}``); by default there is none.
        timeout: seconds to wait for the IOC to start, and for a command to end.
        environment: further environment variables for the IOC.

    Attributes:
        port (int): the port on which the IOC listens.
    """

    __module__ = "aioca.testing"

    def __init__(
        self,
        database: str | Path,
        macros: Mapping[str, object] | None = None,
        *,
        port: int | None = None,
        access_security: Path | None = None,
        timeout: float = 30.0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.database = database
        self.access_security = access_security
        self.macros: dict[str, object] = dict(macros or {})
        self.port: int = free_port() if port is None else port
        self.timeout = timeout
        self.environment: dict[str, str] = dict(environment or {})
        self._process: subprocess.Popen[str] | None = None  # it may have ended by itself
        self._output: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._last: list[str] = []
        self._start_output = ""  # what the IOC printed until it ran
        self._owed = 0  # commands that timed out, whose MARK may still come

    def __repr__(self) -> str:
        process = self.process
        state = f"pid {process.pid}" if process is not None else "not running"
        return f"<SoftIoc at 127.0.0.1:{self.port}, {state}>"

    def __enter__(self) -> SoftIoc:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def process(self) -> subprocess.Popen[str] | None:
        """The process of the IOC; None if the IOC is not running, however it has ended."""
        process = self._process
        return process if process is not None and process.poll() is None else None

    @property
    def prefix(self) -> str:
        """The macro ``P``, by convention the prefix of the record names; empty if not set."""
        return str(self.macros.get("P", ""))

    # -- Start and end -----------------------------------------------------------------------------

    def start(
        self, database: str | Path | None = None, macros: Mapping[str, object] | None = None
    ) -> None:
        """Start the IOC, and wait until its records can be used.

        Args:
            database: replaces the database of the IOC, if given.
            macros: replace the macros of the IOC, if given.

        Raises:
            SoftIocError: the IOC is running already, it did not start, another program uses the
                port, or the package epicscorelibs, whose libraries the IOC is, is not installed.
        """
        if self.process is not None:
            raise SoftIocError(f"{self!r} runs already")
        self.kill()  # close the pipes of one that has ended by itself
        if find_spec("epicscorelibs") is None:
            raise SoftIocError("a soft IOC needs epicscorelibs (pip install epicscorelibs)")
        if database is not None:
            self.database = database
        if macros is not None:
            self.macros = dict(macros)
        with tempfile.TemporaryDirectory(prefix="aioca-ioc-") as folder:
            file = self.database
            if not isinstance(file, Path):
                file = Path(folder, "ioc.db")
                # Surrogates: an `include` may name a file whose name is not valid text
                file.write_text(str(self.database), encoding="utf-8", errors="surrogateescape")
            self._last = []
            self._owed = 0
            self._output = queue.SimpleQueue()
            self._process = process = subprocess.Popen(
                arguments_for(file, self.macros, self.access_security),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, encoding="utf-8", errors="replace", env=self._environment(),
                # Ctrl-C in a terminal must not reach the IOC: this process ends it.
                start_new_session=True, creationflags=NEW_GROUP,
            )  # fmt: skip
            start_reading(process, self._output)
            try:
                self._start_output = self._until_mark()
            except BaseException:
                self.kill()
                raise

    def stop(self) -> None:
        """Tell the IOC to exit, and wait for that; kill it if it does not. Idempotent."""
        process = self.process
        if process is not None:
            try:
                if CAN_PAUSE:
                    self.resume()
                self._send("exit")
                process.wait(self.timeout)
            except (SoftIocError, subprocess.TimeoutExpired):
                pass  # kill() ends it
        self.kill()

    def kill(self) -> None:
        """End the IOC at once (SIGKILL): its clients only get a closed connection. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    try:
                        pipe.close()
                    except OSError:
                        pass  # a command could not be written any more

    def restart(
        self, database: str | Path | None = None, macros: Mapping[str, object] | None = None
    ) -> None:
        """Kill the IOC, and start it again on the same port. Arguments as for `start`."""
        self.kill()
        self.start(database, macros)

    def pause(self) -> None:
        """Pause the IOC (SIGSTOP): connections stay open, but it replies to nothing.

        Raises:
            SoftIocError: the IOC is not running; or this is Windows, which cannot pause a process.
        """
        process = self._running()
        if not CAN_PAUSE:
            raise SoftIocError("Windows cannot pause an IOC; kill() ends its connections")
        pause(process)

    def resume(self) -> None:
        """Continue after `pause` (SIGCONT).

        Raises:
            SoftIocError: as for `pause`.
        """
        process = self._running()
        if not CAN_PAUSE:
            raise SoftIocError("Windows cannot pause an IOC, nor resume it")
        resume(process)

    def command(self, line: str) -> str:
        """Run a command of the IOC shell (``dbl``, ``dbpf X 1``, ``casr 2``...).

        Returns:
            str: the output of the command.

        Raises:
            SoftIocError: the IOC has ended, or the command did not end in time.
            ValueError: ``line`` has more than one line.
        """
        if "\n" in line:
            raise ValueError("one line at a time")
        self._send(line)
        return self._until_mark()

    def client_count(self) -> int:
        """The number of connected clients (as ``casr`` reports it).

        Raises:
            SoftIocError: as for `command`.
        """
        found = re.search(r"^(\d+|No) clients? connected", self.command("casr 0"), re.MULTILINE)
        if found is None:
            raise SoftIocError(f"casr was not understood:\n{self._tail()}")
        return 0 if found[1] == "No" else int(found[1])

    # -- Internals ---------------------------------------------------------------------------------

    def _environment(self) -> dict[str, str]:
        return environment_for(self.port, self.environment)

    def _running(self) -> subprocess.Popen[str]:
        process = self._process
        if process is None:
            raise SoftIocError(f"the IOC at 127.0.0.1:{self.port} is not running")
        if process.poll() is not None:
            raise self._ended()
        return process

    def _send(self, line: str) -> None:
        pipe = self._running().stdin
        assert pipe is not None
        try:
            pipe.write(line + "\n")
            pipe.flush()
        except OSError as error:
            raise self._ended() from error

    def _until_mark(self) -> str:
        lines: list[str] = []
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                line = self._output.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                self._owed += 1
                raise SoftIocError(
                    f"no answer within {self.timeout:g} s:\n{self._tail()}"
                ) from None
            if line is None:
                self._output.put(None)  # for the next command
                raise self._ended()
            if line == MARK:
                if not self._owed:
                    return "\n".join(lines)
                self._owed -= 1
                lines.clear()
                continue
            if line.startswith(_PORT_TAKEN):
                raise SoftIocError(f"port {self.port} is used by another program")
            lines.append(line)
            self._last = [*self._last[-19:], line]

    def _ended(self) -> SoftIocError:
        process = self._process
        if process is not None:
            try:  # its pipes are closed a moment before the process has ended
                process.wait(self.timeout)
            except subprocess.TimeoutExpired:
                pass
        return SoftIocError(f"the IOC has ended:\n{self._tail()}{hint_for(self.database)}")

    def _tail(self) -> str:
        return "\n".join(self._last) or "(it has printed nothing)"


# The IOC prints one of these if its port is in use. If the TCP port is, the IOC uses another one,
# which no client searches. If the UDP port is, the IOC hangs.
_PORT_TAKEN = ("cas WARNING: Configured TCP port was unavailable", "CAS: No TCP server started")
