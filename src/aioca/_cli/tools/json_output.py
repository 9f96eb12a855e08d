"""``--json``: print a value as a JSON object, on one line."""

from __future__ import annotations

import math
from typing import Any

from ... import DBR_CHAR, CAInfo, CANothing
from ..._printable import printable_json
from .reading import why_not
from .syntax import Style
from .text import elements, is_array, is_undefined, put_line, rounded

_EXTRA = (
    "units", "precision", "enums",
    "lower_disp_limit", "upper_disp_limit", "lower_alarm_limit", "lower_warning_limit",
    "upper_warning_limit", "upper_alarm_limit", "lower_ctrl_limit", "upper_ctrl_limit",
)  # fmt: skip


def put_json(row: dict[str, Any]) -> None:
    """Print an object as one line on stdout."""
    put_line(printable_json(row))


def json_reply(pv: str, reply: Any, extra: Any, style: Style) -> dict[str, Any]:
    """Return the object for a PV: with its value, or with an ``error``.

    Args:
        pv: the name of the PV.
        reply: its value, a CANothing, or None if it did not connect.
        extra: the reply to `acknowledge_ask`, or None.
        style: the options for requests and output.
    """
    row: dict[str, Any] = {"name": pv}
    if reply is None:
        return {**row, "error": "not connected"}
    if isinstance(reply, CANothing):
        return {**row, "error": why_not(reply).removeprefix("*** ")}
    row["value"] = json_value(reply, style)
    if hasattr(reply, "raw_stamp"):
        row["timestamp"] = None if is_undefined(reply.raw_stamp) else _time(reply.timestamp_ns)
    if hasattr(reply, "alarm"):
        row["severity"], row["status"] = reply.alarm.severity, reply.alarm.status
    row.update(json_properties(reply))
    if extra is not None and not isinstance(extra, CANothing):
        row.update(ackt=bool(extra.ackt), acks=extra.acks)
    return row


def json_properties(reply: Any) -> dict[str, Any]:
    """Return the units, precision, labels and limits that came with a value."""
    return {name: _element(getattr(reply, name)) for name in _EXTRA if hasattr(reply, name)}


def _time(timestamp_ns: int) -> float:
    seconds, microseconds = rounded(timestamp_ns)
    return seconds + microseconds / 1e6


def json_value(reply: Any, style: Style) -> Any:
    """Return a scalar, or a list for an array; NaN and infinities as strings, which JSON lacks."""
    found = elements(reply)
    array = is_array(reply)
    if reply.datatype == DBR_CHAR and style.long_strings and array:
        return _element(bytes(code & 0xFF for code in found).split(b"\0", 1)[0])
    plain = [_element(element) for element in found]
    return plain if array else plain[0]


def _element(element: Any) -> Any:
    if isinstance(element, bytes):
        return element.decode("utf-8", "replace")
    if isinstance(element, float) and not math.isfinite(element):
        return "NaN" if math.isnan(element) else "Infinity" if element > 0 else "-Infinity"
    return element


def json_info(info: CAInfo) -> dict[str, Any]:
    """Return the object that ``cainfo --json`` prints."""
    return {
        "name": info.name,
        "state": info.state_strings[info.state],
        "host": info.host,
        "read": info.read,
        "write": info.write,
        "datatype": info.datatype_strings[info.datatype],
        "count": info.count,
    }
