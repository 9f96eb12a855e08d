"""``aioca`` commands, and pages of the documentation, as forks of one process.

That process has imported what they need, besides aioca. A new Python needs 0.2 s of CPU for these
imports, a fork 0.02 s. A fork is a process like any other: it has its own streams, environment and
signals, imports aioca and libca itself, and its Python ends in the normal way. Only what is decided
when Python starts cannot be chosen for a fork: see `can_fork`.

The test process starts one server (this module as a program) when it first needs it, and sends it
a request for each command, together with the streams. The server ends with the test process.
"""

from __future__ import annotations

import gc
import importlib.util
import io
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
COMMAND = "aioca._cli"
MODULES = (  # Not aioca: libCom may not be loaded before a fork.
    "asyncio", "trio", "anyio._backends._asyncio", "anyio._backends._trio", "click", "csv", "json",
    "matplotlib.dates", "matplotlib.figure", "numpy", "rich.live", "rich.table", "secrets",
)  # fmt: skip

# Variables that Python or its libraries read when the process starts
AT_START = ("PYTHON", "LC_", "LANG", "COVERAGE_", "LD_", "MPL", "OPENBLAS_")


def can_fork(environment: Mapping[str, str]) -> bool:
    """Whether a command with this environment can be a fork.

    Not if a variable that counts at the start of a process differs from those of this process, if
    coverage is measured (it begins when a process starts), or on a system without pidfds.
    """

    def at_start(variables: Mapping[str, str]) -> dict[str, str]:
        return {k: v for k, v in variables.items() if k.startswith(AT_START)}

    return (
        hasattr(os, "pidfd_open")
        and at_start(environment) == at_start(os.environ)
        and not any(name.startswith("COVERAGE_") for name in environment)
    )


class Fork:
    """A command that runs in a fork, with the part of the interface of `subprocess.Popen` in use.

    Args:
        arguments: those of the program.
        stdin, stdout, stderr: as for Popen: None, a descriptor, a file, PIPE or DEVNULL.
        env: the environment; by default that of this process.
        start_new_session: whether the process gets a session of its own.
        terminal: whether standard input becomes the controlling terminal of that session.
        cwd: the working directory; by default that of this process.
        module: the program: its function ``main`` is called with the arguments.
    """

    def __init__(
        self,
        arguments: list[str],
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        env: Mapping[str, str] | None = None,
        start_new_session: bool = False,
        terminal: bool = False,
        cwd: Path | None = None,
        module: str = COMMAND,
    ) -> None:
        self.args = [module, *arguments]
        self.returncode: int | None = None
        self._status, status = socket.socketpair(type=socket.SOCK_SEQPACKET)
        request = {
            "arguments": arguments, "environment": dict(os.environ if env is None else env),
            "directory": str(cwd or os.getcwd()), "module": module,
            "session": start_new_session, "terminal": terminal,
        }  # fmt: skip
        with status, ExitStack() as sent:
            (self.stdin, a), (self.stdout, b), (self.stderr, c) = (
                _stream(number, stream, sent)
                for number, stream in enumerate((stdin, stdout, stderr))
            )
            fds = [status.fileno(), a, b, c]
            socket.send_fds(_server(), [json.dumps(request).encode()], fds)
        self.pid = int(self._status.recv(16))

    def poll(self) -> int | None:
        return self._ended(0.0)

    def wait(self, timeout: float | None = None) -> int:
        if self._ended(timeout) is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        assert self.returncode is not None
        return self.returncode

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            self.returncode = os.waitstatus_to_exitcode(int(self._status.recv(16)))
            self._status.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[bytes | None, bytes | None]:
        """Read both streams to their ends, and wait for the end of the process."""
        found: dict[IO[bytes], bytes] = {}
        readers = [
            threading.Thread(target=lambda file=file: found.update({file: file.read()}))
            for file in (self.stdout, self.stderr)
            if file is not None
        ]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join(timeout)
        out, errors = (file and found[file] for file in (self.stdout, self.stderr))
        self._close()
        return out, errors

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has ended since
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def _close(self) -> None:
        for file in (self.stdin, self.stdout, self.stderr):
            if file is not None:
                file.close()

    def __enter__(self) -> Fork:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()
        self.wait()


def _stream(number: int, stream: Any, sent: ExitStack) -> tuple[IO[bytes] | None, int]:
    """Our end of a stream of a process, if it is a pipe, and the descriptor for the process.

    What is made here for the process is closed when it has been sent.
    """
    if stream is None:
        return None, number
    if stream == subprocess.DEVNULL:
        return None, sent.enter_context(open(os.devnull, "r+b", 0)).fileno()
    if stream != subprocess.PIPE:
        return None, stream if isinstance(stream, int) else stream.fileno()
    read, write = os.pipe()
    ours, theirs = (read, write) if number else (write, read)
    sent.callback(os.close, theirs)
    return os.fdopen(ours, "rb" if number else "wb", 0), theirs


_lock = threading.Lock()
_socket: socket.socket | None = None


def _server() -> socket.socket:
    """The socket of the server, which is started if there is none."""
    global _socket
    with _lock:
        if _socket is None:
            _socket, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
            with theirs:
                # OpenBLAS of numpy would start threads, which a fork does not have.
                subprocess.Popen(
                    [sys.executable, "-u", "-m", "tests.support.forks", str(theirs.fileno())],
                    cwd=ROOT,
                    env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                ).returncode = 0  # nobody waits for it: it ends after this process
        return _socket


# -- The server ------------------------------------------------------------------------------------


def serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork for each request; return it in the fork, and None at the end of requests."""
    poll = select.poll()
    poll.register(requests, select.POLLIN)
    running: dict[int, tuple[int, socket.socket]] = {}  # by pidfd
    while True:
        for fd, _ in poll.poll():
            if fd in running:
                pid, status = running.pop(fd)
                poll.unregister(fd)
                os.close(fd)
                _tell(status, os.waitpid(pid, 0)[1])
                status.close()
            else:
                data, fds, _, _ = socket.recv_fds(requests, 1 << 20, 4)
                if not data:
                    return None
                pid = os.fork()
                if pid == 0:
                    for _, status in running.values():
                        status.detach()
                    requests.detach()
                    return _become(json.loads(data), fds[1:])
                for stream in fds[1:]:
                    os.close(stream)
                status = socket.socket(fileno=fds[0])
                _tell(status, pid)
                pidfd = os.pidfd_open(pid)
                poll.register(pidfd, select.POLLIN)
                running[pidfd] = (pid, status)


def _tell(status: socket.socket, number: int) -> None:
    try:
        status.send(str(number).encode())
    except OSError:
        pass  # nobody waits any more


def _become(request: dict[str, Any], streams: list[int]) -> dict[str, Any]:
    """Become the process of a request; in the fork."""
    if request["session"]:
        os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, 4096)  # streams, and what belongs to the server
    if request["terminal"]:
        import fcntl
        import termios

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    random.seed()
    sys.argv = [str(ROOT / "src" / "aioca" / "__main__.py"), *request["arguments"]]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        before = getattr(sys, name)
        # Unbuffered, as those of `python -u`
        raw = open(number, "wb" if number else "rb", 0 if number else -1, closefd=False)  # noqa: SIM115
        text = io.TextIOWrapper(raw, before.encoding, before.errors, write_through=bool(number))
        setattr(sys, name, text)
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    sys.path.insert(0, request["directory"])  # as for `python -m`
    return request


def main(fd: int) -> None:
    for module in MODULES:
        if importlib.util.find_spec(module.partition(".")[0]) is not None:
            importlib.import_module(module)

    gc.freeze()  # the forks share this memory as long as they do not write into it
    del os.environ["OPENBLAS_NUM_THREADS"]
    with socket.socket(fileno=fd) as requests:
        request = serve(requests)
    if request is not None:
        program = importlib.import_module(request["module"]).main  # loads libCom
        arguments = request["arguments"]
        sys.exit(program(arguments) if request["module"] == COMMAND else program(*arguments))


if __name__ == "__main__":
    main(int(sys.argv[1]))
