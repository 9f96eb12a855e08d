"""``aioca demo``: start a soft IOC, and read, write and monitor its records."""

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

    The soft IOC listens on loopback only, and its records have a random prefix, so that it does not
    affect a control system. It is stopped at the end.

    Example: aioca demo --backend trio --seconds 20
    """
    try:
        demo(backend, seconds)
    except KeyboardInterrupt:
        print("\nstopped")
        return 130  # the status that a shell reports after Ctrl-C
    return 0
