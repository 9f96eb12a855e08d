"""The ``aioca`` command."""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import sys
from collections.abc import Sequence

from . import __version__
from ._demo import demo


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="aioca", description="EPICS Channel Access for structured concurrency."
    )
    parser.add_argument("--version", action="version", version=f"aioca {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo_parser = commands.add_parser(
        "demo",
        help="start a soft IOC and read, write and monitor its records",
        description="Start a soft IOC on this machine, on loopback and with a random prefix, so"
        " that it touches no control system; read, write and monitor its records; stop it.",
    )
    demo_parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    demo_parser.add_argument(
        "--seconds",
        type=_seconds,
        default=5.0,
        metavar="S",
        help="how long to monitor (default: 5)",
    )
    options = parser.parse_args(arguments)
    if options.backend == "trio" and importlib.util.find_spec("trio") is None:
        print("aioca: trio is not installed; pip install 'aioca[trio]'", file=sys.stderr)
        return 2
    try:
        demo(options.backend, options.seconds)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("\nstopped")
        return 130  # what a shell reports for a program that Ctrl-C has ended
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python is not to complain of it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"not a time: {text}")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
