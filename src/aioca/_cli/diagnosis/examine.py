"""What the doctor does: ask servers and the repeater, connect through libca, compare.

`_settings` `_places` `_interfaces`   where libca looks
`_search` `_conversation`             who answers, who is silent, and what one server says
`_pv_examination`                     the channel that libca makes of a PV
here                                  all of it
`_diagnosis`                          what that means
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from ..shared import run_command
from ..wire.protocol import DEFAULT_SERVER_PORT
from ..wire.repeater import repeater_runs
from ..wire.search import udp_search
from .addresses import Place
from .conversation import Conversation, converse
from .examine_pv import PvReport, connect_all
from .findings import Finding
from .settings import Settings

_MOST_VARIANTS = 200  # spellings that are searched for


@dataclass
class PlaceReport:
    """What is at an address that is searched.

    Attributes:
        place (Place): the address.
        udp (str): what came of searches: a state of `Heard`; empty for name servers.
        tcp (Conversation | None): what came of connecting to it, where that was tried.
        on_default_port (bool): nobody listens there, but a server on the usual port.
    """

    place: Place
    udp: str = ""
    tcp: Conversation | None = None
    on_default_port: bool = False


@dataclass
class Report:
    """All of it."""

    settings: Settings
    repeater: bool | None = None
    places: list[PlaceReport] = field(default_factory=list[PlaceReport])
    name_servers: list[PlaceReport] = field(default_factory=list[PlaceReport])
    pvs: list[PvReport] = field(default_factory=list[PvReport])
    strange: int = 0
    findings: list[Finding] = field(default_factory=list[Finding])


def examine(
    pvs: Sequence[str], settings: Settings, window: float, timeout: float, backend: str
) -> Report:
    """Find out all there is to know.

    Args:
        pvs: names; with none, nothing is sent to a broadcast address.
        settings: where to search.
        window: seconds to listen for answers.
        timeout: seconds to wait for a connection, and for a value.
        backend: what libca's part runs on.
    """
    window = max(window, 0.05)  # or no answer could come
    report = Report(settings, pvs=[PvReport(pv) for pv in dict.fromkeys(pvs)])
    # Before libca is used, which starts a repeater where none runs.
    report.repeater = repeater_runs(settings.repeater_port)
    _search(report, window)
    # Then libca, whose threads would hold up what is being timed.
    unanswered = [pv for pv in report.pvs if not pv.found]
    others = _Call(_other_spellings, unanswered, report, window)
    if report.pvs:
        run_command(connect_all(report.pvs, timeout), backend)
    others.finish()
    unconnected = [pv for pv in report.pvs if pv.found and pv.connect_ms is None]
    _together([_Call(_knock, pv, window) for pv in unconnected])
    return report


class _Call(threading.Thread):
    """A call in a thread of its own, which Ctrl-C does not wait for: it may listen for long."""

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

    def finish(self) -> None:
        """Wait for its end; raises what it has raised."""
        self.join()
        if self._error is not None:
            raise self._error


def _together(calls: list[_Call]) -> None:
    for call in calls:
        call.finish()


# -- Searching -------------------------------------------------------------------------------------


def _search(report: Report, window: float) -> None:
    names = [pv.name for pv in report.pvs]
    report.places = [PlaceReport(place) for place in report.settings.places]
    report.name_servers = [PlaceReport(place) for place in report.settings.name_servers]
    targets = [p.target for p in report.settings.places if names or not p.target.broadcast]
    # Without names nobody will answer; whether somebody listens is known at once.
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
    """See what servers do that have the PV, though it is not connected: ask for a channel."""
    for server in {found.server for found in pv.found[:4]}:
        pv.circuits[server] = converse(server, [], window, pv.name)


def _other_spellings(pvs: list[PvReport], report: Report, window: float) -> None:
    """Whether servers know names that may have been meant."""
    meant = [(pv, variant) for pv in pvs for variant in spellings(pv.name)][:_MOST_VARIANTS]
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
    """Names that somebody may have meant who wrote this one."""
    record = pv.rpartition(".")[0]
    tried = [pv.strip(), pv.upper(), pv.lower(), record, record.upper(), pv.replace("_", ":")]
    tried += [
        pv.replace("_", "-"),
        pv.replace("-", "_"),
        pv.replace("-", ":"),
        pv.replace(":", "-"),
    ]
    return [name for name in dict.fromkeys(tried) if name and name != pv]
