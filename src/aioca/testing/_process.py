"""The process of a soft IOC: its command, what the systems do differently, and its output."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path

# Ctrl-C in the terminal of Windows reaches all processes but those of another group.
NEW_GROUP: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
CAN_PAUSE = sys.platform != "win32"

# The program is run with runpy, by its path. As a module (-m) it would first import all of this
# package. As a script it would have this folder as the first entry of sys.path.
_PROGRAM = str(Path(__file__).with_name("_ioc_program.py"))
_RUN = "import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"

# The terminal colours in error messages of the IOC
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

# The name of a file with a suffix: a database has parentheses, quotes, lines or comments only
_LIKE_A_FILE = re.compile(r"""[^#(){}"'\n]*\.\w+""")

# Processes that waitpid() has reported as stopped: it reports that once.
_stopped: weakref.WeakSet[subprocess.Popen[str]] = weakref.WeakSet()


def arguments_for(
    database: Path, macros: Mapping[str, object], access_security: Path | None
) -> list[str | bytes]:
    """Return the command and the arguments that run an IOC with this database."""
    texts = ",".join(f"{name}={_quoted(value)}" for name, value in macros.items())
    macro_bytes = texts.encode("utf-8", "surrogateescape")  # independent of the locale
    security = str(access_security or "")
    return [sys.executable, "-u", "-c", _RUN, _PROGRAM, str(database), macro_bytes, security]


def environment_for(port: int, further: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of an IOC that listens on 127.0.0.1 only."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EPICS_CA")}
    environment.update(
        EPICS_CAS_INTF_ADDR_LIST="127.0.0.1",
        EPICS_CAS_SERVER_PORT=str(port),
        EPICS_CAS_BEACON_ADDR_LIST="127.0.0.1",
        EPICS_CAS_AUTO_BEACON_ADDR_LIST="NO",
        EPICS_CA_ADDR_LIST="127.0.0.1",
        EPICS_CA_AUTO_ADDR_LIST="NO",
    )
    environment.update(further)
    return environment


def hint_for(database: str | Path) -> str:
    """Return what to add to the error of an IOC whose database is the name of a file as a str."""
    if not isinstance(database, str) or not _LIKE_A_FILE.fullmatch(database):
        return ""
    return f"\nA str is the text of a database; a file is given as pathlib.Path({database!r})."


def _quoted(value: object) -> str:
    """Quote a value for the macro parser of the IOC."""
    return '"' + re.sub(r'(["\\])', r"\\\1", str(value)) + '"'


def pause(process: subprocess.Popen[str]) -> None:
    """Stop a process (SIGSTOP), and wait until it has stopped or ended. Not on Windows."""
    if sys.platform == "win32":
        raise NotImplementedError
    process.send_signal(signal.SIGSTOP)
    if hasattr(os, "waitid"):
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    elif process not in _stopped:  # macOS before Python 3.13
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            _stopped.add(process)
        else:  # it has ended; waitpid() reports the status once
            process.returncode = os.waitstatus_to_exitcode(status)


def resume(process: subprocess.Popen[str]) -> None:
    """Continue a process that was stopped (SIGCONT). Not on Windows."""
    if sys.platform == "win32":
        raise NotImplementedError
    process.send_signal(signal.SIGCONT)
    _stopped.discard(process)


def start_reading(process: subprocess.Popen[str], output: queue.SimpleQueue[str | None]) -> None:
    """Read the output of the IOC in a thread, so that it never blocks on a full pipe."""
    threading.Thread(
        target=_read, args=(process, output), name="SoftIoc output", daemon=True
    ).start()


def _read(process: subprocess.Popen[str], output: queue.SimpleQueue[str | None]) -> None:
    assert process.stdout is not None
    try:
        for line in process.stdout:
            output.put(_COLOUR.sub("", line.rstrip("\n")))
    except (OSError, ValueError):
        pass  # closed by kill()
    output.put(None)
