"""Connect and read for caget, caput, camonitor and cainfo, with the messages of EPICS base."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from ... import (
    DBR_CHAR,
    DBR_DOUBLE,
    DBR_ENUM,
    DBR_FLOAT,
    DBR_SHORT,
    DBR_STRING,
    ECA,
    FORMAT_TIME,
    CAInfo,
    CANothing,
    caget,
    cainfo,
)
from ..._values.dbr import UNCHECKED
from ...types import Datatype, Format
from ..terminal.progress import connect_all
from .syntax import Style, complain
from .text import name_text, stamp_text, status_text


class Ask(NamedTuple):
    """How to read a PV: arguments of `caget`, in their order."""

    datatype: Datatype
    format: Format
    length: int


async def connect_or_complain(pvs: Sequence[str], timeout: float | None) -> list[bool]:
    """Connect, and return for each PV whether it is connected; reports the others on stderr."""
    results = await connect_all(list(pvs), timeout)
    failed = [result for result in results if not result.ok]
    if failed and not complain_of_names(failed):
        which = f"'{failed[0].name}'" if len(pvs) == 1 else "some PV(s)"
        complain(f"Channel connect timed out: {which} not found.")
    return [result.ok for result in results]


def complain_of_names(results: Sequence[CANothing]) -> bool:
    """Report the first name that no PV can have; returns whether there is one."""
    for result in results:
        if result.errorcode == ECA.BADSTR:
            complain(
                f"CA error {status_text(result)} occurred while trying to create channel"
                f" '{result.name}'."
            )
            return True
    return False


async def infos_of(pvs: Sequence[str]) -> list[CAInfo]:
    """Return the `CAInfo` of connected channels."""
    return await cainfo(list(pvs), wait=False)


def as_sent(dbr: int) -> Datatype:
    """Return a datatype that accepts any number that the server sends, like the tools of base."""
    return UNCHECKED + dbr  # type: ignore[return-value]  # not one of the public codes


def usual_datatype(native: int, style: Style) -> Datatype:
    """Return the datatype of a read without ``-d``; strings as the bytes on the wire."""
    if native == DBR_ENUM:
        return as_sent(DBR_SHORT) if style.enum_numbers else bytes
    if native == DBR_STRING or (style.float_strings and native in (DBR_FLOAT, DBR_DOUBLE)):
        return bytes
    return native  # type: ignore[return-value]  # one of the DBR codes


def request_count(style: Style, whole: bool) -> int:
    """Return the count to request: -1 (native count), or 0 (current count) if not `whole`."""
    if style.count:
        return style.count if style.count > 0 else -1
    return -1 if whole else 0


def usual_ask(info: CAInfo, style: Style, whole: bool) -> Ask:
    """Return how to read a PV without ``-d``."""
    return Ask(usual_datatype(info.datatype, style), FORMAT_TIME, request_count(style, whole))


async def read(pvs: Sequence[str], asks: Sequence[Ask], timeout: float | None) -> list[Any]:
    """Read each PV as asked, with one deadline; returns a CANothing for a PV that failed."""
    deadline = None if timeout is None else (time.time() + timeout,)
    groups: dict[Ask, list[int]] = {}
    for index, ask in enumerate(asks):
        groups.setdefault(ask, []).append(index)
    replies: list[Any] = [None] * len(asks)
    for ask, members in groups.items():
        names = [pvs[index] for index in members]
        found = await caget(names, *ask, deadline, throw=False)
        for index, reply in zip(members, found, strict=True):
            replies[index] = reply
    return replies


def is_char_array(info: CAInfo) -> bool:
    """Whether the datatype `bytes` would request a long string."""
    return info.datatype == DBR_CHAR


def why_not(nothing: CANothing) -> str:
    """Return the text to print instead of a value."""
    if nothing.errorcode == ECA.NORDACCESS:
        return "*** no read access"
    if nothing.errorcode == ECA.TIMEOUT:
        return "*** no data available (timeout)"
    if nothing.errorcode == ECA.DISCONN:
        return "*** not connected"
    return f"*** CA error {status_text(nothing)}"


def plain_failure(nothing: CANothing, style: Style, wide: bool = False) -> str:
    """Return the line for a value that could not be read, with the time of the failure."""
    fields = [name_text(nothing.name, style), why_not(nothing)]
    if wide:
        fields.insert(1, stamp_text(time.time_ns()))
    return style.separator.join(fields)
