r"""Escape text that is not ours, such as a PV's name or a server's text, for a terminal or a log.

Invariant: the result contains no terminal command and no line break. Each character that cannot be
printed is replaced by an escape, such as ``\x1b``.
"""

from __future__ import annotations

import logging


def printable(text: str) -> str:
    """Replace each character of a text that cannot be printed by an escape."""
    return text if text.isprintable() else "".join(map(_shown, text))


def printable_json(value: object) -> str:
    """Return JSON on one line, all of whose characters can be printed.

    Raises:
        ValueError: the value has a float that is not finite.
    """
    import json  # takes a millisecond that only commands and snapshots need

    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if text.isprintable():
        return text
    # Only strings contain unprintable characters. json escapes only those below U+0020.
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":  # a byte that Python could not decode
        return f"\\x{ord(character) - 0xDC00:02x}"
    return ascii(character)[1:-1]


class Escaping(logging.Filter):
    """Makes the text arguments of log records printable. The format strings are our own."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the arguments of the record; drop no record."""
        if isinstance(record.args, tuple):
            record.args = tuple(
                printable(arg) if isinstance(arg, str) else arg for arg in record.args
            )
        return True
