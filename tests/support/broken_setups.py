"""Set-ups in which a PV does not connect, or not as it should: for tests, and for the docs.

``python -m tests.support.broken_setups PAGE`` writes what ``aioca doctor`` says to each of them
into a page of the docs. The page has the command. All traffic is on 127.0.0.1.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from aioca._cli.diagnosis.findings_pv import user
from aioca._cli.wire import protocol
from aioca.testing import SoftIoc, free_port, loopback_environment
from tests.support.commands import run_cli_in

DATABASE = """
record(ai, "PUMP:CURRENT") { field(VAL, "7.5") field(PINI, "YES") }
record(ao, "PUMP:SETPOINT") { field(ASG, "READONLY") field(VAL, "3") field(PINI, "YES") }
record(histogram, "PUMP:TURNS") { field(NELM, "5000") field(PINI, "YES") }
record(ao, "PUMP:LIMIT") { field(DISP, "1") field(VAL, "3") field(PINI, "YES") }
record(ao, "PUMP:VALVE") { field(DISA, "1") field(VAL, "1") field(UDF, "0") }
record(ai, "PUMP:PULSE") { field(TSE, "-1") field(VAL, "2") field(PINI, "YES") }
"""
# To the tests of the documentation
NOT_RUN = "<!-- not run: its set-up is made by broken_setups.py, and tried by test_doctor.py -->"
RULES = "ASG(DEFAULT) { RULE(1, WRITE) } ASG(READONLY) { RULE(1, READ) }"


@dataclass(frozen=True)
class Setup:
    """What is broken, and what is asked of the doctor; `environment` is in place of the rest."""

    title: str
    arguments: tuple[str, ...]
    environment: dict[str, str]


# What ends the set-up again, and an IOC with the records that all of them may use as it is
Maker = Callable[[ExitStack, SoftIoc], Setup]


def pump(stack: ExitStack, **environment: str) -> SoftIoc:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aioca-setup-")))
    rules = folder / "rules.acf"
    rules.write_text(RULES)
    return stack.enter_context(SoftIoc(DATABASE, access_security=rules, environment=environment))


def nothing_broken(stack: ExitStack, ioc: SoftIoc) -> Setup:
    return Setup("Nothing is broken", ("PUMP:CURRENT",), loopback_environment(ioc.port))


def wrong_port(stack: ExitStack, ioc: SoftIoc) -> Setup:
    return Setup("The wrong port", ("PUMP:CURRENT",), loopback_environment(free_port()))


def low_port(stack: ExitStack, ioc: SoftIoc) -> Setup:
    environment = {"EPICS_CA_SERVER_PORT": "4000", "EPICS_CA_AUTO_ADDR_LIST": "NO"}
    environment["EPICS_CA_ADDR_LIST"] = f"127.0.0.1:{ioc.port}"
    return Setup("A port that libca does not take", (), environment)


def no_that_means_yes(stack: ExitStack, ioc: SoftIoc) -> Setup:
    # Without a PV nothing is sent to the networks that this would search.
    environment = {**loopback_environment(ioc.port), "EPICS_CA_AUTO_ADDR_LIST": "No"}
    return Setup("The `No` that means yes", (), environment)


def misspelt(stack: ExitStack, ioc: SoftIoc) -> Setup:
    return Setup("A name that is misspelt", ("PUMP:CURENT",), loopback_environment(ioc.port))


def wrong_case(stack: ExitStack, ioc: SoftIoc) -> Setup:
    return Setup("A name in lower case", ("pump:current",), loopback_environment(ioc.port))


def wrong_field(stack: ExitStack, ioc: SoftIoc) -> Setup:
    return Setup(
        "A field that the record does not have", ("PUMP:CURRENT.UNIT",),
        loopback_environment(ioc.port),
    )  # fmt: skip


def refused_channel(stack: ExitStack, ioc: SoftIoc) -> Setup:
    return Setup(
        "A field that the server does not give to clients", ("PUMP:CURRENT.TIME",),
        loopback_environment(ioc.port),
    )  # fmt: skip


def refused_filter(stack: ExitStack, ioc: SoftIoc) -> Setup:
    return Setup(
        "A filter that the server cannot apply", ('PUMP:CURRENT.{"dbnd":{"width":1}}',),
        loopback_environment(ioc.port),
    )  # fmt: skip


def dollar_on_a_number(stack: ExitStack, ioc: SoftIoc) -> Setup:
    return Setup(
        "A `$` after the name of a number", ("PUMP:CURRENT.VAL$",), loopback_environment(ioc.port)
    )


def array_over_the_limit_of_the_server(stack: ExitStack, ioc: SoftIoc) -> Setup:
    port = pump(stack, EPICS_CA_AUTO_ARRAY_BYTES="NO").port
    return Setup(
        "An array that is larger than the server sends", ("PUMP:TURNS",), loopback_environment(port)
    )


def no_writes(stack: ExitStack, ioc: SoftIoc) -> Setup:
    return Setup("A record with DISP", ("PUMP:LIMIT",), loopback_environment(ioc.port))


def disabled(stack: ExitStack, ioc: SoftIoc) -> Setup:
    return Setup("A record that is disabled", ("PUMP:VALVE",), loopback_environment(ioc.port))


def no_time(stack: ExitStack, ioc: SoftIoc) -> Setup:
    return Setup("A record without a time", ("PUMP:PULSE",), loopback_environment(ioc.port))


def no_beacons(stack: ExitStack, ioc: SoftIoc) -> Setup:
    # The IOC sends them to another port than that of the repeater that `doctor` has
    arguments = ("--beacons", "1", "PUMP:CURRENT")
    return Setup("Beacons that do not arrive", arguments, loopback_environment(ioc.port))


def array_too_large(stack: ExitStack, ioc: SoftIoc) -> Setup:
    environment = {**loopback_environment(ioc.port), "EPICS_CA_AUTO_ARRAY_BYTES": "NO"}
    return Setup("An array that is larger than the settings allow", ("PUMP:TURNS",), environment)


def two_servers(stack: ExitStack, ioc: SoftIoc) -> Setup:
    ports = [ioc.port, pump(stack).port]
    return Setup("Two IOCs with the same PV", ("PUMP:CURRENT",), loopback_environment(ports))


def frozen(stack: ExitStack, ioc: SoftIoc) -> Setup:
    other = pump(stack)
    other.pause()
    return Setup("A server that is frozen", ("PUMP:CURRENT",), loopback_environment(other.port))


def unknown_host(stack: ExitStack, ioc: SoftIoc) -> Setup:
    environment = {"EPICS_CA_ADDR_LIST": "pump-ioc.invalid", "EPICS_CA_AUTO_ADDR_LIST": "NO"}
    return Setup("A host that does not exist", ("PUMP:CURRENT",), environment)


def read_only(stack: ExitStack, ioc: SoftIoc) -> Setup:
    return Setup("A PV that may only be read", ("PUMP:SETPOINT",), loopback_environment(ioc.port))


def mute_circuit(stack: ExitStack, ioc: SoftIoc) -> Setup:
    port = stack.enter_context(answering_but_mute())
    return Setup(
        "A server that answers searches only", ("PUMP:CURRENT",), loopback_environment(port)
    )


def name_server_gone(stack: ExitStack, ioc: SoftIoc) -> Setup:
    environment = {
        "EPICS_CA_ADDR_LIST": "", "EPICS_CA_AUTO_ADDR_LIST": "NO",
        "EPICS_CA_NAME_SERVERS": f"127.0.0.1:{free_port()}",
    }  # fmt: skip
    return Setup("A name server that is not there", ("PUMP:CURRENT",), environment)


BROKEN: tuple[Maker, ...] = (
    wrong_port, low_port, no_that_means_yes, misspelt, wrong_case, wrong_field, refused_channel,
    refused_filter, dollar_on_a_number, array_too_large, array_over_the_limit_of_the_server,
    two_servers, frozen, unknown_host, read_only, no_writes, disabled, no_time, no_beacons,
    mute_circuit, name_server_gone,
)  # fmt: skip


@contextmanager
def answering_but_mute() -> Iterator[int]:
    """A server that says it has every PV, takes connections, and says nothing then; its port."""
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        port = free_port()
        tcp.bind(("127.0.0.1", port))
        tcp.listen()
        udp.bind(("127.0.0.1", port))

        def answer() -> None:
            while True:
                data, source = udp.recvfrom(65536)
                if data == b"end":
                    return
                for message in protocol.take(data)[0]:
                    if message.command == protocol.SEARCH:
                        reply = protocol.Message(
                            protocol.SEARCH, port, 0, 0xFFFFFFFF, message.second, b"\0\x0d"
                        )
                        udp.sendto(bytes(reply), source)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield port
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"end", ("127.0.0.1", port))
            thread.join()


def doctor(setup: Setup, *options: str) -> subprocess.CompletedProcess[str]:
    """What the doctor says."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EPICS_CA")}
    # A repeater of its own, which is not to be a program that stays
    environment |= {"EPICS_CA_REPEATER_PORT": str(free_port()), "PATH": "/none"}
    return run_cli_in(environment | setup.environment, "doctor", *options, *setup.arguments)


def sessions(makers: tuple[Maker, ...], *options: str) -> list[tuple[Setup, str, str, int]]:
    """Each set-up, with the doctor's output, its errors and its exit status; all at once."""

    def session(maker: Maker) -> tuple[Setup, str, str, int]:
        with ExitStack() as stack:
            setup = maker(stack, ioc)
            said = doctor(setup, *options)
            return setup, said.stdout, said.stderr, said.returncode

    with ExitStack() as stack, ThreadPoolExecutor(6) as threads:
        ioc = pump(stack)
        return list(threads.map(session, makers))


def shown_sessions() -> str:
    """For the docs: without the settings in no environment, the CA repeater and libca."""
    parts = [
        "## Sessions\n\nA soft IOC on 127.0.0.1 has `PUMP:CURRENT`, `PUMP:SETPOINT`,"
        " `PUMP:TURNS`, `PUMP:LIMIT`, `PUMP:VALVE` and `PUMP:PULSE`. The settings that have their"
        "\ndefault, the CA repeater and libca are left out here."
    ]
    for setup, output, _, status in sessions((nothing_broken, *BROKEN)):
        given = " ".join(
            f"{name}={value!r}" if " " in value else f"{name}={value}"
            for name, value in setup.environment.items()
            if value
        )
        shown = re.sub(r"(?m)^  EPICS_CA_.*  default\n", "", output).strip("\n")
        shown = re.sub(r"(?m)^  EPICS_CA_REPEATER_PORT .*\n", "", shown)
        shown = re.sub(r"CA repeater\n.*\n\n?", "", shown)
        shown = re.sub(r"(?m)^libca\n(?:  .*\n)+\n?", "", shown)
        shown = shown.replace(f"{user()}@{socket.gethostname()}", "operator@console")
        command = shlex.join(["aioca", "doctor", *setup.arguments])
        parts.append(
            f"### {setup.title}\n\n{NOT_RUN}\n```console\n$ export {given}\n$ {command}\n\n"
            f"{shown}\n$ echo $?\n{status}\n```"
        )
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="the page whose sessions are to be written anew")
    file = parser.parse_args().file
    mark = f"% Below this line: python -m tests.support.broken_setups {file}\n"
    before, found, _ = file.read_text().partition(mark)
    assert found, f"{file} has no line that says {mark}"
    file.write_text(f"{before}{mark}\n{shown_sessions()}")
