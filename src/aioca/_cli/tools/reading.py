"""What the tools of base have in common: how they connect and read, and what they say if not."""

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
    """What to ask a PV for, in the order of the arguments of `caget`."""

    datatype: Datatype
    format: Format
    length: int


async def connect_or_complain(pvs: Sequence[str], timeout: float | None) -> list[bool]:
    """Connect; tells for each PV whether it is, and says what is not."""
    results = await connect_all(list(pvs), timeout)
    failed = [result for result in results if not result.ok]
    if failed and not complain_of_names(failed):
        which = f"'{failed[0].name}'" if len(pvs) == 1 else "some PV(s)"
        complain(f"Channel connect timed out: {which} not found.")
    return [result.ok for result in results]


def complain_of_names(results: Sequence[CANothing]) -> bool:
    """Say which is the first name that no PV can have, if there is one."""
    for result in results:
        if result.errorcode == ECA.BADSTR:
            complain(
                f"CA error {status_text(result)} occurred while trying to create channel"
                f" '{result.name}'."
            )
            return True
    return False


async def infos_of(pvs: Sequence[str]) -> list[CAInfo]:
    """What is known of channels that are connected."""
    return await cainfo(list(pvs), wait=False)


def as_sent(dbr: int) -> Datatype:
    """A DBR type with whatever number the server makes of a value, as the tools of base show it."""
    return UNCHECKED + dbr  # type: ignore[return-value]  # not one of the public codes


def usual_datatype(native: int, style: Style) -> Datatype:
    """As what a value is read unless a type is asked for; strings as they are on the wire."""
    if native == DBR_ENUM:
        return as_sent(DBR_SHORT) if style.enum_numbers else bytes
    if native == DBR_STRING or (style.float_strings and native in (DBR_FLOAT, DBR_DOUBLE)):
        return bytes
    return native  # type: ignore[return-value]  # one of the DBR codes


def request_count(style: Style, whole: bool) -> int:
    """How many elements: all there is room for, unless only those that there are are wanted."""
    if style.count:
        return style.count if style.count > 0 else -1
    return -1 if whole else 0


def usual_ask(info: CAInfo, style: Style, whole: bool) -> Ask:
    """How a PV is read unless a type is asked for."""
    return Ask(usual_datatype(info.datatype, style), FORMAT_TIME, request_count(style, whole))


async def read(pvs: Sequence[str], asks: Sequence[Ask], timeout: float | None) -> list[Any]:
    """Read each PV in its own way, within one deadline; a CANothing for what could not be read."""
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
    """Whether `bytes` would mean a long string."""
    return info.datatype == DBR_CHAR


def why_not(nothing: CANothing) -> str:
    """What is printed in the place of a value."""
    if nothing.errorcode == ECA.NORDACCESS:
        return "*** no read access"
    if nothing.errorcode == ECA.TIMEOUT:
        return "*** no data available (timeout)"
    if nothing.errorcode == ECA.DISCONN:
        return "*** not connected"
    return f"*** CA error {status_text(nothing)}"


def plain_failure(nothing: CANothing, style: Style, wide: bool = False) -> str:
    """The line for a value that could not be read; the time is that of the failure."""
    fields = [name_text(nothing.name, style), why_not(nothing)]
    if wide:
        fields.insert(1, stamp_text(time.time_ns()))
    return style.separator.join(fields)
