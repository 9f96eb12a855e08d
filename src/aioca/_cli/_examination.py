"""What the doctor does: ask servers and the repeater, connect through libca, compare.

`_settings` `_places` `_interfaces`   where libca looks
`_search`                             who answers, and who is silent
here                                  both, and the channel that libca makes of it
`_diagnosis`                          what that means
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio

from .. import DBR_CLASS_NAME, FORMAT_TIME, CAInfo, CANothing, caget, cainfo, connect
from ._common import run_command
from ._findings import Finding
from ._places import Place
from ._protocol import DEFAULT_SERVER_PORT
from ._repeater import repeater_runs
from ._search import Conversation, Found, converse, udp_search
from ._settings import Settings

_MOST_VARIANTS = 200  # spellings that are searched for
_MOST_BYTES = 64 << 20  # of an array that is read
_WIDEST = 8  # bytes of an element, but for strings
# What servers say instead of the type of a record
_GATEWAY, _CAPROTO = "Not Supported by Gateway", "caproto"


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
class PvReport:
    """What is known of a PV: who answered, and what libca made of it.

    Attributes:
        name (str): the PV.
        found (list[Found]): who answered.
        info (CAInfo | None): libca's channel.
        connect_ms (float | None): how long it took to connect, if it did.
        read_ms (float | None): how long it took to read one element, if that went well.
        value (str): that element.
        severity (str): its alarm severity.
        problem (str): why it could not be read.
        whole_ms (float | None): how long it took to read an array, if that went well.
        whole_count (int): how many elements of it were read.
        whole (CANothing | None): why it could not be read.
        record_type (str): empty if the server does not tell.
        others_writable (bool | None): whether this client may write to another field of the
            record; None if that was not found out.
        circuits (dict[tuple[str, int], Conversation]): how servers that answered take connections.
        variants (list[str]): other spellings of the name that there is an answer for.
    """

    name: str
    found: list[Found] = field(default_factory=list[Found])
    info: CAInfo | None = None
    connect_ms: float | None = None
    read_ms: float | None = None
    value: str = ""
    severity: str = ""
    problem: str = ""
    whole_ms: float | None = None
    whole_count: int = 0
    whole: CANothing | None = None
    record_type: str = ""
    others_writable: bool | None = None
    circuits: dict[tuple[str, int], Conversation] = field(
        default_factory=dict[tuple[str, int], Conversation]
    )
    variants: list[str] = field(default_factory=list[str])

    @property
    def refusing(self) -> list[tuple[str, int]]:
        """The servers that have it, and refuse a channel to it."""
        return [server for server, said in self.circuits.items() if said.channel == "refused"]

    @property
    def behind(self) -> str:
        """What serves it, if that is known: ``gateway``, ``caproto``, ``record``; or empty."""
        known = {_GATEWAY: "gateway", _CAPROTO: "caproto", "": ""}
        return known.get(self.record_type, "record")


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
        run_command(_connect(report.pvs, timeout), backend)
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


# -- Through libca ---------------------------------------------------------------------------------


async def _connect(pvs: list[PvReport], timeout: float) -> None:
    async with anyio.create_task_group() as tasks:
        for pv in pvs:
            tasks.start_soon(_through_libca, pv, timeout)


async def _through_libca(pv: PvReport, timeout: float) -> None:
    begin = time.perf_counter()
    if await connect(pv.name, timeout=timeout, throw=False):
        pv.connect_ms = _since(begin)
        begin = time.perf_counter()
        value: Any = await caget(pv.name, count=1, format=FORMAT_TIME, timeout=timeout, throw=False)
        if value.ok:
            pv.read_ms = _since(begin)
            pv.value, pv.severity = str(value), value.alarm.severity
            pv.record_type = await _class_name(pv.name, timeout)
        else:
            pv.problem = str(value)
    info = await cainfo(pv.name, wait=False, throw=False)
    pv.info = info if isinstance(info, CAInfo) else None
    if pv.read_ms is not None and pv.info is not None:
        if pv.info.count > 1:
            await _read_whole(pv, pv.info.count, timeout)
        if not pv.info.write and pv.behind == "record":
            await _look_at_another_field(pv, timeout)


async def _class_name(name: str, timeout: float) -> str:
    kind: Any = await caget(name, datatype=DBR_CLASS_NAME, count=1, timeout=timeout, throw=False)
    return str(kind) if kind.ok else ""


async def _look_at_another_field(pv: PvReport, timeout: float) -> None:
    """A record has one set of rules; what another field has and this one has not is no rule's."""
    name = f"{pv.name.partition('.')[0]}.DESC"
    other = await cainfo(name, timeout=timeout, throw=False)
    if isinstance(other, CAInfo):
        pv.others_writable = other.write
        # A caproto server may give a PV, but not its fields, the type of a record.
        if await _class_name(name, timeout) == _CAPROTO:
            pv.record_type = _CAPROTO


async def _read_whole(pv: PvReport, count: int, timeout: float) -> None:
    """Read an array as `caget` does. Its first element may come where all of it does not."""
    begin = time.perf_counter()
    most = _MOST_BYTES // _WIDEST
    wanted = 0 if count <= most else most
    value: Any = await caget(pv.name, count=wanted, timeout=timeout, throw=False)
    if value.ok:
        pv.whole_ms, pv.whole_count = _since(begin), len(value)
    else:
        pv.whole = value


def _since(begin: float) -> float:
    return (time.perf_counter() - begin) * 1000
