"""``caget -d``: print the fields of a DBR type, one on each line."""

from __future__ import annotations

from typing import Any

from ... import (
    DBR_CLASS_NAME,
    DBR_ENUM,
    DBR_STRING,
    DBR_STSACK_STRING,
    FORMAT_CTRL,
    FORMAT_RAW,
    FORMAT_TIME,
    CAInfo,
    CANothing,
)
from ..._printable import printable
from ..._values.classes import SEVERITIES
from ..numbers import c_integer
from .reading import Ask, as_sent, is_char_array, request_count, why_not
from .syntax import Style
from .text import elements, server_stamp, value_text

_BASES = ("STRING", "SHORT", "FLOAT", "ENUM", "CHAR", "LONG", "DOUBLE")
_FORMS = ("", "STS_", "TIME_", "GR_", "CTRL_")
_PLAIN, _STS, _TIME, _GR, _CTRL = range(5)
DBR_NAMES = {
    **{
        form * len(_BASES) + base: f"DBR_{_FORMS[form]}{_BASES[base]}"
        for form in range(len(_FORMS))
        for base in range(len(_BASES))
    },
    DBR_STSACK_STRING: "DBR_STSACK_STRING",
    DBR_CLASS_NAME: "DBR_CLASS_NAME",
}
_MAX_STATES = 16  # labels of an enum in a DBR_GR_ENUM or DBR_CTRL_ENUM
_DISPLAY_LIMITS = (
    ("Lo disp limit", "lower_disp_limit"),
    ("Hi disp limit", "upper_disp_limit"),
    ("Lo alarm limit", "lower_alarm_limit"),
    ("Lo warn limit", "lower_warning_limit"),
    ("Hi warn limit", "upper_warning_limit"),
    ("Hi alarm limit", "upper_alarm_limit"),
)
_CTRL_LIMITS = (("Lo ctrl limit", "lower_ctrl_limit"), ("Hi ctrl limit", "upper_ctrl_limit"))


def dbr_code(text: str) -> int | None:
    """Return the DBR type for a number or name (with or without DBR_); None if there is none."""
    code = c_integer(text)
    if code is not None:
        return code if code in DBR_NAMES else None
    names = {name: code for code, name in DBR_NAMES.items()}
    return names.get(text, names.get(f"DBR_{text}"))


def details_ask(info: CAInfo, dbr: int, style: Style, whole: bool) -> Ask:
    """Return the read that gets the fields of a DBR type; the API has RAW, TIME and CTRL only."""
    count = request_count(style, whole)
    if dbr == DBR_CLASS_NAME:
        return Ask(DBR_CLASS_NAME, FORMAT_RAW, 1)
    base, form = (DBR_STRING, _STS) if dbr == DBR_STSACK_STRING else (dbr % 7, dbr // 7)
    datatype: Any = as_sent(base)
    if base == DBR_STRING and not is_char_array(info):
        datatype = bytes
    if form == _PLAIN:
        return Ask(datatype, FORMAT_RAW, count)
    with_limits = form in (_GR, _CTRL) and base != DBR_STRING
    return Ask(datatype, FORMAT_CTRL if with_limits else FORMAT_TIME, count)


def acknowledge_ask() -> Ask:
    """Return the read of DBR_STSACK_STRING, for its alarm acknowledgement fields."""
    return Ask(DBR_STSACK_STRING, FORMAT_RAW, 1)


def details_text(info: CAInfo, dbr: int, reply: Any, extra: Any, style: Style) -> str:
    """Return the lines for a value; ``extra`` is the reply to `acknowledge_ask`, or None."""
    for nothing in (reply, extra):
        if isinstance(nothing, CANothing):
            return f"{printable(nothing.name)}\n    {why_not(nothing)}"
    rows = [
        ("Native data type", f"DBF_{info.datatype_strings[info.datatype].upper()}"),
        ("Request type", DBR_NAMES[dbr]),
    ]
    if dbr == DBR_CLASS_NAME:
        rows.append(("Class Name", printable(str(+reply))))
    else:
        rows.append(("Element count", str(len(elements(reply)))))
        rows.append(("Value", _value(reply, dbr, style)))
        rows += _form_rows(reply, dbr, extra)
    return _lines(reply.name, rows)


def _form_rows(reply: Any, dbr: int, extra: Any) -> list[tuple[str, str]]:
    base, form = (DBR_STRING, _STS) if dbr == DBR_STSACK_STRING else (dbr % 7, dbr // 7)
    rows: list[tuple[str, str]] = []
    if form == _TIME:
        rows.append(("Timestamp", server_stamp(reply)))
    if form != _PLAIN:
        rows += [("Status", reply.alarm.status), ("Severity", reply.alarm.severity)]
    if dbr == DBR_STSACK_STRING:
        rows.append(("Ack transient?", "YES" if extra.ackt else "NO"))
        severity = int(extra.acks)
        rows.append(("Ack severity", SEVERITIES[severity] if severity < 4 else str(severity)))
    elif form in (_GR, _CTRL) and base == DBR_ENUM:
        rows.append(("Enums", _states(reply.enums)))
    elif form in (_GR, _CTRL) and base != DBR_STRING:
        rows += _limits(reply, base, form)
    return rows


def properties_text(reply: Any) -> str:
    """Return the lines for units, precision, limits or labels; empty for a value without any."""
    if reply.datatype == DBR_ENUM:
        rows = [("Enums", _states(reply.enums))]
    elif reply.datatype == DBR_STRING:
        return ""
    else:
        rows = _limits(reply, reply.datatype, _CTRL)
    return _lines(reply.name, rows)


def _lines(name: str, rows: list[tuple[str, str]]) -> str:
    return "\n".join([printable(name), *(f"    {label + ':':<17} {text}" for label, text in rows)])


def _value(reply: Any, dbr: int, style: Style) -> str:
    if dbr // 7 in (_GR, _CTRL) and reply.datatype == DBR_ENUM and not style.enum_numbers:
        return style.separator.join(_label(state, reply.enums) for state in elements(reply))
    return value_text(reply, style, with_count=False)


def _label(state: int, labels: list[str]) -> str:
    if state >= _MAX_STATES:
        return f"Illegal Value ({state})"
    return printable(labels[state]) if state < len(labels) else f"Enum Index Overflow ({state})"


def _states(labels: list[str]) -> str:
    lines = [f"({len(labels):2d})"]
    lines += [f"{'':22}[{state:2d}] {printable(label)}" for state, label in enumerate(labels)]
    return "\n".join(lines)


def _limits(reply: Any, base: int, form: int) -> list[tuple[str, str]]:
    rows = [("Units", printable(reply.units))]
    floating = hasattr(reply, "precision")
    if floating:
        rows.append(("Precision", str(reply.precision)))
    limits = _DISPLAY_LIMITS + (_CTRL_LIMITS if form == _CTRL else ())
    for label, attribute in limits:
        limit = getattr(reply, attribute)
        if base == 4 and limit > 127:  # CHAR is signed in C
            limit -= 256
        rows.append((label, f"{limit:g}" if floating else f"{limit:8d}"))
    return rows
