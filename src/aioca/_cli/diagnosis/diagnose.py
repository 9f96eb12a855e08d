"""Turns the doctor's report into findings, and the findings into one suggestion."""

from __future__ import annotations

import os

from ..wire.search import shown
from .conversation import Conversation
from .examine import PlaceReport, Report
from .findings import CAUSE, PV, REMARK, SERVER, Finding, all_is_well, sorted_findings
from .findings_libca import of_libca
from .findings_pv import of_missing, of_pv
from .findings_record import of_beacons, of_record, of_way


def diagnose(report: Report) -> list[Finding]:
    """Return all findings, including those of the settings, the most important first."""
    findings = list(report.settings.findings)
    unanswered = [pv for pv in report.pvs if not pv.found]
    # A silent address is harmless as long as other servers answer for all PVs.
    searching = "error" if unanswered or not report.pvs else "note"
    for place in report.places:
        findings += _of_place(place, searching)
    for server in report.name_servers:
        findings += _of_name_server(server, "error" if unanswered else "warning")
    findings += _of_repeater(report) + of_beacons(report)
    findings += of_libca(report.libca, os.environ)
    for pv in report.pvs:
        findings += of_pv(pv, report) if pv.found else of_missing(pv, report)
        if pv.found and pv.read_ms is not None:
            findings += of_record(pv) + of_way(pv)
    if report.strange:
        findings.append(
            Finding(
                "warning", "search", f"{report.strange} answers were not Channel Access",
                "find out with a packet sniffer which other program uses the port", REMARK,
            )
        )  # fmt: skip
    return sorted_findings(findings)


def suggestion(report: Report) -> str:
    """Return the one step that is the most useful now."""
    if all_is_well(report.findings):
        remarks = [finding for finding in report.findings if finding.rank == PV]
        return f"{remarks[0].what}: {remarks[0].advice}." if remarks else "Nothing: all is well."
    first = report.findings[0]
    return first.advice[0].upper() + first.advice[1:] + "."


# -- Addresses -------------------------------------------------------------------------------------


def describe(place: PlaceReport) -> str:
    """Describe in a few words what was found at an address."""
    if place.place.target.broadcast:
        state = "broadcast" if place.udp in ("silent", "not asked") else place.udp
        return "broadcast: not asked, as no PV was named" if place.udp == "not asked" else state
    if place.udp == "answered":
        return "answers searches"
    tcp = place.tcp or Conversation()
    if tcp.state == "speaks":
        speaks = f"a server of CA 4.{tcp.minor} is there ({tcp.milliseconds:.1f} ms)"
        return speaks if place.udp in ("silent", "") else f"{speaks}, UDP: {place.udp}"
    if place.udp == "refused" and tcp.state == "refused":
        return "nothing listens there"
    if place.udp not in ("silent", "refused", ""):
        return place.udp
    how = {
        "silent": "accepts connections, but sends nothing",
        "refused": "accepts no connections",
        "unanswered": "does not answer at all",
        "strange": "something that does not speak Channel Access",
    }.get(tcp.state, tcp.state)
    return f"nothing listens for searches; {how}" if place.udp == "refused" else how


def _of_place(place: PlaceReport, severity: str) -> list[Finding]:
    target = shown(place.place.target.address)
    tcp = place.tcp or Conversation()
    if place.udp in ("answered", "not asked") or place.place.target.broadcast:
        if place.udp in ("answered", "not asked", "silent"):
            return []
        return [_unreachable(target, place.udp, severity)]
    if tcp.state == "speaks":
        if tcp.found:
            return [
                Finding(
                    severity, target, f"{target} has the PV, but receives no searches by UDP",
                    f"open UDP port {place.place.target.port} in its firewall, or"
                    f" set EPICS_CA_NAME_SERVERS={target}", SERVER,
                )
            ]  # fmt: skip
        return []
    return [_of_silence(place, target, tcp, severity)]


def _of_silence(place: PlaceReport, target: str, tcp: Conversation, severity: str) -> Finding:
    """Return the finding for a host where no server answered."""
    origin = place.place.origin
    if place.udp == "silent" and tcp.state == "refused":
        return Finding(
            severity, target, f"{target} answers no search and accepts no connections",
            "check whether a server listens there (`ss -ulpn` on its host), and whether a firewall"
            " drops its answers", SERVER,
        )  # fmt: skip
    if place.udp == "refused":
        if place.on_default_port:
            what = f"nothing listens at {target}, but a server listens at port 5064 there"
            advice = (
                f"in {origin}, write port 5064 for this host instead of {place.place.target.port}"
                if place.place.has_port
                else "unset EPICS_CA_SERVER_PORT, which is the port of addresses without one"
            )
        else:
            what = f"nothing listens at {target} ({origin})"
            advice = (
                f"start the server, or find out its port (`casr` in its shell) and write that port"
                f" in {origin}"
            )
        return Finding(severity, target, what, advice, SERVER)
    if tcp.state == "silent":
        return Finding(
            severity, target,
            f"{target} accepts connections, but sends nothing: the server is frozen",
            "check whether its process is stopped (state T in `ps`), swapped out or in a"
            " debugger; continue or restart it", SERVER,
        )  # fmt: skip
    if tcp.state == "unanswered":
        return Finding(
            severity, target, f"{target} does not answer at all",
            "check whether the host is up, and whether a firewall drops UDP and TCP at this port",
            SERVER,
        )  # fmt: skip
    return _unreachable(target, tcp.state, severity)


def _unreachable(target: str, why: str, severity: str) -> Finding:
    reason = "the program there does not speak Channel Access" if why == "strange" else why
    return Finding(
        severity, target, f"{target} cannot be searched: {reason}",
        "correct the address, or check the network of this host", SERVER,
    )  # fmt: skip


def _of_name_server(server: PlaceReport, severity: str) -> list[Finding]:
    target, tcp = shown(server.place.target.address), server.tcp or Conversation()
    if tcp.state == "speaks":
        return []
    return [
        Finding(
            severity, target, f"the name server {target}: {describe(server)}",
            f"start the name server {target}, or remove it from EPICS_CA_NAME_SERVERS", CAUSE,
        )
    ]  # fmt: skip


def _of_repeater(report: Report) -> list[Finding]:
    port = report.settings.repeater_port
    if report.repeater is None:
        return [
            Finding(
                "warning", "repeater", f"a program that is not a CA repeater holds UDP port {port}",
                f"find that program (`ss -ulpn sport = :{port}`) and end it, or set"
                " EPICS_CA_REPEATER_PORT", REMARK,
            )
        ]  # fmt: skip
    return []
