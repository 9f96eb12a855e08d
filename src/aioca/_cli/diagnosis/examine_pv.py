"""The examination of one PV through libca: connect, read, and ask for its record type."""

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
from ..tools.text import is_undefined
from ..wire.search import Found
from .conversation import Conversation

_MAX_ARRAY_BYTES = 64 << 20  # of a larger array only the first elements are read, to save memory
RECORD_FIELDS = ("DISP", "DISA", "DISV", "TSE")  # of dbCommon: every record has them
_MAX_ELEMENT_BYTES = 8  # of all types but strings
# Replies of a gateway and of caproto to a request for the record type
_GATEWAY, _CAPROTO = "Not Supported by Gateway", "caproto"


@dataclass
class PvReport:
    """The results for one PV: the servers that answered, and the channel of libca.

    Attributes:
        name (str): the name of the PV.
        found (list[Found]): the answers to the search.
        info (CAInfo | None): the channel of libca.
        connect_ms (float | None): the time to connect; None if the PV did not connect.
        read_ms (float | None): the time to read one element; None if the read failed.
        value (str): that element.
        severity (str): the alarm severity of the PV.
        problem (str): why that element could not be read.
        whole_ms (float | None): the time to read the array; None if that was not done or failed.
        whole_count (int): the number of elements that were read.
        whole (CANothing | None): why the array could not be read.
        record_type (str): the record type; empty if the server does not tell it.
        others_writable (bool | None): whether this client may write to another field of the
            record; None if that is not known.
        circuits (dict[tuple[str, int], Conversation]): the replies of the servers that answered,
            to a request for a channel through TCP.
        variants (list[str]): other spellings of the name that a server has.
        no_time (bool): the time stamp is 0 in EPICS, 1990-01-01.
        fields (dict[str, int]): the values of `RECORD_FIELDS`, for a PV in a record of an IOC.
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
    no_time: bool = False
    fields: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def refusing(self) -> list[tuple[str, int]]:
        """The servers that have the PV, and refuse a channel to it."""
        return [server for server, said in self.circuits.items() if said.channel == "refused"]

    @property
    def behind(self) -> str:
        """The kind of server, ``gateway``, ``caproto`` or ``record`` (an IOC); empty: not known."""
        known = {_GATEWAY: "gateway", _CAPROTO: "caproto", "": ""}
        return known.get(self.record_type, "record")


async def connect_all(pvs: list[PvReport], timeout: float) -> None:
    """Connect to and read all PVs at the same time, and fill in their reports."""
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
            pv.no_time = is_undefined(value.raw_stamp)
            pv.record_type = await _class_name(pv.name, timeout)
        else:
            pv.problem = str(value)
    info = await cainfo(pv.name, wait=False, throw=False)
    pv.info = info if isinstance(info, CAInfo) else None
    if pv.read_ms is not None and pv.info is not None:
        if pv.info.count > 1:
            await _read_whole(pv, pv.info.count, timeout)
        if pv.behind == "record":
            if not pv.info.write:
                await _look_at_another_field(pv, timeout)
            await _look_at_record(pv, timeout)


async def _class_name(name: str, timeout: float) -> str:
    kind: Any = await caget(name, datatype=DBR_CLASS_NAME, count=1, timeout=timeout, throw=False)
    return str(kind) if kind.ok else ""


async def _look_at_another_field(pv: PvReport, timeout: float) -> None:
    """Check whether another field of the record can be written.

    Access security has one rule set for a record. If another field can be written, no rule forbids
    writing to this one.
    """
    name = f"{pv.name.partition('.')[0]}.DESC"
    other = await cainfo(name, timeout=timeout, throw=False)
    if isinstance(other, CAInfo):
        pv.others_writable = other.write
        # A caproto server may report a record type for a PV, and "caproto" for its fields.
        if await _class_name(name, timeout) == _CAPROTO:
            pv.record_type = _CAPROTO


async def _look_at_record(pv: PvReport, timeout: float) -> None:
    """Read the fields that say whether the record takes writes, processes, and has a time."""
    names = [f"{pv.name.partition('.')[0]}.{name}" for name in RECORD_FIELDS]
    values: Any = await caget(names, datatype=int, count=1, timeout=timeout, throw=False)
    pv.fields = {
        name: int(value) for name, value in zip(RECORD_FIELDS, values, strict=True) if value.ok
    }


async def _read_whole(pv: PvReport, count: int, timeout: float) -> None:
    """Read an array like `caget`: this can fail although reading its first element did not."""
    begin = time.perf_counter()
    most = _MAX_ARRAY_BYTES // _MAX_ELEMENT_BYTES
    wanted = 0 if count <= most else most
    value: Any = await caget(pv.name, count=wanted, timeout=timeout, throw=False)
    if value.ok:
        pv.whole_ms, pv.whole_count = _since(begin), len(value)
    else:
        pv.whole = value


def _since(begin: float) -> float:
    return (time.perf_counter() - begin) * 1000
