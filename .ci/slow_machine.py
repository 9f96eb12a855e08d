"""For `.ci/arm64` and `.ci/other-libca`: has the tests wait longer on a slow or busy machine.

The environment variable SLOWNESS (1) multiplies limits of time: those of the calls of aioca, of
`anyio.fail_after` and of waiting for processes. Limits below a second are left as they are: tests
set these in order to see them expire. A deadline ``(instant,)`` is left as it is, too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import anyio

import aioca.blocking  # noqa: F401  (all modules that have a limit are imported)
from aioca._api import arguments

SLOWNESS = float(os.environ.get("SLOWNESS", "1"))


def longer(seconds: Any) -> Any:
    """The limit on a slow machine, for one that has been chosen for a fast machine."""
    if isinstance(seconds, (int, float)) and seconds >= 1:
        return seconds * SLOWNESS
    return seconds


def waiting_longer(function: Callable[..., Any], name: str, position: int) -> Callable[..., Any]:
    """The function, with its argument of this name, or at this position, made longer."""

    def with_more_time(*args: Any, **options: Any) -> Any:
        if name in options:
            options[name] = longer(options[name])
        elif len(args) > position:
            args = (*args[:position], longer(args[position]), *args[position + 1 :])
        return function(*args, **options)

    return with_more_time


def pytest_configure() -> None:
    """Replace the functions that have a limit of time."""
    popen: Any = subprocess.Popen
    anyio.fail_after = waiting_longer(anyio.fail_after, "delay", 0)
    popen.wait = waiting_longer(popen.wait, "timeout", 1)
    popen.communicate = waiting_longer(popen.communicate, "timeout", 2)
    calls: Any
    deadline_of = arguments.deadline_of
    for calls in list(sys.modules.values()):
        if getattr(calls, "deadline_of", None) is deadline_of:
            calls.deadline_of = waiting_longer(deadline_of, "timeout", 0)
