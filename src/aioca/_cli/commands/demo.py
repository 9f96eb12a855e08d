"""``aioca demo``."""

from __future__ import annotations

import click

from ..shared import Seconds, backend_option
from .tour import demo


@click.command()
@backend_option
@click.option(
    "--seconds", type=Seconds(), default=5.0, metavar="S", help="How long to monitor (default: 5)."
)
def command(backend: str, seconds: float) -> int:
    """Start a soft IOC and read, write and monitor its records.

    The soft IOC is on this machine, on loopback and with a random prefix, so that it touches no
    control system; it is stopped at the end.

    Example: aioca demo --backend trio --seconds 20
    """
    try:
        demo(backend, seconds)
    except KeyboardInterrupt:
        print("\nstopped")
        return 130  # what a shell reports for a program that Ctrl-C has ended
    return 0
