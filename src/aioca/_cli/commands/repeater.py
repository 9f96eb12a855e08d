"""``aioca repeater``: tells the clients of this host of the beacons of servers."""

from __future__ import annotations

import errno
from functools import partial

import click

from ..numbers import repeater_port
from ..shared import Failure
from ..wire.repeater import Repeater, repeater_runs

port_option = click.option(
    "-p", "--port", type=click.IntRange(5001, 65535), metavar="PORT",
    help="Its UDP port (default: EPICS_CA_REPEATER_PORT, or 5065).",
)  # fmt: skip


@click.command()
@port_option
@click.option("-v", "--verbose", is_flag=True, help="Tell of each client that comes or goes.")
def command(port: int | None, verbose: bool) -> int:
    """Run a CA repeater, until Ctrl-C.

    Servers say that they are there (beacons) to one port of each host. The repeater has that port,
    and passes the beacons on to all clients of the host, so that they find servers that start
    without searching all the time. libca starts one that ends with the program that started it;
    this one stays. If one runs already, there is nothing to do, and the exit status is 0.

    \b
    Examples:
      aioca repeater &
      aioca repeater --port 6065 --verbose
    """
    chosen = repeater_port() if port is None else port
    try:
        repeater = Repeater(chosen, partial(print, flush=True) if verbose else None)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise Failure(f"cannot have UDP port {chosen}: {error.strerror}") from None
        if repeater_runs(chosen):
            print(f"A CA repeater runs already, at UDP port {chosen}.")
            return 0
        raise Failure(
            f"something that is no CA repeater has UDP port {chosen};"
            f" find it with: ss -ulpn sport = :{chosen}"
        ) from None
    print(f"CA repeater at UDP port {chosen}. Ctrl-C ends it.", flush=True)
    try:
        repeater.serve()
    finally:
        repeater.close()
    return 0
