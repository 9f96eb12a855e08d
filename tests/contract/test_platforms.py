"""What Windows and macOS lack, taken away from the Python of a process on Linux.

This shows that nothing needs what is not there. It does not show what those systems do otherwise.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest

from aioca._ca.thread_states import FREE_THREADED
from aioca._cli.app import COMMANDS
from aioca._cli.terminal import keys
from aioca._cli.terminal.signals import Interruption
from aioca._portal import eventfd
from aioca.testing import SoftIoc, SoftIocError, _process, _soft_ioc, free_port
from tests.support.programs import environment_for, programs

DATABASE = """
    record(ao, "X") { field(VAL, "1.5") field(PINI, "YES") }
    record(calc, "COUNT") { field(SCAN, ".1 second") field(CALC, "VAL+1") }
"""


@pytest.fixture(scope="module")
def other_ioc() -> Iterator[SoftIoc]:
    with SoftIoc(DATABASE) as ioc:
        yield ioc


def run(ioc: SoftIoc, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = environment_for(ioc.port)
    # The port of another program would be a finding of the doctor. Without PATH, libca starts none.
    environment |= {"EPICS_CA_REPEATER_PORT": str(free_port()), "PATH": "/none"}
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(program), *arguments],
        capture_output=True, text=True, timeout=60, check=False, env=environment,
    )  # fmt: skip


# -- Windows ---------------------------------------------------------------------------------------

# The modules that the package uses, and Python's own, are imported first: they need what they find.
# Then all that Windows does not have disappears. os.name and
# select.epoll stay, because ctypes and trio look for them later.
WINDOWS = """
    import asyncio, contextlib, ctypes, errno, importlib, os, pkgutil, signal, sys
    import subprocess, tempfile, types, zoneinfo, multiprocessing
    import anyio, click, numpy, rich.console, rich.progress, trio
    import anyio._backends._asyncio, anyio._backends._trio, click.shell_completion
    for name in "h5py", "pyarrow.parquet":
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    asyncio.new_event_loop().close()  # the first one asks which system this is

    gone = "termios tty pty fcntl resource grp pwd readline curses syslog"
    for name in gone.split():
        sys.modules[name] = None
    for module, names in {
        signal: "SIGWINCH SIGTSTP SIGSTOP SIGCONT SIGHUP SIGQUIT SIGUSR1 SIGUSR2 SIGALRM SIGPIPE"
                " SIGCHLD SIGKILL pthread_kill pthread_sigmask setitimer alarm",
        os: "eventfd fork register_at_fork waitid tcgetpgrp getpgrp killpg getuid geteuid"
            " setsid pipe2 RTLD_NOLOAD RTLD_GLOBAL RTLD_LOCAL WUNTRACED WNOHANG WSTOPPED",
        errno: "EDQUOT",
    }.items():
        for name in names.split():
            if hasattr(module, name):
                delattr(module, name)
    sys.platform = "win32"
    # libca's structs are then read in the way for all machines but x86-64 with POSIX
    os.uname = lambda: types.SimpleNamespace(machine="AMD64")
"""


# Windows and macOS cannot release the thread states of libca's threads: `test_without_glibc`
with_gil = pytest.mark.skipif(FREE_THREADED, reason="aioca refuses a free-threaded Python there")


@with_gil
def test_windows_imports_every_module(other_ioc: SoftIoc) -> None:
    program = f"""
    import matplotlib.pyplot{WINDOWS}
    import aioca
    for module in pkgutil.walk_packages(aioca.__path__, "aioca."):
        if module.name not in ("aioca.__main__", "aioca.testing._ioc_program"):
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:
                if error.name != "h5py" or sys.version_info < (3, 15):  # no wheel for 3.15 yet
                    raise
    print(len([name for name in sys.modules if name.startswith("aioca.")]) > 80)
    """
    done = run(other_ioc, program)
    assert (done.stdout, done.stderr) == ("True\n", "")


@with_gil
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_windows_starts_the_command_line(other_ioc: SoftIoc, command: str) -> None:
    program = f"""{WINDOWS}
    from aioca._cli import main
    sys.exit(main([*sys.argv[1:], "--help"]))
    """
    done = run(other_ioc, program, *command.split())
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.startswith(f"Usage: aioca {command}".rstrip())


@with_gil
def test_windows_reads_writes_and_monitors(other_ioc: SoftIoc, backend: str) -> None:
    """With the commands: they use more of the system than the functions do."""
    program = f"""{WINDOWS}
    from aioca._cli import main
    for line in ("caput -w 20 -t X 2.5", "caget -w 20 -t X", "cainfo -w 20 X", "doctor X"):
        command, *rest = line.split()
        assert main([command, "--backend", sys.argv[1], *rest]) == 0, line
    """
    done = run(other_ioc, program, backend)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.startswith("2.5\n2.5\nX\n    State:            connected\n")
    assert "\nlibca\n" in done.stdout


@with_gil
def test_windows_monitors_until_ctrl_c(other_ioc: SoftIoc, backend: str) -> None:
    program = f"""{WINDOWS}
    from aioca._cli import main
    sys.exit(main(["camonitor", "--backend", sys.argv[1], "-w", "20", "COUNT"]))
    """
    with programs(other_ioc.port) as start:
        process = start(program, backend)
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline().startswith("COUNT ")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "")


def test_windows_has_no_keys_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """`watch` goes on without them, until Ctrl-C."""
    monkeypatch.setattr(keys, "termios", None)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True, fileno=lambda: 0))
    keyboard = keys.Keyboard()
    keyboard.open()
    assert anyio.run(keyboard.read) == []
    keyboard.close()


def test_windows_has_no_signals_in_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command goes on; Ctrl-C raises KeyboardInterrupt as in any program."""

    def refuse(*_: object) -> None:
        raise NotImplementedError

    async def watch() -> int:
        import asyncio

        monkeypatch.setattr(asyncio.get_running_loop(), "add_signal_handler", refuse)
        interruption = Interruption()
        with anyio.fail_after(5) as scope:
            await interruption.watch(scope)
        assert not scope.cancel_called
        return interruption.status

    assert anyio.run(watch) == 0


def test_windows_cannot_pause_an_ioc(
    monkeypatch: pytest.MonkeyPatch, own_ioc: Callable[..., SoftIoc]
) -> None:
    monkeypatch.setattr(_soft_ioc, "CAN_PAUSE", False)
    monkeypatch.delattr(signal, "SIGCONT")
    monkeypatch.delattr(signal, "SIGSTOP")
    ioc = own_ioc(DATABASE)
    ioc.start()
    process = ioc.process
    assert process is not None
    for use in (ioc.pause, ioc.resume):
        with pytest.raises(SoftIocError, match="Windows cannot pause an IOC"):
            use()
    ioc.stop()
    assert process.returncode == 0  # it ended by itself


# -- Linux with another C library ------------------------------------------------------------------


def test_without_glibc(other_ioc: SoftIoc) -> None:
    """A thread keeps its Python thread state once its circuit has many channels.

    On free-threaded Python the import refuses, because memory would grow.
    """
    program = """
    import ctypes

    class Library(ctypes.PyDLL):
        def __getitem__(self, name):
            if name == "__cxa_thread_atexit_impl":
                raise AttributeError(name)
            return super().__getitem__(name)

    ctypes.PyDLL = Library
    import aioca
    from aioca._ca import thread_states

    async def main():
        kept = []
        thread_states._ensure = lambda: kept.append(1)
        await aioca.connect(["X.VAL", *(["X"] * 2)], timeout=20)
        assert kept == []
        # each name is a channel of its own
        fields = ['X.{"dbnd":{"d":%d}}' % n for n in range(300)]
        await aioca.connect(fields, timeout=20)
        assert kept == [1]

    aioca.run(main())
    """
    done = run(other_ioc, program)
    if FREE_THREADED:
        assert "ImportError: aioca cannot run on free-threaded Python here" in done.stderr
    else:
        assert (done.returncode, done.stderr) == (0, "")


# -- macOS -----------------------------------------------------------------------------------------


def test_pause_without_waitid(
    monkeypatch: pytest.MonkeyPatch, own_ioc: Callable[..., SoftIoc]
) -> None:
    """As on macOS before Python 3.13."""
    monkeypatch.delattr(os, "waitid")
    ioc = own_ioc(DATABASE)
    ioc.start()
    process = ioc.process
    assert process is not None
    for _ in range(2):
        ioc.pause()
        assert _state(process.pid) == "T"
    ioc.resume()
    assert "X" in ioc.command("dbl")
    ioc.stop()
    assert process.returncode == 0


def test_pause_without_waitid_of_one_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its exit status is not lost."""
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"], text=True)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # until it has ended
    monkeypatch.delattr(os, "waitid")
    # Popen.send_signal() would see that it has ended; it may also end right after that look
    monkeypatch.setattr(process, "send_signal", lambda number: None)
    _process.pause(process)
    assert process.wait() == 7


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


# -- Without eventfd -------------------------------------------------------------------------------

# Reads, writes and two monitors, in several runs of the loop, with long lists and many updates.
WITHOUT_EVENTFD = """
    import os, sys
    how = sys.argv[2]
    if how == "missing":  # as on macOS and on Windows
        del os.eventfd
    else:
        def eventfd(*_):
            raise OSError(38, "Function not implemented")
        os.eventfd = eventfd
    import anyio, aioca

    async def main(number):
        with anyio.fail_after(20):
            async with aioca.camonitor("COUNT", all_updates=True) as updates:
                seen = []
                async for value in updates:
                    seen.append(+value)
                    if len(seen) == 3:
                        break
            assert seen == [seen[0], seen[0] + 1, seen[0] + 2]
            called = anyio.Event()
            subscription = aioca.camonitor("COUNT", lambda value: called.set())
            await called.wait()
            subscription.close()
            await aioca.caput("X", number, wait=True)
            for _ in range(100):
                assert await aioca.caget("X") == number
            assert await aioca.caget(["X"] * 1000) == [number] * 1000

    for number in range(3):
        aioca.run(main(number), backend=sys.argv[1])
    from aioca._portal.eventfd import _spare
    print(_spare)
"""


@pytest.mark.parametrize("how", ["missing", "refused"])
def test_without_eventfd(other_ioc: SoftIoc, backend: str, how: str) -> None:
    done = run(other_ioc, WITHOUT_EVENTFD, backend, how)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.skipif(not hasattr(os, "eventfd"), reason="this system has no eventfd to be refused")
def test_eventfd_when_no_file_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "eventfd", full)
    monkeypatch.setattr(eventfd, "_spare", [])
    assert eventfd.borrow_eventfd() is None
