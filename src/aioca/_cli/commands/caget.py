"""``aioca caget``: read PVs and print them, like the tool of EPICS base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from ... import DBR_LONG, DBR_STSACK_STRING, CANothing, configure
from ..shared import run_command
from ..tools.dbr_details import acknowledge_ask, dbr_code, details_ask, details_text
from ..tools.json_output import json_reply, put_json
from ..tools.reading import (
    Ask,
    connect_or_complain,
    infos_of,
    plain_failure,
    read,
    usual_ask,
    why_not,
)
from ..tools.syntax import Common, complain, flag, format_options, given, see_help, tool, value
from ..tools.text import coloured, plain_line, put_line, value_text, wide_line

_PLAIN, _TERSE, _WIDE, _DETAILS = "plain", "terse", "wide", "details"


@dataclass
class Choices(Common):
    """The options of the command line."""

    mode: str = _PLAIN
    dbr: int = 0
    whole: bool = True  # request the native count of elements, not the current count
    as_json: bool = False

    def __post_init__(self) -> None:
        for option, argument in given():
            self.take(option, argument)

    def take(self, option: str, argument: str) -> bool:
        if option == "integer_base":
            self.dbr = DBR_LONG  # like base: -0 overrides -d
        if option in (_TERSE, _WIDE, _DETAILS):
            self._choose(option, argument)
        elif option == "callback":
            self.whole = False
        else:
            return super().take(option, argument)
        return True

    def _choose(self, mode: str, argument: str) -> None:
        if self.mode != _PLAIN:
            complain(f"Options t,d,a are mutually exclusive. {see_help()}")
        if mode == _DETAILS:
            code = dbr_code(argument)
            if code is None:
                complain(f"Requested dbr type out of range or invalid - ignored. {see_help()}")
                self.mode = _PLAIN
                return
            self.dbr = code
        self.mode = mode


@tool("caget")
@flag("c", "callback", "Request only the elements that an array has now (default: native count).")
@flag("t", _TERSE, "Print the value only.")
@flag("a", _WIDE, "Print name, time stamp, value, status and severity.")
@value("d", _DETAILS, "TYPE", "Request a DBR type, by number or name (with or without DBR_).")
@format_options
@click.argument("pvs", nargs=-1, metavar="PV...")
def command(pvs: tuple[str, ...], as_json: bool, backend: str) -> int:
    """Read PVs.

    \b
    Examples:
      aioca caget -a -f8 BEAM:CURRENT BEAM:ENERGY
      aioca caget -d CTRL_DOUBLE BEAM:CURRENT
      aioca caget -S CAMERA:PATH
      aioca caget --json BEAM:CURRENT | jq .value
    """
    choices = Choices(as_json=as_json)
    if not pvs:
        complain(f"No pv name specified. {see_help()}")
        return 1
    configure(priority=choices.priority)
    return run_command(_caget(list(pvs), choices), backend)


async def _caget(pvs: list[str], choices: Choices) -> int:
    found = await connect_or_complain(pvs, choices.timeout)
    if not all(found) and not choices.as_json:
        return 1
    connected = [pv for pv, ok in zip(pvs, found, strict=True) if ok]
    infos = await infos_of(connected)
    asks = [_ask(info, choices) for info in infos]
    replies = await read(connected, asks, choices.timeout)
    extras: list[Any] = [None] * len(replies)
    if choices.mode == _DETAILS and choices.dbr == DBR_STSACK_STRING:
        extras = await read(connected, [acknowledge_ask()] * len(connected), choices.timeout)
    failed = any(isinstance(reply, CANothing) for reply in (*replies, *extras))
    if failed:
        complain("Read operation timed out: some PV data was not read.")
    if choices.as_json:
        there = iter(zip(replies, extras, strict=True))
        for pv, ok in zip(pvs, found, strict=True):
            reply, extra = next(there) if ok else (None, None)
            put_json(json_reply(pv, reply, extra, choices.style))
        return 0 if all(found) else 1
    for info, reply, extra in zip(infos, replies, extras, strict=True):
        put_line(_text(info, reply, extra, choices))
    return 0


def _ask(info: Any, choices: Choices) -> Ask:
    if choices.mode == _DETAILS:
        return details_ask(info, choices.dbr, choices.style, choices.whole)
    return usual_ask(info, choices.style, choices.whole)


def _text(info: Any, reply: Any, extra: Any, choices: Choices) -> str:
    style = choices.style
    if choices.mode == _DETAILS:
        return details_text(info, choices.dbr, reply, extra, style)
    if isinstance(reply, CANothing):
        if choices.mode == _TERSE:
            return why_not(reply)
        return plain_failure(reply, style, choices.mode == _WIDE)
    if choices.mode == _TERSE:
        return value_text(reply, style)
    if choices.mode == _WIDE:
        return wide_line(reply, style, colour=coloured())
    return plain_line(reply, style)
