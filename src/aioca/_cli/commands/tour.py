"""``aioca demo``: start a soft IOC, and read, write and monitor its records.

It needs only aioca itself, without the extra ``cli``.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from typing import Any

import anyio

from ... import (
    FORMAT_CTRL,
    FORMAT_TIME,
    CANothing,
    caget,
    cainfo,
    camonitor,
    caput,
    connect,
    run,
)
from ...testing import SoftIoc, free_port, loopback_environment

DATABASE = """
record(ai, "$(P)TEMPERATURE") {
    field(VAL, "21.5") field(EGU, "degC") field(PREC, "2")
    field(HIGH, "30") field(HSV, "MINOR") field(HIHI, "40") field(HHSV, "MAJOR")
}
record(ao, "$(P)SETPOINT") { field(VAL, "20") field(EGU, "degC") field(PREC, "1") }
record(mbbo, "$(P)MODE") {
    field(ZRST, "Off") field(ONST, "Manual") field(TWST, "Automatic") field(VAL, "1")
}
record(stringout, "$(P)NAME") { field(VAL, "demo") }
record(waveform, "$(P)SPECTRUM") {
    field(FTVL, "DOUBLE") field(NELM, "8") field(INP, [0, 1, 4, 9, 4, 1, 0])
}
record(calcout, "$(P)MOVE") { field(CALC, "A") field(ODLY, "0.7") field(OOPT, "Every Time") }
record(calc, "$(P)COUNTER") {
    field(SCAN, ".1 second") field(INPA, "$(P)COUNTER") field(CALC, "(A+1)%1000")
}
record(calc, "$(P)SINE") {
    field(SCAN, ".1 second") field(INPA, "$(P)COUNTER") field(CALC, "10*SIN(A/8)")
    field(EGU, "mm") field(PREC, "3")
    field(HIGH, "7") field(HSV, "MINOR") field(HIHI, "9.5") field(HHSV, "MAJOR")
}
record(calc, "$(P)NOISE") {
    field(SCAN, ".2 second") field(CALC, "RNDM") field(PREC, "4") field(EGU, "V")
}
"""

_MOVING = ("COUNTER", "SINE", "NOISE")


def demo(backend: str, seconds: float) -> None:
    """Start the IOC, get, put and monitor, stop the IOC, and print each step. Blocks."""
    prefix = f"DEMO-{secrets.token_hex(4).upper()}:"
    port = free_port()
    # Use loopback and this port only, instead of the settings of the user.
    for name in [name for name in os.environ if name.startswith("EPICS_CA")]:
        del os.environ[name]
    os.environ.update(loopback_environment(port))
    print(f"Starting a soft IOC on 127.0.0.1:{port}, its records under {prefix} ...")
    with SoftIoc(DATABASE, {"P": prefix}, port=port) as ioc:
        try:
            run(_tour(prefix, backend, seconds), backend=backend)
            print("\nStopping the soft IOC.")
        finally:
            # libca closes the circuit some time later. If the server ended first, libca would
            # report a disconnection.
            give_up = time.monotonic() + 1.0
            while ioc.client_count() and time.monotonic() < give_up:
                time.sleep(0.01)


async def _tour(prefix: str, backend: str, seconds: float) -> None:
    start = time.perf_counter()
    names = ["TEMPERATURE", "SETPOINT", "MODE", "NAME", "SPECTRUM"]
    await connect([prefix + name for name in (*names, *_MOVING)])
    print(f"Connected in {_ms(start)} ({backend}).")

    print(f"\nawait caget({names}, format=FORMAT_CTRL)")
    start = time.perf_counter()
    for value in await caget([prefix + name for name in names], format=FORMAT_CTRL):
        label = f" = {value.label}" if hasattr(value, "label") else ""
        units = f" {value.units}" if getattr(value, "units", "") else ""
        print(f"    {value.name.removeprefix(prefix):12} {+value}{label}{units}")
    print(f"    all in {_ms(start)}")

    print("\nawait caput('SETPOINT', 25.5, wait=True)")
    await caput(prefix + "SETPOINT", 25.5, wait=True)
    print(f"    read back: {await caget(prefix + 'SETPOINT')}")
    print("await caput('MODE', 'Automatic', wait=True)")
    await caput(prefix + "MODE", "Automatic", wait=True)
    print(f"    read back: {await caget(prefix + 'MODE', datatype=str)}")
    print("await caput('MOVE.A', 42, wait=True), which takes the record 0.7 s")
    start = time.perf_counter()
    await caput(prefix + "MOVE.A", 42, wait=True)
    print(f"    done after {_ms(start)}")
    print("await caput('MODE', 'Sideways', wait=True), which the server refuses")
    try:
        await caput(prefix + "MODE", "Sideways", wait=True)
    except CANothing as error:
        print(f"    {type(error).__name__}: {error}")
    print("await cainfo('SINE')")
    print("    " + str(await cainfo(prefix + "SINE")).replace("\n", "\n    "))

    print(f"\nasync with camonitor({list(_MOVING)}, format=FORMAT_TIME) as updates:")
    await _watch([prefix + name for name in _MOVING], seconds)


async def _watch(pvs: list[str], seconds: float) -> None:
    """Show live values: redrawn in a terminal; otherwise a line for each second."""
    terminal = sys.stdout.isatty()
    latest: dict[str, Any] = {}
    updates_seen = 0
    drawn = shown = 0.0
    with anyio.move_on_after(seconds):
        async with camonitor(pvs, format=FORMAT_TIME) as updates:
            async for value in updates:
                updates_seen += 1
                first = not latest
                latest[value.name] = value
                now = time.monotonic()
                if terminal and len(latest) == len(pvs) and now - drawn > 0.05:
                    if drawn:
                        sys.stdout.write(f"\x1b[{len(pvs)}A")
                    for pv in pvs:
                        sys.stdout.write(f"\x1b[2K    {_row(latest[pv])}\n")
                    sys.stdout.flush()
                    drawn = now
                elif not terminal and not first and now - shown >= 1.0:
                    print("    " + "   ".join(f"{_name(pv)} {latest[pv]:.3f}" for pv in latest))
                    shown = now
    print(f"    {updates_seen} updates in {seconds:g} s")


def _row(value: Any) -> str:
    bar = ""
    if _name(value.name) == "SINE":
        bar = " " * round(value + 10) + "*"
    stamp = value.datetime.strftime("%H:%M:%S.%f")[:-3]
    return f"{_name(value.name):8} {value:10.4f}  {stamp}  {value.alarm.severity:8} |{bar:21}|"


def _name(pv: str) -> str:
    return pv.rpartition(":")[2]


def _ms(start: float) -> str:
    return f"{(time.perf_counter() - start) * 1000:.1f} ms"
