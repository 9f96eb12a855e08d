"""What the doctor makes of what it has seen: findings, and from them one suggestion."""

from __future__ import annotations

from ..wire.search import shown
from .conversation import Conversation
from .examine import PlaceReport, Report
from .findings import CAUSE, PV, REMARK, SERVER, Finding, all_is_well, sorted_findings
from .findings_pv import of_missing, of_pv


def diagnose(report: Report) -> list[Finding]:
    """All findings, those of the settings included; what matters most comes first."""
    findings = list(report.settings.findings)
    unanswered = [pv for pv in report.pvs if not pv.found]
    # Silence does no harm as long as others answer for all PVs.
    searching = "error" if unanswered or not report.pvs else "note"
    for place in report.places:
        findings += _of_place(place, searching)
    for server in report.name_servers:
        findings += _of_name_server(server, "error" if unanswered else "warning")
    findings += _of_repeater(report)
    for pv in report.pvs:
        findings += of_pv(pv, report) if pv.found else of_missing(pv, report)
    if report.strange:
        findings.append(
            Finding(
                "warning", "search", f"{report.strange} answers were not Channel Access",
                "see who else uses the port, with a packet sniffer", REMARK,
            )
        )  # fmt: skip
    return sorted_findings(findings)


def suggestion(report: Report) -> str:
    """The one step that is the most useful now."""
    if all_is_well(report.findings):
        remarks = [finding for finding in report.findings if finding.rank == PV]
        return f"{remarks[0].what}: {remarks[0].advice}." if remarks else "Nothing: all is well."
    first = report.findings[0]
    return first.advice[0].upper() + first.advice[1:] + "."


# -- Addresses -------------------------------------------------------------------------------------


def describe(place: PlaceReport) -> str:
    """What is at an address, in a few words."""
    if place.place.target.broadcast:
        state = "broadcast" if place.udp in ("silent", "not asked") else place.udp
        return "broadcast: not asked, for no PV was named" if place.udp == "not asked" else state
    if place.udp == "answered":
        return "answers searches"
    tcp = place.tcp or Conversation()
    if tcp.state == "speaks":
        speaks = f"a server of CA 4.{tcp.minor} is there ({tcp.milliseconds:.1f} ms)"
        return speaks if place.udp in ("silent", "") else f"{speaks}, UDP: {place.udp}"
    if place.udp == "refused" and tcp.state == "refused":
        return "nobody listens there"
    if place.udp not in ("silent", "refused", ""):
        return place.udp
    how = {
        "silent": "takes connections, but says nothing",
        "refused": "takes no connections",
        "unanswered": "does not answer at all",
        "strange": "something that does not speak Channel Access",
    }.get(tcp.state, tcp.state)
    return f"nobody listens for searches; {how}" if place.udp == "refused" else how


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
                    severity, target, f"{target} has the PV, but does not hear searches by UDP",
                    f"let UDP port {place.place.target.port} through its firewall, or"
                    f" set EPICS_CA_NAME_SERVERS={target}", SERVER,
                )
            ]  # fmt: skip
        return []
    return [_of_silence(place, target, tcp, severity)]


def _of_silence(place: PlaceReport, target: str, tcp: Conversation, severity: str) -> Finding:
    """No server speaks there."""
    origin = place.place.origin
    if place.udp == "silent" and tcp.state == "refused":
        return Finding(
            severity, target, f"{target} answers no search and takes no connections",
            "see whether that is a server (`ss -ulpn` on its host), and whether a firewall"
            " drops its answers", SERVER,
        )  # fmt: skip
    if place.udp == "refused":
        if place.on_default_port:
            advice = f"search on the usual port: {origin} without `:{place.place.target.port}`"
            what = f"nobody listens at {target}, but a server is on port 5064 there"
        else:
            what = f"nobody listens at {target} ({origin})"
            advice = (
                f"start the server, or find out its port (`casr` in its shell) and put it into"
                f" {origin}"
            )
        return Finding(severity, target, what, advice, SERVER)
    if tcp.state == "silent":
        return Finding(
            severity, target,
            f"{target} takes connections, but answers nothing: the server is frozen",
            "see whether its process is stopped (state T in `ps`), swapped out or in a"
            " debugger; continue or restart it", SERVER,
        )  # fmt: skip
    if tcp.state == "unanswered":
        return Finding(
            severity, target, f"{target} does not answer at all",
            "see whether the host is up, and whether a firewall drops UDP and TCP at this port",
            SERVER,
        )  # fmt: skip
    return _unreachable(target, tcp.state, severity)


def _unreachable(target: str, why: str, severity: str) -> Finding:
    reason = "something else than Channel Access is there" if why == "strange" else why
    return Finding(
        severity, target, f"{target} cannot be searched: {reason}",
        "correct the address, or see to the network of this host", SERVER,
    )  # fmt: skip


def _of_name_server(server: PlaceReport, severity: str) -> list[Finding]:
    target, tcp = shown(server.place.target.address), server.tcp or Conversation()
    if tcp.state == "speaks":
        return []
    return [
        Finding(
            severity, target, f"the name server {target}: {describe(server)}",
            f"start the name server {target}, or take it out of EPICS_CA_NAME_SERVERS", CAUSE,
        )
    ]  # fmt: skip


def _of_repeater(report: Report) -> list[Finding]:
    port = report.settings.repeater_port
    if report.repeater is None:
        return [
            Finding(
                "warning", "repeater", f"something that is no CA repeater holds UDP port {port}",
                f"see who it is (`ss -ulpn sport = :{port}`) and end it, or set"
                " EPICS_CA_REPEATER_PORT", REMARK,
            )
        ]  # fmt: skip
    return []
