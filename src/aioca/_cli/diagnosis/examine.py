"""The examination of the doctor: ask the repeater and the servers, then connect through libca.

`settings` `addresses` `interfaces`       the addresses that libca searches
`wire.search` `conversation`              the servers that answer, and the replies of one server
`examine_pv`                              the channel that libca makes to a PV
`hearing`                                 the beacons of the servers
`examine` (this module)                   calls them in turn, and collects the report
`diagnose` `findings*`                    the findings that follow from the report
`report`                                  prints the report

The searches and conversations block; they run in the calling thread and in daemon threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from ..._ca.library import Description, describe
from ..shared import run_command
from ..wire.protocol import DEFAULT_SERVER_PORT
from ..wire.repeater import repeater_runs
from ..wire.search import Host, udp_search
from .addresses import Place
from .conversation import Conversation, converse
from .examine_pv import PvReport, connect_all
from .findings import Finding
from .hearing import listen
from .settings import Settings

# Other spellings to search for, of all PVs together: they are few, and the search stays short.
_MAX_VARIANTS = 200


@dataclass
class PlaceReport:
    """What was found at a searched address.

    Attributes:
        place (Place): the address.
        udp (str): the result of the searches, one of the states in `Heard`; empty for name servers.
        tcp (Conversation | None): the result of a TCP connection to it; None if none was tried.
        on_default_port (bool): nothing listens at the port, but a server does at the default port.
    """

    place: Place
    udp: str = ""
    tcp: Conversation | None = None
    on_default_port: bool = False


@dataclass
class Report:
    """The results of one examination, and the findings."""

    settings: Settings
    libca: Description = field(default_factory=describe)
    repeater: bool | None = None
    places: list[PlaceReport] = field(default_factory=list[PlaceReport])
    name_servers: list[PlaceReport] = field(default_factory=list[PlaceReport])
    pvs: list[PvReport] = field(default_factory=list[PvReport])
    strange: int = 0
    beacon_seconds: float = 0.0
    beacons_heard: set[Host] | None = None
    findings: list[Finding] = field(default_factory=list[Finding])

    def servers(self) -> list[Host]:
        """Return the servers that have answered a search."""
        return list(dict.fromkeys(found.server for pv in self.pvs for found in pv.found))


def examine(
    pvs: Sequence[str],
    settings: Settings,
    window: float,
    timeout: float,
    backend: str,
    beacon_seconds: float = 0.0,
) -> Report:
    """Examine the repeater, the searched addresses and the PVs.

    Blocks for about `window` and `timeout`. Failures of servers are recorded in the report; what
    else fails is raised.

    Args:
        pvs: the names of the PVs; without any, nothing is sent to a broadcast address.
        settings: the addresses to search.
        window: seconds to listen for answers.
        timeout: seconds to wait for a connection, and for a value.
        backend: the async library that the client runs on.
        beacon_seconds: seconds to listen for the beacons of the servers; 0: not at all.
    """
    window = max(window, 0.05)  # a shorter one would end before any answer can come
    report = Report(settings, pvs=[PvReport(pv) for pv in dict.fromkeys(pvs)])
    # Checked before libca is used, because libca starts a repeater if none runs.
    report.repeater = repeater_runs(settings.repeater_port)
    _search(report, window)
    # libca comes after the search, because its threads would falsify the measured times.
    unanswered = [pv for pv in report.pvs if not pv.found]
    others = _Call(_other_spellings, unanswered, report, window)
    if report.pvs:
        run_command(connect_all(report.pvs, timeout), backend)
    others.wait()
    unconnected = [pv for pv in report.pvs if pv.found and pv.connect_ms is None]
    _together([_Call(_knock, pv, window) for pv in unconnected])
    if beacon_seconds and report.servers():
        report.beacon_seconds = beacon_seconds
        _Call(_hear, report).wait()
    return report


class _Call(threading.Thread):
    """A call in a daemon thread, so that Ctrl-C does not wait for its end: it may block long."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        super().__init__(daemon=True)
        self._call = partial(function, *arguments)
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._call()
        except BaseException as error:
            self._error = error

    def wait(self) -> None:
        """Wait until the call has ended; raise its exception."""
        self.join()
        if self._error is not None:
            raise self._error


def _together(calls: list[_Call]) -> None:
    for call in calls:
        call.wait()


# -- Searching -------------------------------------------------------------------------------------


def _search(report: Report, window: float) -> None:
    names = [pv.name for pv in report.pvs]
    report.places = [PlaceReport(place) for place in report.settings.places]
    report.name_servers = [PlaceReport(place) for place in report.settings.name_servers]
    targets = [p.target for p in report.settings.places if names or not p.target.broadcast]
    # Without names no server answers; an address where nothing listens is reported at once.
    listen = window if names else min(window, 0.2)
    name_servers = [_Call(_ask, server, names, window) for server in report.name_servers]
    heard = udp_search(names, targets, listen)
    _together(name_servers)
    for place in report.places:
        place.udp = heard.states.get(place.place.target, "not asked")
    _together(
        [
            _Call(_ask, place, names, window)
            for place in report.places
            if not place.place.target.broadcast and place.udp != "answered"
        ]
    )
    report.strange = heard.strange
    for pv in report.pvs:
        pv.found = [found for found in heard.found if found.pv == pv.name]
        for server in report.name_servers:
            assert server.tcp is not None
            pv.found += [found for found in server.tcp.found if found.pv == pv.name]


def _ask(report: PlaceReport, names: list[str], window: float) -> None:
    host, port = report.place.target.address
    report.tcp = converse((host, port), names, window)
    if report.tcp.state == "refused" and port != DEFAULT_SERVER_PORT:
        usual = converse((host, DEFAULT_SERVER_PORT), [], window)
        report.on_default_port = usual.state == "speaks"


def _knock(pv: PvReport, window: float) -> None:
    """Ask the servers that answered for a PV for a channel to it; for a PV that did not connect."""
    for server in {found.server for found in pv.found[:4]}:
        pv.circuits[server] = converse(server, [], window, pv.name)


def _hear(report: Report) -> None:
    """Listen for beacons: libca has started a repeater by now, if none ran."""
    settings = report.settings
    report.beacons_heard = listen(
        set(report.servers()), settings.repeater_port, settings.server_port, report.beacon_seconds
    )


def _other_spellings(pvs: list[PvReport], report: Report, window: float) -> None:
    """Search for other spellings of the names, and note those that a server has."""
    meant = [(pv, variant) for pv in pvs for variant in spellings(pv.name)][:_MAX_VARIANTS]
    names = list(dict.fromkeys(variant for _, variant in meant))
    if not names:
        return
    targets = [place.target for place in report.settings.places]
    known = {found.pv for found in udp_search(names, targets, window).found}
    for server in report.name_servers:
        if server.tcp is not None and server.tcp.state == "speaks":
            said = converse(server.place.target.address, names, window)
            known |= {found.pv for found in said.found}
    for pv, variant in meant:
        if variant in known:
            pv.variants.append(variant)


def spellings(pv: str) -> list[str]:
    """Return other names that the user may have meant."""
    record = pv.rpartition(".")[0]
    tried = [pv.strip(), pv.upper(), pv.lower(), record, record.upper(), pv.replace("_", ":")]
    tried += [
        pv.replace("_", "-"),
        pv.replace("-", "_"),
        pv.replace("-", ":"),
        pv.replace(":", "-"),
    ]
    return [name for name in dict.fromkeys(tried) if name and name != pv]
