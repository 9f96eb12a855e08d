"""Print the doctor's report as text (in colour on a terminal), or return it for JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from ..._ca.library import Description
from ..._printable import printable
from ..wire.search import Found, shown
from .diagnose import describe, suggestion
from .examine import PlaceReport, Report
from .examine_pv import PvReport
from .findings import all_is_well

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_GOOD, _BAD, _DIM = "green", "red", "dim"

_Row = tuple[str, str | Text, str]  # name, value, source of the value


class ReportConsole(Console):
    """The console that the report is printed to."""

    def on_broken_pipe(self) -> None:
        """Let `main` handle a closed pipe."""
        raise BrokenPipeError


def print_report(report: Report, console: Console) -> None:
    """Print the report; the suggestion comes last, where the user looks first."""
    _print_rows(
        console, "Settings",
        [(row.name, row.value or "(none)", row.source) for row in report.settings.rows],
    )  # fmt: skip
    _print_rows(console, "Searched", [_place_row(place) for place in report.places])
    _print_rows(console, "Name servers", [_place_row(server) for server in report.name_servers])
    _print_rows(console, "CA repeater", [_repeater_row(report)])
    _print_rows(console, "libca", _libca_rows(report.libca))
    if report.beacon_seconds:
        _print_rows(console, "Beacons", _beacon_rows(report))
    for pv in report.pvs:
        _print_rows(console, pv.name, _pv_rows(pv))
    if report.findings:
        _head(console, "Findings")
        for finding in report.findings:
            line = Text.assemble("  ", (f"{finding.severity:8}", _STYLES[finding.severity]))
            _print(console, line.append(f" {finding.what}"))
    console.print()
    well = all_is_well(report.findings)
    if console.is_terminal:
        style = _GOOD if well else "yellow"
        advice = Text(printable(suggestion(report)))
        console.print(Panel(advice, title="What to do", border_style=style))
    else:
        _print(console, Text(f"What to do: {suggestion(report)}"))


def _print(console: Console, line: Text) -> None:
    if not line.plain.isprintable():  # servers and the environment can contain any characters
        line = Text(printable(line.plain))
    # Not wrapped: a terminal wraps lines itself, and programs that split lines need whole ones.
    console.print(line, soft_wrap=True, highlight=False)


def _head(console: Console, title: str) -> None:
    console.print()
    _print(console, Text(title, style="bold"))


def _print_rows(console: Console, title: str, rows: list[_Row]) -> None:
    if not rows:
        return
    _head(console, title)
    first = max(len(row[0]) for row in rows)
    second = max(len(row[1]) for row in rows) if any(row[2] for row in rows) else 0
    for what, value, source in rows:
        shown_value = value if isinstance(value, Text) else Text(value)
        line = Text(f"  {what:{first}}  ").append_text(shown_value)
        if source:
            space = " " * (min(second, 40) - len(shown_value))
            line.append(f"{space}  {source}", _DIM)
        _print(console, line)


def _place_row(place: PlaceReport) -> _Row:
    state = describe(place)
    good = place.udp == "answered" or (place.tcp is not None and place.tcp.state == "speaks")
    plain = place.place.target.broadcast
    style = "" if plain else _GOOD if good else _BAD
    return (shown(place.place.target.address), Text(state, style), place.place.origin)


def _repeater_row(report: Report) -> _Row:
    state = {
        True: Text("runs", _GOOD),
        False: Text("does not run; clients start one"),
        None: Text("another program holds the port", _BAD),
    }[report.repeater]
    return (f"127.0.0.1:{report.settings.repeater_port}", state, "")


def _libca_rows(libca: Description) -> list[_Row]:
    version = f"EPICS {libca.version or 'unknown'}, CA {libca.protocol}"
    rows: list[_Row] = [
        ("version", version, f"from {libca.source}"),
        ("libca", libca.file, ""),
        ("libCom", libca.libcom or "not known", ""),
    ]
    return rows + [("lacks", name, cost) for name, cost in libca.lacks.items()]


def _beacon_rows(report: Report) -> list[_Row]:
    heard = report.beacons_heard or set()
    return [
        (shown(server), Text("heard", _GOOD) if server in heard else Text("not heard", _BAD), "")
        for server in report.servers()
    ]


def _pv_rows(pv: PvReport) -> list[_Row]:
    rows: list[_Row] = []
    if not pv.found:
        rows.append(("answered by", Text("no server", _BAD), ""))
    many = len({found.server for found in pv.found}) > 1
    rows += [("answered by", Text(_found(found), _BAD if many else ""), "") for found in pv.found]
    if pv.connect_ms is None:
        state = pv.info.state_strings[pv.info.state] if pv.info is not None else "no channel"
        refusing = ", ".join(shown(server) for server in pv.refusing)
        state += f", refused by {refusing}" if refusing else ""
        rows.append(("circuit", Text(state, _BAD), ""))
        return rows
    info = pv.info
    if info is None:
        return rows
    connected = Text(f"connected to {info.host} in {pv.connect_ms:.1f} ms", _GOOD)
    rows.append(("circuit", connected if info.ok else Text(info.state_strings[info.state]), ""))
    count = f"{info.count} element{'' if info.count == 1 else 's'}"
    record = {
        "gateway": ", behind a CA gateway",
        "caproto": ", in a caproto server",
        "record": f", in a record of type {pv.record_type}",
    }.get(pv.behind, "")
    rows.append(("type", f"{info.datatype_strings[info.datatype]}, {count}{record}", ""))
    access = Text.assemble(
        ("read", _GOOD) if info.read else ("no read", _BAD), ", ",
        ("write", _GOOD) if info.write else ("no write", "yellow"),
    )  # fmt: skip
    rows.append(("access", access, ""))
    if pv.read_ms is not None:
        severity = "" if pv.severity == "NO_ALARM" else f", {pv.severity}"
        rows.append(("value", f"{pv.value}{severity}, read in {pv.read_ms:.1f} ms", ""))
    if pv.whole_ms is not None:
        read = f"{pv.whole_count} element{'' if pv.whole_count == 1 else 's'}"
        rows.append(("array", f"{read}, read in {pv.whole_ms:.1f} ms", ""))
    elif pv.whole is not None:
        rows.append(("array", Text("cannot be read", _BAD), ""))
    return rows


def _found(found: Found) -> str:
    speaks = f", CA 4.{found.minor}" if found.minor else ""
    return f"{shown(found.server)} after {found.milliseconds:.2f} ms ({found.via}{speaks})"


# -- For programs ----------------------------------------------------------------------------------


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as a dictionary for `json.dumps`."""
    return {
        "ok": all_is_well(report.findings),
        "suggestion": suggestion(report),
        "findings": [
            {
                "severity": finding.severity, "about": finding.about, "what": finding.what,
                "advice": finding.advice,
            }
            for finding in report.findings
        ],
        "settings": {
            row.name: {"value": row.value, "given": row.given} for row in report.settings.rows
        },
        "searched": [_place_json(place) for place in report.places],
        "name_servers": [_place_json(server) for server in report.name_servers],
        "repeater": {"port": report.settings.repeater_port, "runs": report.repeater},
        "libca": asdict(report.libca),
        "beacons": _beacons_json(report),
        "pvs": [_pv_json(pv) for pv in report.pvs],
    }  # fmt: skip


def _beacons_json(report: Report) -> dict[str, Any] | None:
    """Return which servers were heard; None without --beacons."""
    if not report.beacon_seconds:
        return None
    heard = report.beacons_heard or set()
    return {shown(server): server in heard for server in report.servers()}


def _place_json(place: PlaceReport) -> dict[str, Any]:
    return {
        "address": shown(place.place.target.address),
        "origin": place.place.origin,
        "broadcast": place.place.target.broadcast,
        "udp": place.udp or None,
        "tcp": place.tcp.state if place.tcp else None,
    }


def _pv_json(pv: PvReport) -> dict[str, Any]:
    info = pv.info
    connected = pv.connect_ms is not None and info is not None
    return {
        "name": pv.name,
        "answers": [
            {
                "server": shown(found.server), "milliseconds": round(found.milliseconds, 3),
                "via": found.via, "version": f"4.{found.minor}" if found.minor else None,
            }
            for found in pv.found
        ],
        "variants": pv.variants,
        "state": info.state_strings[info.state] if info else None,
        "connect_ms": round(pv.connect_ms, 3) if pv.connect_ms is not None else None,
        "host": info.host if info and connected else None,
        "datatype": info.datatype_strings[info.datatype] if info and connected else None,
        "count": info.count if info and connected else None,
        "read": info.read if info and connected else None,
        "write": info.write if info and connected else None,
        "refused_by": [shown(server) for server in pv.refusing],
        "record_type": pv.record_type or None,
        "record_fields": pv.fields,
        "behind": pv.behind or None,
        "value": pv.value if pv.read_ms is not None else None,
        "severity": pv.severity or None,
        "read_ms": round(pv.read_ms, 3) if pv.read_ms is not None else None,
        "elements_read": pv.whole_count if pv.whole_ms is not None else None,
        "array_problem": str(pv.whole) if pv.whole is not None else None,
    }  # fmt: skip
