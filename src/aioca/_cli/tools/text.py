"""Values as text, byte for byte like the tools of EPICS base."""

from __future__ import annotations

import math
import os
import sys
import time
from typing import Any

import numpy as np

from ... import DBR_CHAR, DBR_DOUBLE, DBR_ENUM, DBR_FLOAT, CANothing
from ..._printable import printable
from ..._values.attributes import EPICS_EPOCH
from .syntax import Style

NAME_WIDTH = 30
UNDEFINED = "<undefined>"
_ESCAPES = {
    0x07: "\\a", 0x08: "\\b", 0x0C: "\\f", 0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t", 0x0B: "\\v",
    0x5C: "\\\\", 0x27: "\\'", 0x22: '\\"',
}  # fmt: skip
_ESCAPED = [
    _ESCAPES.get(code, chr(code) if 0x20 <= code < 0x7F else f"\\x{code:02x}")
    for code in range(256)
]
# Escape codes of the severities: yellow, red, magenta; on a terminal only
_COLOURS = {1: "33", 2: "31", 3: "35"}


def put_line(text: str) -> None:
    """Print a line on stdout, in UTF-8 in any locale, with the bytes that servers send."""
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape") + b"\n")
    if sys.stdout.line_buffering:  # a terminal
        sys.stdout.buffer.flush()


def coloured() -> bool:
    """Whether stdout is a terminal with colours, and NO_COLOR is not set."""
    dumb = os.environ.get("TERM", "dumb") in ("dumb", "unknown")
    return sys.stdout.isatty() and not dumb and not os.environ.get("NO_COLOR")


def escaped(data: bytes) -> str:
    """Return a string up to its NUL, with escapes for unprintable bytes."""
    return "".join([_ESCAPED[code] for code in data.split(b"\0", 1)[0]])


# -- Elements --------------------------------------------------------------------------------------


def is_array(reply: Any) -> bool:
    """Whether a value is an array, with any number of elements."""
    return isinstance(reply, np.ndarray)


def elements(reply: Any) -> list[Any]:
    """Return the elements of a value as int, float, bytes or str; CHAR as signed, like in C."""
    of_chars = reply.datatype == DBR_CHAR
    if is_array(reply):
        array: Any = reply.view(np.ndarray)
        found: list[Any] = (array.view(np.int8) if of_chars else array).tolist()
        return found
    plain = +reply
    if of_chars and plain > 127:
        plain -= 256
    return [plain]


def element_text(element: Any, datatype: int, style: Style) -> str:
    """Return one element as text."""
    if datatype in (DBR_FLOAT, DBR_DOUBLE):
        return float_text(element, style)
    if isinstance(element, str):
        return escaped(element.encode("utf-8", "surrogateescape"))
    if isinstance(element, bytes):
        return escaped(element)
    if datatype in (DBR_CHAR, DBR_ENUM):
        return str(element)
    return integer_text(element, style.integer_base)


def integer_text(number: int, base: str) -> str:
    """Return an integer in a base; a negative one as its 32 bits."""
    if base == "x":
        return f"0x{number & 0xFFFFFFFF:X}"
    if base == "o":
        return f"0o{number & 0xFFFFFFFF:o}"
    return f"{number & 0xFFFFFFFF:b}" if base == "b" else str(number)


def float_text(number: float, style: Style) -> str:
    """Return a float as C prints it."""
    if style.float_base:
        return integer_text(_rounded(number), style.float_base)
    text = style.float_spec % number
    return "-nan" if math.isnan(number) and math.copysign(1.0, number) < 0 else text


def _rounded(number: float) -> int:
    # Like a C cast on x86: out-of-range values become INT32_MIN
    away = number + math.copysign(0.5, number)
    return math.trunc(away) if -(2.0**31) - 1 < away < 2.0**31 else -(2**31)


def value_text(reply: Any, style: Style, *, with_count: bool = True) -> str:
    """Return a value as text; an array after the number of its elements."""
    found = elements(reply)
    many = bool(style.count) or len(found) > 1
    if reply.datatype == DBR_CHAR and style.long_strings and many:
        return escaped(bytes(code & 0xFF for code in found))
    texts = [element_text(element, reply.datatype, style) for element in found]
    if with_count and many:
        texts.insert(0, str(len(found)))
    return style.separator.join(texts)


# -- Lines -----------------------------------------------------------------------------------------


def name_text(name: str, style: Style, count: int = 1) -> str:
    """Return the first column: padded, unless an array follows or the separator is not a space."""
    shown = printable(name)
    if style.separator != " " or count > 1:
        return shown
    return shown + " " * (NAME_WIDTH - len(shown.encode("utf-8")))


def is_undefined(raw_stamp: tuple[int, int]) -> bool:
    """Whether a time stamp is unset, because the record was never processed."""
    return raw_stamp == (EPICS_EPOCH, 0)


def rounded(timestamp_ns: int) -> tuple[int, int]:
    """Return seconds and microseconds, rounded, but never up to the next second, like base."""
    seconds, nanoseconds = divmod(timestamp_ns, 1_000_000_000)
    return seconds, min((nanoseconds + 500) // 1000, 999_999)


def stamp_text(timestamp_ns: int) -> str:
    """Return a local time, to the microsecond."""
    seconds, microseconds = rounded(timestamp_ns)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(seconds))}.{microseconds:06d}"


def server_stamp(reply: Any) -> str:
    """Return the time stamp of a value as text."""
    return UNDEFINED if is_undefined(reply.raw_stamp) else stamp_text(reply.timestamp_ns)


def alarm_text(reply: Any, style: Style, colour: bool = False) -> str:
    """Return status and severity with a separator; only the separator without an alarm."""
    if not reply.status and not reply.severity:
        return style.separator
    text = f"{reply.alarm.status}{style.separator}{reply.alarm.severity}"
    code = _COLOURS.get(reply.severity)
    return f"\x1b[{code}m{text}\x1b[0m" if colour and code else text


def plain_line(reply: Any, style: Style) -> str:
    """Return the line with name and value."""
    count = len(reply) if is_array(reply) else 1
    return f"{name_text(reply.name, style, count)}{style.separator}{value_text(reply, style)}"


def wide_line(reply: Any, style: Style, stamp: str | None = None, colour: bool = False) -> str:
    """Return the line with name, time stamp, value (no field for an empty array) and alarm."""
    count = len(reply) if is_array(reply) else 1
    fields = [name_text(reply.name, style, count), server_stamp(reply) if stamp is None else stamp]
    if count:
        fields.append(value_text(reply, style))
    return style.separator.join([*fields, alarm_text(reply, style, colour)])


def status_text(nothing: CANothing) -> str:
    """Return libca's text for the ECA status."""
    return str(CANothing("", nothing.errorcode)).removeprefix(": ")
