"""The file format of this package: JSON, with one PV a line.

The page docs/reference/snapshot-files.md describes it.

Invariants:

- The text of a snapshot depends only on its entries and on the time of saving.
- What is written is read back as it was, to the last bit of each number and the last byte of each
  string (but for the sign and the payload of a NaN).
- Whatever a file contains, reading it ends with a snapshot whose values have the types that the
  file says, or with a SnapshotError.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

from .._printable import printable_json
from .._values.dbr import MAX_STRING_BYTES
from ._json import decoded, octets, read_json
from ._model import TYPE_NAMES, Entry, Snapshot, SnapshotError, is_list, is_object
from ._text import text_of_char_array

FORMAT, VERSION = "aioca snapshot", 1
_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_RANGES = {
    "SHORT": (-(2**15), 2**15 - 1),
    "LONG": (-(2**31), 2**31 - 1),
    "ENUM": (0, 2**16 - 1),
    "CHAR": (-128, 255),
}
_ANY_INTEGER = (-(10**38) + 1, 10**38 - 1)  # larger ones cannot be sent
_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_KEYS = {"value", "type", "label", "length", "read_only", "error"}


# -- Write -----------------------------------------------------------------------------------------


def text_of(snapshot: Snapshot) -> str:
    """Return the content of the file."""
    head: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    if snapshot.saved is not None:
        moment = snapshot.saved.astimezone(timezone.utc) - _EPOCH
        head["saved"] = _stamp((moment // timedelta(microseconds=1)) * 1000)
    lines = [f"{printable_json(key)}: {printable_json(value)},\n" for key, value in head.items()]
    values = _block("values", ((e.pv, _value_fields(e)) for e in snapshot.entries))
    states = _block("states", ((e.pv, _state_fields(e)) for e in snapshot.entries))
    return "{\n" + "".join(lines) + values + ",\n" + states + "\n}\n"


def _block(name: str, rows: Iterable[tuple[str, dict[str, Any]]]) -> str:
    lines = [f"  {printable_json(pv)}: {printable_json(fields)}" for pv, fields in rows if fields]
    return f"{printable_json(name)}: {{\n" + ",\n".join(lines) + ("\n}" if lines else "}")


def _value_fields(entry: Entry) -> dict[str, Any]:
    if entry.value is None:
        return {"error": entry.error or "not read"}
    text = text_of_char_array(entry)
    fields: dict[str, Any] = {"value": _plain(entry.value) if text is None else text}
    if entry.label is not None:
        fields["label"] = entry.label
    if entry.type:
        fields["type"] = entry.type
    elif fields["value"] != entry.value:  # NaN, infinite: without a type, their names would be text
        fields["type"] = "DOUBLE"
    if text is not None and is_list(entry.value):
        fields["length"] = len(entry.value)
    if entry.read_only:
        fields["read_only"] = True
    return fields


def _state_fields(entry: Entry) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if entry.severity:
        fields["severity"] = entry.severity
    if entry.status:
        fields["status"] = entry.status
    if entry.timestamp_ns is not None:
        fields["time"] = _stamp(entry.timestamp_ns)
    return fields


def _plain(value: Any) -> Any:
    """Replace the numbers that JSON does not have by their names."""
    if is_list(value):
        elements: list[Any] = value
        if all(not isinstance(e, float) or math.isfinite(e) for e in elements):
            return elements
        return [_plain(element) for element in elements]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _stamp(timestamp_ns: int) -> str:
    seconds, nanoseconds = divmod(timestamp_ns, 10**9)
    moment = _EPOCH + timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


# -- Read ------------------------------------------------------------------------------------------


def parse(data: bytes) -> Snapshot:
    """Read the content of a file; SnapshotError without a path if it is not in this format."""
    content = read_json(decoded(data))
    if not is_object(content) or content.get("format") != FORMAT:
        raise SnapshotError(f'it is no snapshot: "format" is not "{FORMAT}"')
    version = content.get("version")
    if type(version) is not int or version != VERSION:
        raise SnapshotError(
            f'its "version" is {json.dumps(version)[:40]}; this aioca reads version {VERSION}'
        )
    _check_keys(content, {"format", "version", "saved", "values", "states"}, "the file")
    values, states = _table(content, "values"), _table(content, "states")
    saved = content.get("saved")
    saved_ns = None if saved is None else _time(saved, '"saved"')
    moment = None if saved_ns is None else _EPOCH + timedelta(microseconds=saved_ns // 1000)
    entries = [_entry(pv, row, states.get(pv, {})) for pv, row in values.items()]
    return Snapshot(tuple(entries), moment)


def _table(content: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    table: Any = content.get(name, {} if name == "states" else None)
    if not is_object(table):
        raise SnapshotError(f'"{name}" is not an object with the names of the PVs')
    rows: dict[Any, Any] = table
    for pv, row in rows.items():
        if not is_object(row):
            raise SnapshotError(f'{pv}: its part of "{name}" is not an object')
    return rows


def _entry(pv: str, row: dict[str, Any], state: dict[str, Any]) -> Entry:
    if not pv:
        raise SnapshotError("the name of a PV is empty")
    _check_keys(row, _KEYS, pv)
    _check_keys(state, {"severity", "status", "time"}, pv)
    texts = {key: _text(state.get(key, ""), pv, key) for key in ("severity", "status")}
    stamp = state.get("time")
    stamp_ns = None if stamp is None else _time(stamp, pv)
    if "error" in row:
        if "value" in row:
            raise SnapshotError(f'{pv}: it has both "value" and "error"')
        return Entry(pv, None, error=_text(row["error"], pv, "error") or "not read")
    if "value" not in row:
        raise SnapshotError(f'{pv}: it has no "value"')
    kind = _text(row.get("type", ""), pv, "type")
    if kind and kind not in TYPE_NAMES:
        raise SnapshotError(
            f"{pv}: {kind[:40]!r} is no type; the types are {', '.join(TYPE_NAMES)}"
        )
    value = _read_value(row["value"], kind, pv)
    if "length" in row:
        value = _char_array(value, row["length"], kind, pv)
    label = _text(row["label"], pv, "label") if "label" in row else None
    read_only = row.get("read_only", False)
    if not isinstance(read_only, bool):
        raise SnapshotError(f'{pv}: its "read_only" is neither true nor false')
    return Entry(pv, value, kind, label, texts["severity"], texts["status"], stamp_ns, read_only)


def _check_keys(row: dict[str, Any], known: set[str], what: str) -> None:
    for key in row:
        if key not in known:
            raise SnapshotError(f"{what}: {json.dumps(key)[:60]} is not known here")


def _text(value: Any, pv: str, key: str) -> str:
    if not isinstance(value, str):
        raise SnapshotError(f'{pv}: its "{key}" is not a string')
    return value


def _time(value: Any, what: str) -> int:
    found = _STAMP.fullmatch(value) if isinstance(value, str) else None
    if found is not None:
        try:
            moment = datetime.fromisoformat(found[1]).replace(tzinfo=timezone.utc)
        except ValueError:  # such as a month of 13
            found = None
        else:
            seconds = (moment - _EPOCH) // timedelta(seconds=1)
            return seconds * 10**9 + int((found[2] or "0").ljust(9, "0"))
    raise SnapshotError(f"{what}: the time is not like 2026-01-31T12:00:00.000000000Z")


def _read_value(value: Any, kind: str, pv: str) -> Any:
    if not is_list(value):
        return _element(value, kind, pv)
    cells: list[Any] = value
    elements = [_element(cell, kind, pv) for cell in cells]
    texts = sum(isinstance(element, str) for element in elements)
    if texts not in (0, len(elements)):
        raise SnapshotError(f"{pv}: its array has both numbers and strings")
    return elements


def _element(value: Any, kind: str, pv: str) -> Any:
    """Check one number or string against the type, and convert the names of special numbers."""
    if isinstance(value, float) and kind in ("", "DOUBLE", "FLOAT"):
        return value
    if type(value) is int and kind != "STRING":
        low, high = _RANGES.get(kind, _ANY_INTEGER)
        if low <= value <= high:
            return value
        raise SnapshotError(
            f"{pv}: {json.dumps(value)[:40]} is not in the range of its type, {low} to {high}"
        )
    if isinstance(value, str):
        if kind in ("DOUBLE", "FLOAT") and value in _SPECIAL:
            return _SPECIAL[value]
        if octets(value, pv) > MAX_STRING_BYTES and kind == "STRING":
            raise SnapshotError(
                f"{pv}: a STRING has at most {MAX_STRING_BYTES} bytes: {json.dumps(value)[:40]}..."
            )
        if kind in ("", "STRING", "CHAR"):
            return value
    what = f"of type {kind}" if kind else "that a PV can have"
    raise SnapshotError(f"{pv}: {json.dumps(value)[:40]} is no value {what}")


def _char_array(value: Any, length: Any, kind: str, pv: str) -> Any:
    """Return the numbers of an array of CHAR that is written as text."""
    if kind != "CHAR" or not isinstance(value, str):
        raise SnapshotError(f'{pv}: only the text of an array of CHAR has a "length"')
    if type(length) is not int or not 0 <= length <= 1 << 30:
        raise SnapshotError(f'{pv}: its "length" is not a number of elements')
    data = value.encode("utf-8", "surrogateescape")
    return list(data.ljust(length, b"\0"))
