"""``aioca casw``: print the beacons of servers, like the tool of EPICS base."""

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

_QUIET_SECONDS = 15.0  # without a beacon, check whether the repeater still runs
_ATTEMPT_SECONDS = 0.2  # for one registration with the repeater
# Seconds for all attempts. A new repeater is a Python process, which may start slowly.
_REGISTER_SECONDS, _REGISTER_SECONDS_NEW = 2.0, 20.0
# Ctrl-C in the terminal of Windows reaches all processes but those of another group.
_NEW_GROUP: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)


@click.command()
@click.option(
    "-i",
    "--interest",
    type=click.IntRange(0),
    default=0,
    metavar="LEVEL",
    help="0: anomalies; 1: also the periods of the beacons; 2: all beacons, * marks anomalies.",
)
@click.option("--json", "as_objects", is_flag=True, help="Print each beacon as a JSON object.")
def command(interest: int, as_objects: bool) -> int:
    """Show beacons: servers that start, or come back.

    Beacons arrive through the CA repeater of this host, at EPICS_CA_REPEATER_PORT. If no repeater
    runs, casw starts one. That repeater keeps running after casw ends, because other programs may
    use it by then.

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
            sock.settimeout(_QUIET_SECONDS)
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
    """Register with the repeater; like libca, start one if none runs.

    Blocks for at most 2 s, or 20 s with a new repeater. Raises `Failure` if no repeater answers.
    """
    patience = _REGISTER_SECONDS
    if repeater_runs(port) is False:
        process = subprocess.Popen(
            [sys.executable, "-m", "aioca", "repeater", "--port", str(port)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, creationflags=_NEW_GROUP,
        )  # fmt: skip
        print(
            f"aioca casw: no CA repeater ran: started one (pid {process.pid}), which keeps running",
            file=sys.stderr,
        )
        process.returncode = 0  # so that Popen neither waits for it nor warns about it
        patience = _REGISTER_SECONDS_NEW
    for _ in range(round(patience / _ATTEMPT_SECONDS)):
        begin = time.monotonic()
        if registered(sock, port, _ATTEMPT_SECONDS):
            return
        # A refusal comes at once: wait for the rest of the attempt.
        time.sleep(max(0.0, _ATTEMPT_SECONDS - (time.monotonic() - begin)))
    raise Failure(f"no CA repeater answers at UDP port {port}; `aioca doctor` shows the cause")


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
    """Return the name of a host; its address if it has no name. Blocks on the look-up."""
    try:
        return printable(socket.gethostbyaddr(address)[0])
    except OSError:
        return address
