"""``aioca repeater``: run a CA repeater, which passes beacons on to the clients of this host."""

from __future__ import annotations

import errno
from functools import partial

import click

from ..numbers import repeater_port
from ..shared import Failure
from ..wire.repeater import Repeater, repeater_runs

port_option = click.option(
    "-p", "--port", type=click.IntRange(5001, 65535), metavar="PORT",
    help="The UDP port of the repeater (default: EPICS_CA_REPEATER_PORT, or 5065).",
)  # fmt: skip


@click.command()
@port_option
@click.option("-v", "--verbose", is_flag=True, help="Print each client that registers or ends.")
def command(port: int | None, verbose: bool) -> int:
    """Run a CA repeater, until Ctrl-C.

    Servers send beacons to one UDP port of each host. The repeater listens at that port, and passes
    the beacons on to all clients on the host. The clients then find new servers without searching
    all the time. A repeater that libca runs inside a client ends with that client; this one stays.
    If a repeater runs already, the command ends with status 0.

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
            raise Failure(f"cannot use UDP port {chosen}: {error.strerror}") from None
        if repeater_runs(chosen):
            print(f"A CA repeater runs already, at UDP port {chosen}.")
            return 0
        raise Failure(
            f"a program that is not a CA repeater holds UDP port {chosen};"
            f" find it with: ss -ulpn sport = :{chosen}"
        ) from None
    print(f"CA repeater at UDP port {chosen}. Ctrl-C ends it.", flush=True)
    try:
        repeater.serve()
    finally:
        repeater.close()
    return 0
