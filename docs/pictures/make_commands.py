"""Make the pictures of the other commands: ``python docs/pictures/make_commands.py [NAME...]``.

Each is a session of bash in a real terminal, with soft IOCs on this machine; it is written beside
this file as NAME.svg. Needs the extra ``test``, and bash. `watch` and `plot` have a script of
their own.
"""

from __future__ import annotations

import argparse
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from terminal import Shell, confine, shell

from aioca.testing import SoftIoc, free_port, loopback_environment
from tests.support.broken_setups import Maker, nothing_broken, pump, two_servers
from tests.support.commands import Output, started

HERE = Path(__file__).parent
COLUMNS, LINES = 92, 60  # the pictures have as many lines as there is something in

RECORDS = """
record(ao, "BEAM:CURRENT") {
    field(VAL, "299.7") field(EGU, "mA") field(PREC, "2") field(PINI, "YES")
    field(LOLO, "100") field(LLSV, "MAJOR") field(LOW, "280") field(LSV, "MINOR")
    field(HOPR, "320")
}
record(ao, "OVEN:TEMPERATURE") {
    field(VAL, "31.2") field(EGU, "degC") field(PREC, "1") field(PINI, "YES")
    field(HIGH, "30") field(HSV, "MINOR") field(HIHI, "40") field(HHSV, "MAJOR")
    field(LOW, "15") field(LSV, "MINOR") field(LOLO, "10") field(LLSV, "MAJOR")
    field(LOPR, "0") field(HOPR, "60") field(DRVL, "15") field(DRVH, "50")
}
record(bo, "SHUTTER") {
    field(ZNAM, "Closed") field(ONAM, "Open") field(DOL, "0") field(PINI, "YES")
}
record(ai, "GAUGE:PRESSURE") { field(EGU, "mbar") }
record(ao, "MOTOR") { field(VAL, "2") field(OUT, "MOTOR:MOVE.A PP") field(PREC, "1") }
record(calcout, "MOTOR:MOVE") { field(CALC, "A") field(ODLY, "1") field(OOPT, "Every Time") }
record(waveform, "SPECTRUM") {
    field(FTVL, "LONG") field(NELM, "8") field(INP, [0, 1, 4, 9, 4, 1, 0]) field(PINI, "YES")
}
"""

PUMP = """
record(ai, "$(P)CURRENT") { field(VAL, "7.5") field(PREC, "1") field(PINI, "YES") }
record(ao, "$(P)SETPOINT") { field(VAL, "3") field(PREC, "1") field(PINI, "YES") }
"""


@contextmanager
def session(environment: dict[str, str] | None = None, columns: int = COLUMNS) -> Iterator[Shell]:
    """A shell whose commands reach nothing but what the environment names."""
    settings = {**loopback_environment([]), "EPICS_CA_REPEATER_PORT": str(free_port())}
    settings.update(environment or {})
    with (
        tempfile.TemporaryDirectory() as folder,
        shell(Path(folder), columns, LINES, settings) as made,
    ):
        yield made


# -- The pictures ----------------------------------------------------------------------------------


def caget(file: Path) -> None:
    """Values with their alarms, in all severities, and one with all that belongs to it."""
    with SoftIoc(RECORDS) as ioc, session(loopback_environment(ioc.port)) as bash:
        ioc.command("dbpf OVEN:TEMPERATURE 41.8")
        ioc.command("dbpf BEAM:CURRENT 271.3")
        bash.run("aioca caget SHUTTER SPECTRUM")
        bash.run("aioca caget -a SHUTTER BEAM:CURRENT OVEN:TEMPERATURE GAUGE:PRESSURE")
        bash.run("aioca caget -d CTRL_DOUBLE OVEN:TEMPERATURE")
        bash.run("aioca caget -w 1 BEAM:CURENT; echo $?")
        bash.photograph("aioca caget", file)


def caput(file: Path) -> None:
    """Writing, waiting for a motor, and what a PV is."""
    with SoftIoc(RECORDS) as ioc, session(loopback_environment(ioc.port)) as bash:
        bash.run("aioca caput SHUTTER Open")
        bash.run("aioca caput -c -w 60 MOTOR 12.5")
        bash.run("aioca caput -a SPECTRUM 3 10 20 30")
        bash.run("aioca cainfo SHUTTER")
        bash.photograph("aioca caput, aioca cainfo", file)


def camonitor(file: Path) -> None:
    """A temperature goes up and down again, and then the IOC goes."""
    with SoftIoc(RECORDS) as ioc, session(loopback_environment(ioc.port)) as bash:
        ioc.command("dbpf OVEN:TEMPERATURE 28.4")
        bash.type("aioca camonitor OVEN:TEMPERATURE SHUTTER GAUGE:PRESSURE\n")
        bash.screen.until_row("GAUGE:PRESSURE", "INVALID")
        first = bash.screen.picture.cursor.y
        changes = [
            ("SHUTTER", "Open"), ("OVEN:TEMPERATURE", "30.6"), ("OVEN:TEMPERATURE", "36.1"),
            ("OVEN:TEMPERATURE", "40.3"), ("SHUTTER", "Closed"), ("OVEN:TEMPERATURE", "37.7"),
            ("OVEN:TEMPERATURE", "29.2"),
        ]  # fmt: skip
        for line, (name, value) in enumerate(changes, first + 1):
            time.sleep(0.7)  # that the time stamps look like it
            ioc.command(f"dbpf {name} {value}")
            bash.until_line(line)
        ioc.kill()
        bash.until_seen(3, "*** disconnected")
        bash.photograph("aioca camonitor", file)


def connecting(file: Path) -> None:
    """Of four thousand PVs one thousand are on an IOC that is not there."""
    records = "".join(
        f'record(ai, "ID{n // 100:02}:BPM{n % 100:02}:X") {{}}\n' for n in range(3000)
    )
    with SoftIoc(records) as ioc, session(loopback_environment(ioc.port)) as bash:
        names = "".join(f"ID{n // 100:02}:BPM{n % 100:02}:X\n" for n in range(4000))
        (bash.folder / "pvs.txt").write_text(names)
        bash.run("wc -l < pvs.txt")
        bash.type("aioca caget -w 60 $(cat pvs.txt)\n")
        bash.until_seen(1, "3000/4000")
        bash.photograph("aioca caget, of many PVs", file)


def _doctor(maker: Maker, file: Path) -> None:
    with ExitStack() as stack:
        setup = maker(stack, pump(stack))
        # The doctor shows the file of libca: by a short path that is not of this machine
        packages = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "site-packages"
        packages.symlink_to(sysconfig.get_path("platlib"))
        environment = {**setup.environment, "PYTHONPATH": str(packages)}
        bash = stack.enter_context(session(environment))
        bash.run(" ".join(["aioca doctor", *setup.arguments]))
        bash.photograph("aioca doctor", file)


def doctor(file: Path) -> None:
    _doctor(nothing_broken, file)


def doctor_two_servers(file: Path) -> None:
    _doctor(two_servers, file)


@contextmanager
def _repeater(port: int) -> Iterator[None]:
    """One that ends with us."""
    with started("repeater", "--port", str(port), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        Output(process.stdout.fileno()).until(lambda text: "CA repeater at" in text)
        yield


def casw(file: Path) -> None:
    """An IOC starts."""
    port = free_port()
    beacons = {"EPICS_CAS_BEACON_PORT": str(port), "EPICS_CAS_BEACON_ADDR_LIST": "127.0.0.1"}
    with _repeater(port), session({"EPICS_CA_REPEATER_PORT": str(port)}) as bash:
        bash.type("aioca casw -i 2\n")
        with SoftIoc(RECORDS, environment=beacons) as first:
            bash.until_seen(2, f" localhost:{first.port}")
            with SoftIoc(PUMP, {"P": "TEST:"}, environment=beacons) as second:
                bash.until_seen(9, f" localhost:{second.port}")
        bash.photograph("aioca casw", file)


def repeater(file: Path) -> None:
    with session() as bash:
        bash.type("aioca repeater\n")
        bash.until_seen(1, "Ctrl-C ends it")
        bash.photograph("aioca repeater", file)


def ioc(file: Path) -> None:
    """The prompt of a soft IOC; a name is completed."""
    with session() as bash:
        (bash.folder / "pump.db").write_text(PUMP)
        bash.run("aioca ioc pump.db -m P=TEST:", "ioc>")
        bash.run("dbl", "ioc>")
        bash.type("dbpf TEST:S\t")
        bash.until_seen(1, "dbpf TEST:SETPOINT")
        bash.run(" 4", "ioc>")
        bash.run("dbgf TEST:SETPOINT.PREC", "ioc>")
        bash.run("exit")
        bash.photograph("aioca ioc", file)


def demo(file: Path) -> None:
    with session(columns=110) as bash:
        bash.run("aioca demo")
        bash.photograph("aioca demo", file)


def help(file: Path) -> None:
    with session() as bash:
        bash.run("aioca --help")
        bash.run("aioca ioc --help")
        bash.photograph("aioca --help", file)


def completion(file: Path) -> None:
    """The Tab key: of a command, of an option, of its value."""
    with session() as bash:
        for typed in ["aioca ca", "aioca doctor --", "aioca camonitor --backend "]:
            bash.type(f"\x15{typed}\t")  # in place of what was typed before
            bash.until_typed(typed)
        bash.type("t\t")
        bash.until_seen(1, "--backend trio")
        bash.photograph("aioca, and the Tab key", file)


PICTURES: dict[str, Callable[[Path], None]] = {
    "caget": caget,
    "caput": caput,
    "camonitor": camonitor,
    "connecting": connecting,
    "doctor": doctor,
    "doctor-two-servers": doctor_two_servers,
    "casw": casw,
    "repeater": repeater,
    "ioc": ioc,
    "demo": demo,
    "help": help,
    "completion": completion,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PICTURES))
    names = parser.parse_args().names
    if unknown := sorted(set(names) - set(PICTURES)):
        parser.error(f"no picture is called {' or '.join(unknown)}")
    confine()
    for name in names or PICTURES:
        PICTURES[name](HERE / f"{name}.svg")


if __name__ == "__main__":
    main()
