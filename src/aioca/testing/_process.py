"""The process of a soft IOC: what the systems do differently, and its output."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import weakref

# Ctrl-C in the terminal of Windows reaches all processes but those of another group.
NEW_GROUP: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
CAN_PAUSE = sys.platform != "win32"

# Processes that waitpid() has reported as stopped: it reports that once.
_stopped: weakref.WeakSet[subprocess.Popen[str]] = weakref.WeakSet()


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
            output.put(line.rstrip("\n"))
    except (OSError, ValueError):
        pass  # closed by kill()
    output.put(None)
