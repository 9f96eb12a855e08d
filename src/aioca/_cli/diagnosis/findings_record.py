"""The findings about the record of a PV in an IOC, and about how its server is found."""

from __future__ import annotations

from ..wire.search import shown
from .examine import Report
from .examine_pv import PvReport
from .findings import PV, REMARK, SERVER, Finding

# Values of the field TSE for which the record does not take the time of its processing
_TIME_OF_EVENT, _TIME_OF_DEVICE = -1, -2


def of_record(pv: PvReport) -> list[Finding]:
    """Return the findings from the fields of the record that concern each of its PVs."""
    record, _, name = pv.name.partition(".")
    findings: list[Finding] = []
    if pv.fields.get("DISP") and name != "DISP":
        findings.append(
            Finding(
                "note", pv.name,
                f"{pv.name} refuses every write: the field DISP of its record is not 0",
                f"to write it, write 0 to {record}.DISP", PV,
            )
        )  # fmt: skip
    if "DISA" in pv.fields and pv.fields["DISA"] == pv.fields.get("DISV"):
        findings.append(
            Finding(
                "note", pv.name,
                f"{pv.name} is in a record that is disabled: it does not process, and a write"
                " completes at once",
                f"see which record sets {record}.DISA (its link SDIS); the record processes when"
                f" DISA is not {pv.fields['DISA']}", PV,
            )
        )  # fmt: skip
    if pv.no_time and pv.fields.get("TSE") in (_TIME_OF_EVENT, _TIME_OF_DEVICE):
        findings.append(_of_time(pv, record))
    return findings


def _of_time(pv: PvReport, record: str) -> Finding:
    tse = pv.fields["TSE"]
    source, advice = {
        _TIME_OF_EVENT: (
            "an event", "have the IOC install a provider of event times",
        ),
        _TIME_OF_DEVICE: (
            "its device", "use device support that sets the time",
        ),
    }[tse]  # fmt: skip
    return Finding(
        "note", pv.name,
        f"{pv.name} has no time stamp (it is 0, 1990-01-01): its record takes the time from"
        f" {source} (TSE is {tse}), and nothing gives it one",
        f"{advice}, or set {record}.TSE to 0: then it is the time of the processing", PV,
    )  # fmt: skip


def of_way(pv: PvReport) -> list[Finding]:
    """Return the findings about how clients find the server of a connected PV again."""
    findings: list[Finding] = []
    if all(found.via.startswith("TCP") for found in pv.found):
        findings.append(
            Finding(
                "note", pv.name, f"{pv.name} is found through a name server only",
                "after a restart of its server, or of the name server, it can take half a minute"
                " until it is connected again", REMARK,
            )
        )  # fmt: skip
    return findings


def of_beacons(report: Report) -> list[Finding]:
    """Return the findings about the beacons, if they were listened for."""
    if not report.beacon_seconds:
        return []
    port = report.settings.repeater_port
    if report.beacons_heard is None:
        return [
            Finding(
                "error", "beacons", f"no CA repeater at UDP port {port} passes beacons on",
                "start one (`aioca repeater`), and check that no other program holds the port",
                SERVER,
            )
        ]  # fmt: skip
    return [
        Finding(
            "warning", shown(server),
            f"no beacon of {shown(server)} was heard in {report.beacon_seconds:g} s: after it was"
            " away, clients find it again only by their searches, which get rare",
            "set EPICS_CAS_BEACON_ADDR_LIST in the environment of the server to the address of this"
            f" host or network, and open UDP port {port} here", SERVER,
        )
        for server in report.servers()
        if server not in report.beacons_heard
    ]  # fmt: skip
