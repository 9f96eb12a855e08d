"""``aioca caput``: write to a PV, and print its old and new value, like the tool of EPICS base."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from ... import (
    DBR_CHAR,
    DBR_ENUM,
    DBR_STRING,
    ECA,
    FORMAT_CTRL,
    CAInfo,
    CANothing,
    CATimeout,
    CAValueError,
    caget,
    cainfo,
    caput,
    configure,
)
from ..._values.dbr import MAX_STRING_BYTES
from ...types import Datatype
from ..numbers import strtod
from ..shared import run_command
from ..tools.field_types import UnknownTypeError, field_type
from ..tools.json_output import json_reply, put_json
from ..tools.reading import connect_or_complain, plain_failure, read, usual_ask, why_not
from ..tools.strict import RefusedError, checked, needs_field_type
from ..tools.syntax import Common, complain, flag, given, see_help, tool, value
from ..tools.text import coloured, plain_line, put_line, status_text, value_text, wide_line

_PLAIN, _TERSE, _LONG = "plain", "terse", "long"
_AUTO, _NUMBERS, _STRINGS = "auto", "numbers", "strings"
_TIMED_OUT = "Write callback operation timed out"
# Letters after a backslash, and their codes; any other character stands for itself
_UNESCAPED = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "0": 0}


@dataclass
class Choices(Common):
    """The options of the command line."""

    mode: str = _PLAIN
    enums: str = _AUTO
    array: bool = False
    callback: bool = False
    as_json: bool = False
    strict: bool = False

    def __post_init__(self) -> None:
        for option, argument in given():
            self.take(option, argument)

    def take(self, option: str, argument: str) -> bool:
        if option in (_TERSE, _LONG):
            self.mode = option
        elif option in (_NUMBERS, _STRINGS):
            self.enums = option
            self.style.enum_numbers = option == _NUMBERS
        elif option == "array":
            self.array, self.style.long_strings = True, False
        elif option == "long_strings":
            self.array, self.style.long_strings = False, True
        elif option == "callback":
            self.callback = True
        else:
            return super().take(option, argument)
        return True


@tool("caput", interspersed=False)
@flag("c", "callback", "Wait until the server has processed the write (put-callback).")
@flag("t", _TERSE, "Print the new value only.")
@flag("l", _LONG, "Print name, time stamp, value, status and severity.")
@flag("n", _NUMBERS, "Read the values for an enum as numbers.")
@flag("s", _STRINGS, "Read the values for an enum as labels.")
@flag("a", "array", "Write an array: COUNT VALUE...; the count is ignored.")
@flag("S", "long_strings", "Write the text as an array of CHAR (long string).")
@value("F", "separator", "CHARACTER", "The separator of fields (default: a space).")
@click.option(
    "--strict",
    is_flag=True,
    help="Refuse a VALUE that the server would take for another value: '1e3' or '08' for an"
    " integer, a number beyond the states of an enum, a text that would be cut off.",
)
@click.argument("pv", required=False, metavar="PV")
@click.argument("values", nargs=-1, type=click.UNPROCESSED, metavar="VALUE...")
def command(
    pv: str | None, values: tuple[str, ...], as_json: bool, strict: bool, backend: str
) -> int:
    """Write to a PV; options come before it, so that values may be negative.

    \b
    Examples:
      aioca caput BEAM:SETPOINT -1.5
      aioca caput -c -w 60 MOTOR 12.5
      aioca caput SHUTTER Open
      aioca caput -a SPECTRUM 3 1.5 2.5 3.5
      aioca caput -S CAMERA:PATH '/data/run 7'
      aioca caput --strict SHOTS 1000
    """
    choices = Choices(as_json=as_json, strict=strict)
    if pv is None:
        complain(f"No pv name specified. {see_help()}")
        return 1
    if not values:
        complain(f"No value specified. {see_help()}")
        return 1
    configure(priority=choices.priority)
    return run_command(_caput(pv, list(values), choices), backend)


async def _caput(pv: str, values: list[str], choices: Choices) -> int:
    if not all(await connect_or_complain([pv], choices.timeout)):
        return _failed(json_reply(pv, None, None, choices.style), choices)
    info = await cainfo(pv, wait=False)
    try:
        data, datatype = await _to_send(info, values, choices)
    except (RefusedError, CANothing) as refused:
        complain(str(refused))
        return _failed({"name": pv, "error": str(refused)}, choices)
    old = await _read(info, choices)
    if choices.mode != _TERSE and not choices.as_json:
        put_line("Old : " + _text(old, choices))
    error = await _write(pv, data, datatype, choices)
    if error and error != _TIMED_OUT:
        return _failed({"name": pv, "error": error}, choices)
    new = await _read(info, choices)
    if choices.as_json:
        row = json_reply(pv, new, None, choices.style)
        row["old"] = json_reply(pv, old, None, choices.style).get("value")
        put_json({**row, "error": error} if error else row)
    else:
        put_line(("" if choices.mode == _TERSE else "New : ") + _text(new, choices))
    return 1 if error and choices.strict else 0


def _failed(row: dict[str, Any], choices: Choices) -> int:
    """Print the object of a write that failed, if objects are printed; return the exit status."""
    if choices.as_json:
        put_json(row)
    return 1


async def _read(info: CAInfo, choices: Choices) -> Any:
    reply = (await read([info.name], [usual_ask(info, choices.style, True)], choices.timeout))[0]
    if isinstance(reply, CANothing):
        complain("Read operation timed out: PV data was not read.")
    return reply


def _text(reply: Any, choices: Choices) -> str:
    style = choices.style
    if isinstance(reply, CANothing):
        if choices.mode == _TERSE:
            return why_not(reply)
        return plain_failure(reply, style, choices.mode == _LONG)
    if choices.mode == _TERSE:
        return value_text(reply, style)
    if choices.mode == _LONG:
        return wide_line(reply, style, colour=coloured())
    return plain_line(reply, style)


async def _write(pv: str, data: Any, datatype: Datatype, choices: Choices) -> str:
    """Write; returns an empty text, or why the write failed, after a message."""
    try:
        await caput(pv, data, datatype, wait=choices.callback, timeout=choices.timeout)
    except CATimeout:
        complain(_TIMED_OUT)
        return _TIMED_OUT
    except CANothing as error:
        if choices.strict and isinstance(error, CAValueError):
            complain(str(error))
        else:
            local = not choices.callback or error.errorcode not in _FROM_SERVER
            complain(
                f"ERROR {'from put operation' if local else 'occured writing data'}:"
                f" {status_text(error)}"
            )
        return str(error)
    return ""


# Statuses that end a put-callback; other ones come from the request
_FROM_SERVER = (ECA.PUTFAIL, ECA.DISCONN)


# -- Values ----------------------------------------------------------------------------------------


async def _to_send(info: CAInfo, values: list[str], choices: Choices) -> tuple[Any, Datatype]:
    """Return the data to write, and their type."""
    count, values = values[0], values[1:] if choices.array else [" ".join(values)]
    if choices.strict and not choices.style.long_strings:
        if choices.array and count != str(len(values)):
            raise RefusedError(
                f"{info.name}: nothing was written: the count is {count}, and {len(values)} values"
                " follow it."
            )
        return await _to_send_strictly(info, values, choices)
    if info.datatype == DBR_ENUM:
        numbers = await _states(info.name, values, choices)
        return _one_or_all(numbers, choices), DBR_ENUM
    if choices.style.long_strings:
        data = unescaped(values[0]) + b"\0"
        return list(data), DBR_CHAR
    strings = [unescaped(text)[:MAX_STRING_BYTES] for text in values]
    return _one_or_all([data.split(b"\0", 1)[0] for data in strings], choices), DBR_STRING


async def _to_send_strictly(
    info: CAInfo, texts: list[str], choices: Choices
) -> tuple[Any, Datatype]:
    """Return the numbers that the texts stand for, or the whole texts; refuse what is neither."""
    if info.datatype == DBR_STRING:
        texts = [unescaped(text).decode("utf-8", "surrogateescape") for text in texts]
    labels: list[str] = []
    kind = ""
    if info.datatype == DBR_ENUM:
        reply = await caget(info.name, DBR_ENUM, FORMAT_CTRL, 1, choices.timeout)
        labels = reply.enums
    elif needs_field_type(info.datatype, texts):
        try:
            kind = await field_type(info.name, choices.timeout)
        except UnknownTypeError as error:
            raise RefusedError(f"{info.name}: nothing was written: {error}") from None
    found = checked(info.name, info.datatype, texts, labels, kind)
    if info.datatype == DBR_STRING:
        data = [str(text).encode("utf-8", "surrogateescape").split(b"\0", 1)[0] for text in found]
        return _one_or_all(data, choices), DBR_STRING
    if any(isinstance(value, str) for value in found):  # an integer that no double can be
        return _one_or_all([str(value) for value in found], choices), DBR_STRING
    return _one_or_all(found, choices), None


def _one_or_all(values: list[Any], choices: Choices) -> Any:
    return values if choices.array else values[0]


def unescaped(text: str) -> bytes:
    r"""Replace the escapes (\n, \x41, \0...) in a text of the command line by their bytes."""

    def meant(found: re.Match[bytes]) -> bytes:
        letter, digits = found[1], found[2]
        if digits is not None:
            return bytes([int(digits or b"0", 16)]) if digits else b""
        known = _UNESCAPED.get(letter.decode("latin-1"))
        return letter if known is None else bytes([known])

    data = text.encode("utf-8", "surrogateescape")
    return re.sub(rb"\\(x([0-9A-Fa-f]{0,2})|.|$)", meant, data, flags=re.DOTALL)


async def _states(pv: str, values: Sequence[str], choices: Choices) -> list[int]:
    """Return the states of an enum for labels or numbers."""
    reply = await caget(pv, DBR_ENUM, FORMAT_CTRL, 1, choices.timeout, throw=False)
    labels: list[str] = getattr(reply, "enums", [])
    return [_state(text, labels, choices.enums) for text in values]


def _state(text: str, labels: list[str], enums: str) -> int:
    if enums != _NUMBERS and text in labels:
        return labels.index(text)
    number = strtod(text) if enums != _STRINGS else None
    if number is None:
        what = (
            f"index value '{text}' is not a number"
            if enums == _NUMBERS
            else f"string value '{text}' invalid"
        )
        raise RefusedError(f"Enum {what}.")
    if number >= len(labels):
        complain(f"Warning: enum index value '{text}' may be too large.")
    return _sixteen_bits(number)


def _sixteen_bits(number: float) -> int:
    # Like a C cast on x86: out-of-range values become INT32_MIN, whose lower 16 bits are 0
    return int(number) & 0xFFFF if -(2.0**31) - 1 < number < 2.0**31 else 0
