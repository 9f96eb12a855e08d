"""The ``aioca`` command.

Each subcommand has a module of its own here, of the same name, and uses the public API only (the
doctor also what `_environment` and `_hosts` know of libca), and `_printable` for what it shows.

    `_app`       the group of them: found by name, imported when asked for; completion
    `_common`    what they share: options, errors, the run; `_typed`: their arguments as text
    `caget` `caput` `camonitor` `cainfo`, after the tools of EPICS base:
        `_syntax` their options, `_reading` how they connect and read, `_text` and `_stamps` what
        they print, `_details` for ``caget -d``, `_json`, `_properties` for
        camonitor; `_progress` while they connect
    `demo`       `_tour`: what it does, which needs nothing but aioca itself
    `watch`      `_watch_view`: its table; `_history`: rates and sparklines; `_screen` and `_keys`:
                 the terminal
    `plot`       `_recording`: what it keeps; `_figure`: what it draws, the only matplotlib
                 Both: `_pv_state`: what is known of a PV, and as text; `_labels`: states of an
                 enum that come without one; `_signals`: Ctrl-C
    `doctor`     `_examination`: what it looks at; `_diagnosis`, `_findings`: what that means;
                 `_doctor_report`; `_settings` `_numbers` `_places` `_interfaces`: where libca looks
    `casw`       `_beacons`: which of them are anomalies; `repeater`: `_repeater`
    `ioc`        a soft IOC at the prompt; `completion`: for the shells
    `_protocol`  messages of Channel Access that need no channel; `_search`: who answers

All else needs the extra ``cli`` (click and rich).
"""

from __future__ import annotations

import errno
import importlib.util
import os
import sys
from collections.abc import Sequence

from .. import __version__
from .typed import typed

_EXTRA = ("click", "rich")
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # a disk is full, or broken


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = [typed(text) for text in (sys.argv[1:] if arguments is None else arguments)]
    _ready_streams()
    try:
        if all(importlib.util.find_spec(name) for name in _EXTRA):
            from .app import run_app

            status = run_app(arguments)
        else:
            status = _bare(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130  # what a shell reports for a program that Ctrl-C has ended
    except BrokenPipeError:
        _drop_output()  # whoever read it has seen enough
        return 0
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        _drop_output()
        print(f"aioca: standard output cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    return status


def _ready_streams() -> None:
    """Whatever a shell has made of the standard streams, they can be used."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed (``>&-``): or libca's sockets get their numbers
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  # as long as we run
    reconfigure = getattr(sys.stdout, "reconfigure", None)  # not of what a test has put there
    if reconfigure is not None:  # names and units have what its locale has not
        reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """What is left of it goes nowhere, so that Python does not complain at exit either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _bare(arguments: Sequence[str]) -> int:
    """What there is without the extra ``cli``."""
    if arguments == ["demo"]:
        from .commands.tour import demo

        demo("asyncio", 5.0)
        return 0
    if arguments == ["--version"]:
        print(__version__)
        return 0
    print(
        "aioca: there is only `aioca demo` here; for all else: pip install 'aioca[cli]'",
        file=sys.stderr,
    )
    return 2
