"""The macros of EPICS: ``$(NAME)``, ``${NAME}``, ``$(NAME=default)``, also within each other.

Invariant: the expansion of a line ends, and stays below `_MAX_LINE_CHARACTERS`, whatever the
macros are.
"""

from __future__ import annotations

from collections.abc import Mapping

from ._model import SnapshotError

# Both limit the expansion of a few characters in a file: real files are far below them.
_MAX_LINE_CHARACTERS = 10_000  # of an expanded line
_MAX_DEPTH = 20  # macros within macros
_CLOSING = {"(": ")", "{": "}"}


def parse_macros(text: str) -> dict[str, str]:
    """Parse definitions of macros, such as ``P=BL01:,M=m1``.

    Args:
        text: names and values, separated by commas. Quotes protect commas and blanks in a value; a
            backslash protects the next character.

    Returns:
        dict[str, str]: the values by their names.

    Raises:
        SnapshotError: a part has no ``=``, or no name.
    """
    macros: dict[str, str] = {}
    for part in _split(text):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise SnapshotError(f"{part.strip()!r} defines no macro; write NAME=VALUE,NAME=VALUE")
        macros[name.strip()] = _unquoted(value.strip())
    return macros


def _split(text: str) -> list[str]:
    """Split at commas outside of quotes; leave the quotes and the backslashes."""
    parts, quote, escaped = [""], "", False
    for character in text:
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character == ",":
            parts.append("")
            continue
        parts[-1] += character
    return [part for part in parts if part.strip()]


def _unquoted(text: str) -> str:
    result, quote, escaped = "", "", False
    for character in text:
        if escaped:
            result, escaped = result + character, False
        elif character == "\\":
            escaped = True
        elif quote and character == quote:
            quote = ""
        elif not quote and character in "\"'":
            quote = character
        else:
            result += character
    return result


def expand(text: str, macros: Mapping[str, str]) -> str:
    """Replace the macros in a text; SnapshotError without a path if one is not defined."""
    return _expanded(text, macros, 0)


def _expanded(text: str, macros: Mapping[str, str], depth: int) -> str:
    if "$" not in text:
        return text
    if depth > _MAX_DEPTH:
        raise SnapshotError(f"a macro contains itself, or more than {_MAX_DEPTH} levels of macros")
    result, position = "", 0
    while (start := text.find("$", position)) >= 0:
        closing = _CLOSING.get(text[start + 1 : start + 2])
        if closing is None:  # a dollar that begins no macro, as in NAME.VAL$
            result += text[position : start + 1]
            position = start + 1
            continue
        end = _end(text, start + 2, closing)
        result += text[position:start] + _value(text[start + 2 : end], macros, depth)
        position = end + 1
        if len(result) > _MAX_LINE_CHARACTERS:
            raise SnapshotError(f"the macros expand to more than {_MAX_LINE_CHARACTERS} characters")
    return result + text[position:]


def _end(text: str, start: int, closing: str) -> int:
    """Return the index of the bracket that ends the macro whose name begins at ``start``."""
    expected = [closing]
    for index in range(start, len(text)):
        character = text[index]
        if character == expected[-1]:
            expected.pop()
            if not expected:
                return index
        elif character in _CLOSING and text[index - 1] == "$":
            expected.append(_CLOSING[character])
    raise SnapshotError(f"the macro in {text!r} has no closing {closing!r}")


def _value(inside: str, macros: Mapping[str, str], depth: int) -> str:
    name, equals, default = inside.partition("=")
    name = _expanded(name, macros, depth + 1)
    if name in macros:
        return _expanded(macros[name], macros, depth + 1)
    if equals:
        return _expanded(default, macros, depth + 1)
    raise SnapshotError(f"the macro {name!r} is not defined")
