"""The screen of a terminal: the alternate one, as long as it is open; only changed lines are sent.

It is written to on the event loop's thread, and a slow terminal makes that wait. Nothing is lost by
it: updates go on to be received on libca's threads, and the latest of each PV is kept.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

# The alternate screen, no cursor, no wrapping of a line that is wider than we took it for
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"


class Screen:
    """Standard output, which is a terminal."""

    def __init__(self) -> None:
        self._fd = sys.stdout.fileno()
        self._shown: list[str] | None = None
        self._size = (0, 0)
        self._open = False

    def open(self) -> None:
        """Show ours in the place of what is there. Idempotent."""
        if not self._open:
            self._open = True
            self._shown = None
            self._write(_ENTER)

    def close(self) -> None:
        """Show again what was there. Idempotent."""
        if self._open:
            self._open = False
            self._write(_LEAVE)

    def size(self) -> tuple[int, int]:
        """Columns and lines, at least one of each."""
        columns, lines = os.get_terminal_size(self._fd)
        return columns or 80, lines or 24  # 0: a terminal that does not know

    def show(self, size: tuple[int, int], lines: Sequence[str]) -> None:
        """Lines made for that size, shorter than it is wide."""
        parts: list[str] = []
        if self._shown is None or size != self._size:
            parts.append("\x1b[2J")
            self._shown, self._size = [""] * size[1], size
        for number, (line, shown) in enumerate(zip(lines, self._shown, strict=False), 1):
            if line != shown:
                # Written over, and only then cleared to the end, or it would flicker
                parts.append(f"\x1b[{number};1H{line}\x1b[K")
        self._shown = list(lines)
        if parts:
            self._write("".join(parts))

    def _write(self, text: str) -> None:
        sys.stdout.buffer.write(text.encode(sys.stdout.encoding, errors="replace"))
        sys.stdout.buffer.flush()
