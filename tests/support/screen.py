"""A terminal that can be looked at: what is shown in it, in which colours, and its mode."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyte

from tests.support.commands import Output, in_terminal

TERM = "xterm-256color"

UP, DOWN, PAGE_UP, PAGE_DOWN = "\x1b[A", "\x1b[B", "\x1b[5~", "\x1b[6~"
HOME, END = "\x1b[H", "\x1b[F"
CTRL_C, CTRL_Z = "\x03", "\x1a"


class Shown:
    """A running command and its screen, `picture`."""

    def __init__(self, process: subprocess.Popen[bytes], output: Output, fd: int) -> None:
        self.process = process
        self.output = output
        self._fd = fd
        self._fed = 0
        self.picture = pyte.Screen(80, 24)
        self._stream = pyte.Stream(self.picture)

    # -- To do -------------------------------------------------------------------------------------

    def resize(self, columns: int, lines: int) -> None:
        """The kernel tells the command."""
        self.picture.resize(lines, columns)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def unread(self) -> int:
        """Bytes that it has written and nobody has read."""
        counted = fcntl.ioctl(self._fd, termios.FIONREAD, struct.pack("i", 0))
        return int(struct.unpack("i", counted)[0])

    # -- To see ------------------------------------------------------------------------------------

    def until(self, condition: Callable[[], object], seconds: float = 30.0) -> None:
        """Wait for output until something is true of the screen."""

        def fed(text: str) -> object:
            self._stream.feed(text[self._fed :])
            self._fed = len(text)
            return condition()

        try:
            self.output.until(fed, seconds)
        except AssertionError as error:
            raise AssertionError("on the screen:\n" + "\n".join(self.lines)) from error

    def until_seen(self, *texts: str) -> None:
        self.until(lambda: all(any(text in line for line in self.lines) for text in texts))

    def until_row(self, name: str, *texts: str) -> None:
        """Wait until the line of a PV has texts."""
        self.until(lambda: all(text in self.row(name) for text in texts))

    @property
    def lines(self) -> list[str]:
        return list(self.picture.display)

    def row(self, name: str) -> str:
        """The line of a PV; empty if it is not on the screen."""
        return next((line for line in self.lines if line.split()[:1] == [name]), "")

    def names(self) -> list[str]:
        """Of the PVs on the screen, from top to bottom: between the heading and the last line."""
        return [line.split()[0] for line in self.lines[2:-1] if line.strip()]

    def colour(self, name: str, text: str) -> str:
        """That of a text in the line of a PV."""
        number = next(n for n, line in enumerate(self.lines) if line.split()[:1] == [name])
        cell = self.picture.buffer[number][self.lines[number].index(text)]
        return f"reverse {cell.fg}" if cell.reverse else str(cell.fg)

    @property
    def cursor_shown(self) -> bool:
        return not self.picture.cursor.hidden

    def taken(self) -> bool:
        """Whether the command has the alternate screen."""
        return self.output.text.rfind("\x1b[?1049h") > self.output.text.rfind("\x1b[?1049l")

    def echoes(self) -> bool:
        """Whether what is typed is shown, and read in lines, as a shell wants it."""
        mode = termios.tcgetattr(self._fd)[3]
        wanted = termios.ECHO | termios.ICANON | termios.ISIG
        return mode & wanted == wanted

    # -- The end -----------------------------------------------------------------------------------

    def ended(self) -> int:
        """Its exit status; what came until then has been seen."""
        text = self.output.to_the_end()
        self._stream.feed(text[self._fed :])
        self._fed = len(text)
        return self.process.wait(10)

    def restored(self) -> bool:
        """Whether the terminal is as it was."""
        return not self.taken() and self.cursor_shown and self.echoes()


@contextmanager
def shown(*arguments: str, columns: int = 120, lines: int = 24) -> Iterator[Shown]:
    """The command in a terminal of a size."""
    with in_terminal(*arguments) as (process, output, fd):
        screen = Shown(process, output, fd)
        screen.resize(columns, lines)
        yield screen
