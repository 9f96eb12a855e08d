"""``aioca caput --strict``: refuse a text that a server would take for another value.

Like the tool of EPICS base, `aioca caput` sends a number as text, and the server reads it. Records
of integers read a text like C: ``08`` is octal and 0, and ``1e3`` is 1, because the reading stops
at the first other character. Older releases of EPICS (7.0.8), and IOCs with
EPICS_DB_CONVERT_DECIMAL_ONLY=YES, read decimal digits only: ``08`` is 8 there, and ``0x1F`` is 0.
A number beyond the labels of an enum is stored as it is. A text for a STRING is cut after 39 bytes.
None of this is an error for the server.

`checked` reads the texts in this program instead. What it returns is sent as numbers, which no
server reads in another way.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ... import DBR_CHAR, DBR_DOUBLE, DBR_ENUM, DBR_FLOAT, DBR_LONG, DBR_SHORT, DBR_STRING
from ..._values.dbr import MAX_STRING_BYTES, long_string_of
from ..._values.number_types import EXACT_LIMIT
from . import field_types

_DECIMAL = re.compile(r"[+-]?(?:0|[1-9][0-9]*)\Z")
_HEXADECIMAL = re.compile(r"[+-]?0[xX][0-9a-fA-F]+\Z")
_REAL = re.compile(
    r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf(?:inity)?|nan)\Z",
    re.ASCII | re.IGNORECASE,
)
# The beginning of a text that C reads as an integer: hexadecimal, octal or decimal
_C_INTEGER = re.compile(r"\s*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
_DECIMAL_INTEGER = re.compile(r"\s*([+-]?[0-9]+)", re.ASCII)
_RANGES = {
    DBR_CHAR: (-(2**7), 2**8 - 1),
    DBR_SHORT: (-(2**15), 2**15 - 1),
    DBR_LONG: (-(2**31), 2**31 - 1),
}


class RefusedError(Exception):
    """A value that is not written; the message has the PV, the value and what is wrong with it."""


def needs_field_type(datatype: int, texts: Sequence[str]) -> bool:
    """Whether `checked` has to know the type of the field, which may be narrower than the DBR type.

    It need not for numbers that all these types can hold, as most numbers are: to know the type
    takes one or two requests more.
    """
    held = field_types.ALWAYS_HELD.get(datatype)
    if held is None:
        return False
    numbers = [_integer(text) for text in texts]
    return any(number not in held for number in numbers if number is not None) or (
        datatype == DBR_DOUBLE and None in numbers
    )


def checked(
    pv: str, datatype: int, texts: Sequence[str], labels: Sequence[str] = (), field_type: str = ""
) -> list[int | float | str]:
    """Return the values that texts of the command line stand for.

    Args:
        pv: the name of the PV, for the message.
        datatype: the native DBR type of the PV.
        texts: the texts, one for each element.
        labels: the labels, if the PV is an enum.
        field_type: the type of the field, if it is known; see `needs_field_type`.

    Raises:
        RefusedError: a server would take one of the texts for another value, or cannot hold it.
    """
    return [_value(pv, datatype, text, labels, field_type) for text in texts]


def _value(
    pv: str, datatype: int, text: str, labels: Sequence[str], field_type: str
) -> int | float | str:
    if datatype == DBR_ENUM:
        return _state(pv, text, labels)
    limits = field_types.RANGES.get(field_type) or _RANGES.get(datatype)
    if limits is not None:
        return _whole(pv, text, *limits)
    if datatype in (DBR_FLOAT, DBR_DOUBLE):
        return _real(pv, text)
    if datatype == DBR_STRING and len(text.encode("utf-8", "surrogateescape")) > MAX_STRING_BYTES:
        raise RefusedError(
            f"{pv}: nothing was written: the text has more than the {MAX_STRING_BYTES} bytes of a"
            " STRING, and the rest would be cut off. If the record can hold it, use -S with the"
            f" name {long_string_of(pv)}."
        )
    return text


def _integer(text: str) -> int | None:
    if _DECIMAL.match(text):
        return int(text)
    return int(text, 16) if _HEXADECIMAL.match(text) else None


def _whole(pv: str, text: str, low: int, high: int) -> int | str:
    """Return an integer; as a decimal text, which is exact, if a double is not."""
    number = _integer(text)
    if number is None:
        raise RefusedError(_not_an_integer(pv, text))
    if not low <= number <= high:
        raise RefusedError(
            f"{pv}: nothing was written: {text} is not from {low} to {high}, the numbers that this"
            " PV can hold."
        )
    return number if abs(number) <= EXACT_LIMIT else str(number)


def _not_an_integer(pv: str, text: str) -> str:
    taken = _as_c_reads(text)
    what = "a server may refuse it or take another number" if taken is None else f"it is {taken}"
    decimal = _DECIMAL_INTEGER.match(text)
    if taken is not None and decimal is not None and int(decimal[1]) != taken:
        what += f" (or {int(decimal[1])} where it reads decimal digits only)"
    message = (
        f"{pv}: nothing was written: '{text}' is not an integer in plain digits; read by a record"
        f" of integers, {what}."
    )
    meant = _number(text)
    if meant is not None and meant.is_integer():
        message += f" Write {int(meant)}."
    return message


def _as_c_reads(text: str) -> int | None:
    found = _C_INTEGER.match(text)
    if found is None:
        return None
    digits = found[2]
    base = 16 if digits[:2] in ("0x", "0X") else 8 if digits[0] == "0" else 10
    return int(found[1] + digits, base)


def _number(text: str) -> float | None:
    return float(text) if _REAL.match(text) else None


def _real(pv: str, text: str) -> int | float | str:
    number = _integer(text)
    if number is not None and abs(number) > EXACT_LIMIT:
        return str(number)
    value = number if number is not None else _number(text)
    if value is None:
        raise RefusedError(
            f"{pv}: nothing was written: '{text}' is not a number; some servers read the digits at"
            " its beginning, or take it as hexadecimal."
        )
    return value


def _state(pv: str, text: str, labels: Sequence[str]) -> int:
    if text in labels:
        return list(labels).index(text)
    number = _integer(text)
    if number is None or not 0 <= number < len(labels):
        known = ", ".join(f"{place}: {label}" for place, label in enumerate(labels))
        raise RefusedError(
            f"{pv}: nothing was written: '{text}' is neither one of its states nor the number of"
            f" one ({known}). A server may store a number that has no state."
        )
    return number
