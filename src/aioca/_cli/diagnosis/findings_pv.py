"""The findings about one PV."""

from __future__ import annotations

import getpass
import socket

from ... import CANothing
from ..._ca import libca
from ..._ca.array_limit import AUTO_ARRAY_BYTES, HAS_AUTO, body_size
from ..._channels.explain import advice_when_refused
from ..wire.search import Host, shown
from .conversation import Conversation
from .examine import Report
from .examine_pv import PvReport
from .findings import PV, REMARK, SERVER, Finding

# Fields of dbCommon that no client may write, on any record; a test compares them with an IOC
_FIXED = {
    "ACKS", "ACKT", "AMSG", "LCNT", "NAME", "NAMSG", "NSEV", "NSTA", "PACT", "PUTF", "RPRO", "SEVR",
    "STAT", "UTAG",
}  # fmt: skip


def of_missing(pv: PvReport, report: Report) -> list[Finding]:
    """Return the findings for a PV for which no server answered."""
    if pv.connect_ms is not None:
        return [
            Finding(
                "warning", pv.name, f"{pv.name} is connected, but no server answered this search",
                "try again with a longer --window: searches and answers get lost, or come late", PV,
            )
        ]  # fmt: skip
    if pv.variants:
        return [_misspelt(pv)]
    places = [*report.places, *report.name_servers]
    answers = [p for p in places if p.udp == "answered" or (p.tcp and p.tcp.state == "speaks")]
    if gateways := _gateways(report):
        return [
            Finding(
                "error", pv.name,
                f"no server has {pv.name}, or its IOC behind {_list(gateways)} is down",
                "check whether the IOC runs, and whether the gateway finds it: a gateway does not"
                " answer for the PVs of an IOC that is down. Check the spelling, too", PV,
            )
        ]  # fmt: skip
    if answers:
        servers = ", ".join(shown(p.place.target.address) for p in answers[:3])
        verb = "runs, but does" if len(answers) == 1 else "run, but do"
        return [
            Finding(
                "error", pv.name, f"no server has {pv.name}: {servers} {verb} not have it",
                "check the spelling, with upper and lower case (`dbl` in the server's shell lists"
                " its records), and whether another server has the PV; if a server is a gateway,"
                " check whether the IOC behind it runs", PV,
            )
        ]  # fmt: skip
    return [
        Finding(
            "error", pv.name, f"no server answers for {pv.name}",
            "check whether its server runs, whether that server is in EPICS_CA_ADDR_LIST or in a"
            " searched network, and whether its port is"
            f" {report.settings.server_port}", PV,
        )
    ]  # fmt: skip


def _misspelt(pv: PvReport) -> Finding:
    """Return the finding for a PV of which a server has another spelling."""
    names = " and ".join(pv.variants[:3])
    record = pv.name.rpartition(".")[0]
    what, advice = f"no server has {pv.name}, but there is {names}", f"use {pv.variants[0]}"
    if record in pv.variants:
        what = f"the record {record} has no field {pv.name.rpartition('.')[2]}"
        advice = f"use one of its fields (`dbpr {record} 4` in its server's shell lists them)"
    return Finding("error", pv.name, what, advice, SERVER)


def _gateways(report: Report) -> list[str]:
    """Return the gateways that serve other PVs of the report."""
    servers = [
        found.server for pv in report.pvs if pv.behind == "gateway" for found in pv.found[:4]
    ]
    return [shown(server) for server in dict.fromkeys(servers)]


def _list(names: list[str]) -> str:
    return ", ".join(names[:3])


def of_pv(pv: PvReport, report: Report) -> list[Finding]:
    """Return the findings for a PV for which a server answered."""
    findings: list[Finding] = []
    servers = list(dict.fromkeys(found.server for found in pv.found))
    if len(servers) > 1:
        addresses = " and ".join(shown(server) for server in servers[:4])
        same_port = len({port for _, port in servers}) == 1
        perhaps = " (perhaps one server with several addresses)" if same_port else ""
        findings.append(
            Finding(
                "error", pv.name,
                f"{pv.name} is on {len(servers)} servers: {addresses}{perhaps}",
                f"take {pv.name} off all of them but one: which one a client gets is chance",
                SERVER,
            )
        )  # fmt: skip
    if pv.connect_ms is None:
        findings += [_no_circuit(pv, server, said) for server, said in pv.circuits.items()]
    elif pv.info is not None:
        findings += _of_channel(pv, pv.info.read, pv.info.write, report)
    return findings


def _no_circuit(pv: PvReport, server: Host, said: Conversation) -> Finding:
    at = shown(server)
    if said.channel == "refused":
        what = f"{at} has {pv.name}, but refuses a channel to it"
        advice = advice_when_refused(pv.name)
    elif said.channel == "made":
        what = f"{at} makes a channel to {pv.name}, but not in time"
        advice = "try again with a longer --timeout; the server or the network is slow"
    elif said.state == "speaks":
        what = f"{at} answers for {pv.name} and accepts connections, but makes no channel in time"
        advice = "try again with a longer --timeout; if that does not help, restart the server"
    elif said.state == "silent":
        what = f"{at} answers for {pv.name} and accepts connections, but sends nothing"
        advice = "check whether its process is stopped or overloaded, and restart it"
    elif said.state == "refused":
        what = f"{at} answers for {pv.name}, but refuses connections"
        advice = f"check whether the server still runs, and why its TCP port {server[1]} is closed"
    else:
        what = f"{at} answers for {pv.name}, but a connection to it cannot be made"
        advice = (
            f"open TCP port {server[1]} in the firewalls, and check that {server[0]} can be"
            " reached from here"
        )
    return Finding("error", pv.name, what, advice, SERVER)


def _of_channel(pv: PvReport, read: bool, write: bool, report: Report) -> list[Finding]:
    client = f"{user()}@{socket.gethostname()}"
    if not read:
        return [
            Finding(
                "error", pv.name, f"{pv.name} may not be read by {client}",
                f"have a RULE for {client} added to the server's access security file", PV,
            )
        ]  # fmt: skip
    if pv.read_ms is None:
        return [
            Finding(
                "error", pv.name, f"{pv.name} is connected, but cannot be read: {pv.problem}",
                "see the log of the server; the cause may be a busy record or a full network", PV,
            )
        ]  # fmt: skip
    findings: list[Finding] = []
    if pv.whole is not None:
        findings.append(_of_array(pv, pv.whole, report))
    if not write:
        findings.append(_read_only(pv, client))
    if pv.behind == "gateway" and pv.info is not None:
        findings.append(
            Finding(
                "note", pv.name,
                f"{pv.info.host} is a CA gateway: {pv.name} is on an IOC behind it",
                "if that IOC is down, no server answers for its PVs", REMARK,
            )
        )  # fmt: skip
    if pv.severity == "INVALID":
        findings.append(
            Finding(
                "note", pv.name, f"the value of {pv.name} is INVALID",
                "the PV is connected; its STAT field tells why it has no valid value", REMARK,
            )
        )  # fmt: skip
    return findings


def _of_array(pv: PvReport, why: CANothing, report: Report) -> Finding:
    """Return the finding for an array of which only the first element could be read."""
    assert pv.info is not None
    count, limit = pv.info.count, report.settings.array_limit
    size = body_size(pv.info.datatype, count)
    what = f"the {count} elements of {pv.name} cannot be read: {why}"
    if why.errorcode == libca.ECA_TOLARGE:
        advice = (
            f"start the server with EPICS_CA_MAX_ARRAY_BYTES={size} or more in its environment:"
            " the limit is that of the server, not of this client"
        )
    elif limit is not None and size > limit:
        but = ", though they can be written" if pv.info.write else ""
        what = (
            f"the {count} elements of {pv.name} cannot be read{but}: libca drops the {size} bytes,"
            f" because its limit is {limit}"
        )
        more = f"set EPICS_CA_MAX_ARRAY_BYTES={size} or more"
        advice = f"unset {AUTO_ARRAY_BYTES} here, or {more}" if HAS_AUTO else more
    else:
        advice = "try again with a longer --timeout; see the log of the server"
    return Finding("error", pv.name, what, advice, PV)


def _read_only(pv: PvReport, client: str) -> Finding:
    """Return the finding for a PV that can be read only; the advice depends on its server."""
    field = pv.name.partition(".")[2]
    what = f"{pv.name} may be read, not written, by {client}"
    if pv.behind == "caproto":
        what = f"{pv.name} may be read, not written: its server, a caproto program, allows no write"
        advice = "to write it, change that program (`read_only`, or its own access checks)"
    elif pv.behind == "gateway":
        advice = (
            f"to write it, have {client} allowed in the access security file of the gateway, and"
            " the gateway allowed in the access security file of the IOC behind it"
        )
    elif pv.behind != "record":
        advice = (
            "to write it, change the access rights in its server, whose kind the doctor does not"
            " know"
        )
    elif pv.others_writable or field.rstrip("$") in _FIXED:
        what = f"{pv.name} may be read, not written, by any client"
        advice = (
            f"nothing is wrong, and no rule of access security would help: records of type"
            f" {pv.record_type} let no client write the field {field.rstrip('$') or 'VAL'}"
        )
    else:
        advice = f"to write it, have a RULE for {client} added to the server's access security file"
    return Finding("note", pv.name, what, advice, PV)


def user() -> str:
    """Return the user name that the client sends to servers."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # Windows has no list of users to look in
        return "this user"
