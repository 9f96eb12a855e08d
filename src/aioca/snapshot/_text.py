"""Entries as text for a person: one line, values cut short. The result may need `printable`."""

from __future__ import annotations

import json
import re
from typing import Any

from ._model import Entry, Outcome, State, is_list

_NUMBER = re.compile(r"[+-]?([0-9.]+([eE][+-]?[0-9]+)?|inf|nan)")
# A list longer than this is cut off there, other text at twice the length, to fit into a line.
_MAX_VALUE_CHARACTERS = 60


def value_text(entry: Entry | None) -> str:
    """Return the value of an entry in at most some 60 characters."""
    if entry is None:
        return "?"
    if entry.value is None:
        return "no value"
    text = text_of_char_array(entry)
    shown = _shown(entry.value if text is None else text, not entry.type)
    if entry.label is not None:
        return f"{shown} {_quoted(entry.label)}"
    if is_list(entry.value) and text is None and len(shown) > _MAX_VALUE_CHARACTERS:
        return f"{shown[:_MAX_VALUE_CHARACTERS]}... ({_elements(len(entry.value))})"
    most = 2 * _MAX_VALUE_CHARACTERS
    return shown if len(shown) <= most else shown[:most] + "..."


def change_text(saved: Entry, current: Entry | None) -> str:
    """Return how the value of a PV differs from the saved one."""
    if current is None:
        return f"{value_text(saved)} -> not read"
    before, now = value_text(saved), value_text(current)
    if before != now or not is_list(saved.value) or not is_list(current.value):
        return f"{before} -> {now}"
    pairs = enumerate(zip(saved.value, current.value, strict=False))
    for index, (old, new) in pairs:
        if old != new:
            return f"{before}, element {index}: {_shown(old)} -> {_shown(new)}"
    return f"{_elements(len(saved.value))} -> {_elements(len(current.value))}"


def outcome_text(outcome: Outcome) -> str:
    """Return what `restore` has done with a PV, and the reason."""
    state, entry = outcome.state, outcome.entry
    if state in (State.WRITTEN, State.WOULD_WRITE) and outcome.before is not None:
        change = change_text(outcome.before, entry)
        text = change if state is State.WRITTEN else f"would be written: {change}"
    elif state is State.WRITTEN:
        text = f"written: {value_text(entry)}"
    elif state is State.WOULD_WRITE:
        text = f"would be written: {value_text(entry)}"
    elif state is State.ALTERED:
        text = f"wrote {value_text(entry)}, but it reads back as {value_text(outcome.after)}"
    elif state is State.SENT:
        text = f"sent {value_text(entry)}, but its end was not reported"
    else:
        text = state.value
    return f"{text} ({outcome.detail})" if outcome.detail else text


def text_of_char_array(entry: Entry) -> str | None:
    """Return the text in an array of CHAR; None if the entry is not one, or has no text.

    It has text if it is printable UTF-8, perhaps followed by NULs.
    """
    if entry.type != "CHAR" or not is_list(entry.value):
        return None
    codes: list[Any] = entry.value
    data = bytes(code & 0xFF for code in codes).rstrip(b"\0")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if text and text.isprintable() else None


def _shown(value: Any, untyped: bool = False) -> str:
    """Return a value; numbers that are text in the file of another program have no quotes."""
    if is_list(value):
        some: list[Any] = value[:100]
        end = "]" if len(some) == len(value) else ", ..."
        return "[" + ", ".join(_shown(cell, untyped) for cell in some) + end
    if isinstance(value, str):
        return value if untyped and _NUMBER.fullmatch(value) else _quoted(value)
    return repr(value)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _elements(count: int) -> str:
    return "1 element" if count == 1 else f"{count} elements"
