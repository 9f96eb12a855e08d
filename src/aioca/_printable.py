r"""Text for a terminal or a log, whoever has made it: the name of a PV, or what a server sent.

No character of it is a command for a terminal, or begins a new line of a log: what cannot be
printed is shown as an escape, such as ``\x1b``.
"""

from __future__ import annotations

import logging


def printable(text: str) -> str:
    """The text with escapes in the place of all that cannot be printed."""
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":  # a byte that was no text where Python read it
        return f"\\x{ord(character) - 0xDC00:02x}"
    return ascii(character)[1:-1]


class Escaping(logging.Filter):
    """Makes the texts of log records printable; their form is ours."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Changes the record, and lets it pass."""
        if isinstance(record.args, tuple):
            record.args = tuple(
                printable(arg) if isinstance(arg, str) else arg for arg in record.args
            )
        return True
