"""Read single keys from a terminal, while the event loop runs.

Only echo and line buffering are switched off: Ctrl-C and Ctrl-Z stay signals. On Windows, which has
no termios, no keys are read: Ctrl-C ends a command.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

termios: Any
try:
    import termios
except ImportError:
    termios = None

# One key: an escape sequence with or without parameters, or a character
_KEY = re.compile(r"\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Za-z]|[\s\S]")
# The beginning of an escape sequence, whose rest has not been read yet
_BEGUN = re.compile(r"\x1b(\[[0-9;]*|O)?$")

_NAMES = {
    "\x1b[A": "up", "\x1bOA": "up", "k": "up", "\x1b[B": "down", "\x1bOB": "down", "j": "down",
    "\x1b[5~": "page up", "b": "page up", "\x1b[6~": "page down", " ": "page down",
    "\x1b[H": "home", "\x1bOH": "home", "\x1b[1~": "home", "g": "home",
    "\x1b[F": "end", "\x1bOF": "end", "\x1b[4~": "end", "G": "end",
    "Q": "q",
}  # fmt: skip


class Keyboard:
    """The keys of standard input; none if it is not a terminal, or on Windows."""

    def __init__(self) -> None:
        self._fd: int | None = None
        if termios is not None and sys.stdin is not None and sys.stdin.isatty():
            self._fd = sys.stdin.fileno()
        self._saved: list[Any] | None = None
        self._begun = ""

    def open(self) -> None:
        """Switch off echo and line buffering. May be called again."""
        if self._fd is None or self._saved is not None:
            return
        self._saved = termios.tcgetattr(self._fd)
        mode = termios.tcgetattr(self._fd)
        mode[3] &= ~(termios.ICANON | termios.ECHO)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._fd, termios.TCSADRAIN, mode)

    def close(self) -> None:
        """Restore the terminal, and discard unread keys, which the shell would run.

        May be called again.
        """
        if self._fd is None or self._saved is None:
            return
        try:
            termios.tcsetattr(self._fd, termios.TCSAFLUSH, self._saved)
        except termios.error:
            pass  # the terminal is gone
        self._saved = None

    async def read(self) -> list[str]:
        """Wait for keys, and return their names or characters; an empty list at end of file."""
        if self._fd is None:
            return []
        keys: list[str] = []
        while not keys:
            await _readable(self._fd)
            try:
                data = os.read(self._fd, 1024)
            except OSError:
                data = b""
            if not data:
                break
            text = self._begun + data.decode(errors="replace")
            rest = _BEGUN.search(text)
            self._begun = rest.group() if rest else ""
            found = (key.group() for key in _KEY.finditer(text.removesuffix(self._begun)))
            keys = [_NAMES.get(key, key) for key in found]
        return keys


# `wait_readable` is its name since anyio 4.7. The older function takes file descriptors, too.
_readable: Callable[[int], Awaitable[None]] = getattr(
    anyio, "wait_readable" if hasattr(anyio, "wait_readable") else "wait_socket_readable"
)
