"""The ``aioca`` command.

Each subcommand has a module of the same name in `commands`. The subcommands use the public API.
Besides that, they use `_printable`, the rules of libca in `_ca`, and a few helpers.

    `app`          the group of subcommands: imports each when it is called; completion
    `shared`       options, errors and the run, for all subcommands
    `lists`        options for PVs that are named in files
    `typed`        arguments and file names as text, in any locale
    `snapshots`    the runs of `snapshot`
    `numbers`      numbers read by the rules of C; the ports in the environment
    `commands`     one module for each subcommand, and `tour` for the demo
    `tools`        caget, caput, camonitor and cainfo: options, reading, output
    `recording`    record: the files, and reading them for plot
    `live`         watch and plot: the state of a PV, its history, the table, the figure
    `terminal`     screen, keys, Ctrl-C, progress bar
    `diagnosis`    the doctor
    `wire`         Channel Access messages without libca: searches, beacons, the repeater

`demo` and ``--version`` need only aioca itself. Everything else needs the extra ``cli`` (click and
rich).
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
_UNWRITABLE = {  # the disk is full or broken; Windows has not all of these
    getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO")
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit status. Blocks until the command has ended."""
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
        return 130  # the status that a shell reports after Ctrl-C
    except BrokenPipeError:
        _drop_output()  # the reader of the pipe has closed it on purpose, as `head` does
        return 0
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        _drop_output()
        print(f"aioca: standard output cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    return status


def _ready_streams() -> None:
    """Make the standard streams usable, if the shell has closed them or has an odd locale."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed (``>&-``); otherwise libca's sockets get fd 0 to 2
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  # for the whole run
    reconfigure = getattr(sys.stdout, "reconfigure", None)  # a test's replacement may have none
    if reconfigure is not None:  # names and units may have characters that the locale lacks
        reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Discard the rest of the output, so that Python reports no error at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _bare(arguments: Sequence[str]) -> int:
    """Run without the extra ``cli``: the demo, or a message. Returns the exit status."""
    if arguments == ["demo"]:
        from .commands.tour import demo

        demo("asyncio", 5.0)
        return 0
    if arguments == ["--version"]:
        print(__version__)
        return 0
    print(
        "aioca: only `aioca demo` without options is installed; for all other commands, and for"
        " options: pip install 'aioca[cli]'",
        file=sys.stderr,
    )
    return 2
