"""What is known of one PV, and what libca makes of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import anyio

from ... import (
    DBR_CLASS_NAME,
    FORMAT_TIME,
    CAInfo,
    CANothing,
    caget,
    cainfo,
    connect,
)
from ..wire.search import Found
from .conversation import Conversation

_MOST_BYTES = 64 << 20  # of an array that is read
_WIDEST = 8  # bytes of an element, but for strings
# What servers say instead of the type of a record
_GATEWAY, _CAPROTO = "Not Supported by Gateway", "caproto"


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


async def connect_all(pvs: list[PvReport], timeout: float) -> None:
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
