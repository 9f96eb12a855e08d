"""``aioca doctor``: find out why a PV does not connect."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager

import click

from ..._ca.libca import MAX_NAME_BYTES
from ..shared import Failure, Seconds, backend_option


@click.command()
@click.argument("pvs", nargs=-1, metavar="[PV]...")
@click.option(
    "-w",
    "--timeout",
    type=Seconds(),
    default=2.0,
    metavar="S",
    help="How long to wait for a connection, and for a value (default: 2).",
)
@click.option(
    "--window",
    type=Seconds(),
    default=1.0,
    metavar="S",
    help="How long to listen for answers to a search (default: 1).",
)
@click.option(
    "--beacons",
    "beacon_seconds",
    type=Seconds(),
    default=0.0,
    metavar="S",
    help="How long to listen for beacons of the servers; they send one every 15 s (default: 0).",
)
@click.option("--json", "as_object", is_flag=True, help="Print one JSON object.")
@backend_option
def command(
    pvs: tuple[str, ...],
    timeout: float,
    window: float,
    beacon_seconds: float,
    as_object: bool,
    backend: str,
) -> int:
    """Find out why PVs do not connect.

    Shows where libca searches (the EPICS_CA_* settings as libca reads them, and the mistakes in
    them), which servers run there, which servers answer a search for each PV and how fast, the
    channel that libca makes, and the one step that would help most. Without PVs, it checks only the
    settings and the servers in them, and sends nothing to a broadcast address. It never writes to a
    PV.

    The exit status is 0 if there is no finding, or only notes, and 1 otherwise.

    \b
    Examples:
      aioca doctor                          the settings
      aioca doctor SR-DI-DCCT-01:SIGNAL     one PV
      aioca doctor --window 5 A B           PVs behind a slow gateway
      aioca doctor --beacons 20 A           whether clients hear that its server starts
      aioca doctor --json A | jq .findings  for a program
    """
    for pv in pvs:
        if not pv.isprintable():
            raise Failure(f"the name of a PV is printable text, not {pv[:20]!r}")
        if not 0 < len(pv.encode()) <= MAX_NAME_BYTES:
            raise Failure(
                f"the name of a PV has 1 to {MAX_NAME_BYTES} bytes: {pv[:20] or repr(pv)}"
            )
    # Not at the top: only this command needs rich and the client, which take long to import.
    from ..diagnosis.diagnose import diagnose
    from ..diagnosis.examine import examine
    from ..diagnosis.findings import all_is_well
    from ..diagnosis.interfaces import broadcasts
    from ..diagnosis.report import ReportConsole, as_json, print_report
    from ..diagnosis.settings import read_settings

    settings = read_settings(os.environ, broadcasts)
    with _libca_silenced():
        report = examine(pvs, settings, window, timeout, backend, beacon_seconds)
    report.findings = diagnose(report)
    if as_object:
        print(json.dumps(as_json(report)))
    else:
        print_report(report, ReportConsole())
    return 0 if all_is_well(report.findings) else 1


@contextmanager
def _libca_silenced() -> Generator[None, None, None]:
    """Discard libca's messages on stderr: the findings say the same."""
    sys.stderr.flush()
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)
