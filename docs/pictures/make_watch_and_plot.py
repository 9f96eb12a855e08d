"""Make the pictures of watch and plot: ``python docs/pictures/make_watch_and_plot.py``.

Two soft IOCs play a small beamline for a minute, the commands are run on it in a terminal, and
what they show then is written beside this file. Needs the extra ``test``.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import time
from pathlib import Path

from terminal import Shown, between_frames, confine, photograph, shown, started

from aioca.testing import SoftIoc, free_port, loopback_environment

HERE = Path(__file__).parent
COLUMNS, LINES = 128, 25
SECONDS = 60

# -- The beamline ----------------------------------------------------------------------------------


def moving(name: str, calc: str, fields: str, scan: str = ".1") -> str:
    """A record that computes its value from A, which counts tenths of a second."""
    return (
        f'record(calc, "BL01:{name}") {{ field(SCAN, "{scan} second") field(INPA, "BL01:CLOCK")'
        f' field(CALC, "{calc}") {fields} }}\n'
    )


def still(kind: str, name: str, fields: str) -> str:
    return f'record({kind}, "BL01:{name}") {{ field(PINI, "YES") {fields} }}\n'


def field(**fields: object) -> str:
    return " ".join(f'field({name}, "{value}")' for name, value in fields.items())


def labels(*names: str, **fields: object) -> str:
    codes = ("ZRST", "ONST", "TWST", "THST")
    return field(**dict(zip(codes, names, strict=False)), **fields)


def spectrum() -> str:
    """Three lines on a background."""
    peaks = [(60, 6, 500), (140, 9, 1400), (165, 7, 700)]
    return str([
        round(900 * math.exp(-n / 90) / 4 + 20
              + sum(h * math.exp(-(((n - at) / w) ** 2)) for at, w, h in peaks)
              + 9 * math.sin(n * n))
        for n in range(256)
    ])  # fmt: skip


BEAMLINE = "".join([
    'record(calc, "BL01:CLOCK") { field(SCAN, ".1 second") field(INPA, "BL01:CLOCK")'
    ' field(CALC, "A+1") }\n',
    moving("RING:CURRENT", "300-(A%150)/60+RNDM/20", field(EGU="mA", PREC=2)),
    still("mbbo", "RING:MODE", labels("Shutdown", "Machine", "User beam", VAL=2)),
    still("mbbo", "SHUTTER", labels("Closed", "Open", VAL=1, ZRSV="MINOR")),
    moving("MONO:ENERGY", "12.658+SIN(A/60)/20", field(EGU="keV", PREC=4)),
    moving("MONO:BRAGG", "9.0142-SIN(A/60)/28", field(EGU="deg", PREC=4)),
    moving("MONO:CRYSTAL:TEMP", "78.4+4.3*SIN(A/70)+SIN(A/9)/2+RNDM/5",
           field(EGU="K", PREC=2, HIGH=80, HSV="MINOR", HIHI=82, HHSV="MAJOR", LOPR=72, HOPR=84)),
    moving("VAC:GAUGE1", "(2.1+SIN(A/80)/3+RNDM/9)/1e9", field(EGU="mbar", PREC=2)),
    moving("VAC:GAUGE2", "(8+SIN(A/50)+RNDM/3)/1e9",
           field(EGU="mbar", PREC=2, HIHI=5e-9, HHSV="INVALID")),
    moving("MIRROR:PITCH", "2812.5+RNDM/8",
           field(EGU="urad", PREC=1, HIHI=2812, HHSV="MAJOR"), scan="1"),
    still("mbbo", "MIRROR:STRIPE", labels("Si", "Rh", "Pt", VAL=1)),
    still("ao", "SLIT1:GAP", field(VAL=0.25, EGU="mm", PREC=3)),
    moving("CRYO:LEVEL", "38.2-A/300", field(EGU="%", PREC=1, LOW=40, LSV="MINOR"), scan="1"),
    moving("CRYO:PRESSURE", "1.312+SIN(A/40)/90", field(EGU="bar", PREC=3), scan=".5"),
    still("stringout", "SAMPLE:NAME", field(VAL="lysozyme 17")),
    moving("SAMPLE:X", "SIN(A/30)*1.2", field(EGU="mm", PREC=4)),
    moving("SAMPLE:Y", "COS(A/30)*1.2", field(EGU="mm", PREC=4)),
    still("mbbo", "DETECTOR:STATE", labels("Idle", "Acquiring", "Error", VAL=1)),
    moving("DETECTOR:COUNTS", "48200+9000*SIN(A/25)*SIN(A/90)+RNDM*900",
           field(EGU="cts/s", PREC=0, HIGH=55000, HSV="MINOR", HIHI=57000, HHSV="MAJOR")),
    still("waveform", "DETECTOR:SPECTRUM",
          field(FTVL="DOUBLE", NELM=256, EGU="counts", INP=spectrum())),
    still("stringout", "DETECTOR:FILE", field(VAL="/data/run-0142/scan_017.h5")),
])  # fmt: skip

# Of an IOC of its own, which has its troubles
LASER = moving(
    "LASER:POWER", "5.2+SIN(A/35)/4+RNDM/30", field(EGU="W", PREC=2, HIHI=5.43, HHSV="INVALID")
).replace("BL01:CLOCK", "BL01:LASER:CLOCK") + (
    'record(calc, "BL01:LASER:CLOCK") { field(SCAN, ".1 second") field(INPA, "BL01:LASER:CLOCK")'
    ' field(CALC, "A+1") }\n'
)

NAMES = [
    name for name in re.findall(r'"(BL01:[^"]*)"\) {', BEAMLINE + LASER) if "CLOCK" not in name
]
PLOTTED = ["MONO:CRYSTAL:TEMP", "LASER:POWER", "SHUTTER", "DETECTOR:SPECTRUM"]

# -- The minute ------------------------------------------------------------------------------------


def main() -> None:
    """Play it, and take the pictures."""
    ports = [free_port(), free_port()]
    confine()
    os.environ.update(loopback_environment(ports))
    plot = ["plot", *(f"BL01:{name}" for name in PLOTTED), "--seconds", str(SECONDS)]
    with (
        SoftIoc(BEAMLINE, port=ports[0]) as beamline,
        SoftIoc(LASER, port=ports[1]) as laser,
        shown("watch", *NAMES, columns=COLUMNS, lines=LINES) as screen,
        started(*plot, "-o", str(HERE / "plot.png")) as plotting,
    ):
        begin = time.monotonic()
        for at, what in [
            (12, lambda: beamline.command("dbpf BL01:SHUTTER Closed")),
            (19, lambda: beamline.command("dbpf BL01:SHUTTER Open")),
            (26, laser.kill),
            (36, laser.start),
            (47, lambda: beamline.command("dbpf BL01:SHUTTER Closed")),
            (50, lambda: beamline.command("dbpf BL01:SHUTTER Open")),
        ]:
            screen_for(screen, begin + at - time.monotonic())
            what()
        while plotting.poll() is None:  # and the terminal is read, or it would fill
            screen_for(screen, 0.5)
        if plotting.returncode:
            raise SystemExit("aioca plot has failed")
        screen_for(screen, 6.0)
        laser.kill()
        screen.until_row("BL01:LASER:POWER", "disconnected")
        screen_for(screen, 2.0)
        screen.until(lambda: between_frames(screen))
        photograph(screen, "aioca watch", HERE / "watch.svg")
        screen.type("q")
        if screen.ended():
            raise SystemExit("aioca watch has failed")


def screen_for(screen: Shown, seconds: float) -> None:
    """Go on to read what the command shows."""
    end = time.monotonic() + seconds
    screen.until(lambda: time.monotonic() >= end, seconds + 30)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    main()
