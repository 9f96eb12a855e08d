"""The ``aioca`` command."""

from __future__ import annotations

import argparse
import importlib.util
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
        "--seconds", type=float, default=5.0, metavar="S", help="how long to monitor (default: 5)"
    )
    options = parser.parse_args(arguments)
    if options.backend == "trio" and importlib.util.find_spec("trio") is None:
        print("aioca: trio is not installed; pip install 'aioca[trio]'", file=sys.stderr)
        return 2
    try:
        demo(options.backend, options.seconds)
    except KeyboardInterrupt:
        print("\nstopped")
        return 130  # what a shell reports for a program that Ctrl-C has ended
    return 0


if __name__ == "__main__":
    sys.exit(main())
