"""``aioca casw``: the beacons of servers."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from functools import lru_cache

import click

from ..._printable import printable
from ..numbers import repeater_port, server_port
from ..shared import Failure
from ..wire.beacons import Sighting, Watch
from ..wire.protocol import Beacon, ProtocolError, beacons, take
from ..wire.repeater import registered, repeater_runs

_SILENCE = 15.0  # seconds after which it is seen whether the repeater is still there
_ATTEMPT = 0.2  # seconds to wait for the repeater, again and again for so many in all:
_PATIENCE, _PATIENCE_WITH_A_NEW_ONE = 2.0, 20.0


@click.command()
@click.option(
    "-i",
    "--interest",
    type=click.IntRange(0),
    default=0,
    metavar="LEVEL",
    help="0: anomalies; 1: with the periods of the beacons; 2: all beacons, anomalies marked by *.",
)
@click.option("--json", "as_objects", is_flag=True, help="Print each as a JSON object.")
def command(interest: int, as_objects: bool) -> int:
    """Show beacons: servers that start, or come back.

    Beacons come through the CA repeater of this host, at EPICS_CA_REPEATER_PORT. If none runs, one
    is started, which stays when this ends, since other programs may count on it by then.

    \b
    Examples:
      aioca casw        servers that start, or come back
      aioca casw -i 2   every beacon
    """
    port, default_port = repeater_port(), server_port()
    watch = Watch(time.monotonic())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("", 0))
        _register(sock, port)
        while True:
            sock.settimeout(_SILENCE)
            try:
                data, source = sock.recvfrom(65536)
            except TimeoutError:
                _register(sock, port)
                continue
            except ConnectionError:
                continue
            stamp, now = time.time_ns(), time.monotonic()
            try:
                messages, _ = take(data)
            except ProtocolError:
                continue
            for beacon in beacons(messages, source[0], default_port):
                _show(beacon, watch.take(beacon, now), stamp, interest, as_objects)


def _register(sock: socket.socket, port: int) -> None:
    """With the repeater, which is started if there is none, as libca does."""
    patience = _PATIENCE
    if repeater_runs(port) is False:
        process = subprocess.Popen(
            [sys.executable, "-m", "aioca", "repeater", "--port", str(port)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        print(
            f"aioca casw: no CA repeater ran: started one (pid {process.pid}), which stays",
            file=sys.stderr,
        )
        process.returncode = 0  # it is nobody's to wait for
        patience = _PATIENCE_WITH_A_NEW_ONE
    for _ in range(round(patience / _ATTEMPT)):
        begin = time.monotonic()
        if registered(sock, port, _ATTEMPT):
            return
        # Refused, it is known at once.
        time.sleep(max(0.0, _ATTEMPT - (time.monotonic() - begin)))
    raise Failure(f"no CA repeater answers at UDP port {port}; aioca doctor says who has it")


def _show(beacon: Beacon, sighting: Sighting, stamp: int, interest: int, as_objects: bool) -> None:
    if not sighting.anomaly and interest < 2:
        return
    host, port = beacon.server
    name = f"{_name(host)}:{port}"
    seconds, nanoseconds = divmod(stamp, 10**9)
    date = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(seconds))}.{nanoseconds:09}"
    if as_objects:
        print(
            json.dumps(
                {
                    "server": f"{host}:{port}", "name": name, "time": date,
                    "anomaly": sighting.anomaly, "number": beacon.number,
                    "version": f"4.{beacon.minor}", "period": round(sighting.period, 6),
                    "current": round(sighting.current, 6),
                }
            )
        )  # fmt: skip
    else:
        mark = ("* " if sighting.anomaly else "  ") if interest > 1 else ""
        print(f"{mark}{name:<40} {date}")
        if sighting.anomaly and interest > 0:
            print(f"\testimate={sighting.period:f} current={sighting.current:f}")
    sys.stdout.flush()


@lru_cache(maxsize=10_000)
def _name(address: str) -> str:
    """The name of a host; its address if it has none."""
    try:
        return printable(socket.gethostbyaddr(address)[0])
    except OSError:
        return address
