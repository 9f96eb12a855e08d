"""The alternate screen of a terminal; only changed lines are written.

The screen is written on the event loop's thread, which a slow terminal blocks. No update is lost by
that: libca's threads continue to receive, and the latest update of each PV is kept.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

# Alternate screen, no cursor, no wrapping (a terminal may show a line wider than computed)
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"


class Screen:
    """The alternate screen on standard output, which must be a terminal."""

    def __init__(self) -> None:
        self._fd = sys.stdout.fileno()
        self._shown: list[str] | None = None
        self._size = (0, 0)
        self._open = False

    def open(self) -> None:
        """Switch to the alternate screen. May be called again."""
        if not self._open:
            self._open = True
            self._shown = None
            self._write(_ENTER)

    def close(self) -> None:
        """Switch back to the normal screen. May be called again."""
        if self._open:
            self._open = False
            self._write(_LEAVE)

    def size(self) -> tuple[int, int]:
        """Return columns and lines, at least one of each."""
        columns, lines = os.get_terminal_size(self._fd)
        return columns or 80, lines or 24  # 0 if the terminal does not say

    def show(self, size: tuple[int, int], lines: Sequence[str]) -> None:
        """Show lines that were made for this size, and are shorter than its width. May block."""
        parts: list[str] = []
        if self._shown is None or size != self._size:
            parts.append("\x1b[2J")
            self._shown, self._size = [""] * size[1], size
        for number, (line, shown) in enumerate(zip(lines, self._shown, strict=False), 1):
            if line != shown:
                # Overwrite, then clear to the end: clearing first would flicker
                parts.append(f"\x1b[{number};1H{line}\x1b[K")
        self._shown = list(lines)
        if parts:
            self._write("".join(parts))

    def _write(self, text: str) -> None:
        sys.stdout.buffer.write(text.encode(sys.stdout.encoding, errors="replace"))
        sys.stdout.buffer.flush()
