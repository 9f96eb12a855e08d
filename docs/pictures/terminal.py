"""For the scripts beside it: commands in a real terminal, and what is on its screen as SVG."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from rich import _export_format
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.commands import in_terminal, started
from tests.support.screen import CTRL_C, TERM, Shown, shown

__all__ = [
    "CTRL_C", "Shell", "Shown", "between_frames", "confine", "photograph", "shell", "shown",
    "started",
]  # fmt: skip


def confine() -> None:
    """No settings but ours, and colours."""
    for name in [name for name in os.environ if name.startswith("EPICS_CA")]:
        del os.environ[name]
    os.environ.pop("NO_COLOR", None)
    os.environ["TERM"] = TERM


# -- A screen as a picture -------------------------------------------------------------------------

THEME = TerminalTheme(
    (24, 27, 34), (214, 219, 229),
    [(24, 27, 34), (244, 92, 98), (118, 199, 120), (236, 190, 92),
     (97, 160, 239), (226, 112, 214), (92, 188, 214), (214, 219, 229)],
)  # fmt: skip


def photograph(screen: Shown, title: str, file: Path, lines: int | None = None) -> None:
    """The screen as it is, or the first lines of it, as SVG."""
    picture = screen.picture
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=picture.columns, file=nowhere, force_terminal=True)
        for number in range(lines or picture.lines):
            console.print(_line_of(picture, number))
        # Without the fonts that would be fetched from elsewhere
        layout = re.sub(
            r"@font-face \{\{.*?\}\}\n", "", _export_format.CONSOLE_SVG_FORMAT, flags=re.S
        )
        layout = layout.replace("Fira Code", "DejaVu Sans Mono, Menlo, Consolas")
        svg = console.export_svg(title=title, theme=THEME, code_format=layout, unique_id=file.stem)
    file.write_text(svg, encoding="utf-8")


def _line_of(picture: Any, number: int) -> Text:
    """A line with its colours."""
    line = Text(no_wrap=True, overflow="crop")
    cells = [picture.buffer[number][column] for column in range(picture.columns)]
    for style, run in groupby(cells, key=_style_of):
        line.append("".join(cell.data for cell in run), style)
    return line


def _style_of(cell: Any) -> Style:
    if cell.data == " " and not cell.reverse:
        return Style(color="blue")  # that what is between two texts is a text of its own
    return Style(
        color=_colour(cell.fg), bold=cell.bold, reverse=cell.reverse, underline=cell.underscore
    )


def _colour(name: str) -> Color | None:
    """As rich calls it."""
    if name == "default":
        return None
    if re.fullmatch("[0-9a-f]{6}", name):
        return Color.parse(f"#{name}")
    return Color.parse({"brown": "yellow"}.get(name, name.replace("bright", "bright_")))


def between_frames(screen: Shown) -> bool:
    """Whether what has been read is the whole of a screen."""
    for _ in range(3):
        if screen.unread():
            return False
        time.sleep(0.01)
    return True


# -- A shell ---------------------------------------------------------------------------------------

# What the Tab key needs, and a prompt that tells nothing of the machine
_RC = r"""
PS1='\[\e[1;34m\]$\[\e[0m\] '
bind 'set enable-bracketed-paste off'; bind 'set bell-style none'
bind 'set show-all-if-ambiguous on'
eval "$(aioca completion bash)"
"""


class Shell:
    """bash in a terminal, in a folder of its own."""

    def __init__(self, screen: Shown, folder: Path) -> None:
        self.screen = screen
        self.folder = folder
        self._begun = -1  # the line of the screen where the last command was typed

    def type(self, keys: str) -> None:
        """Type something; it need not end."""
        self._begun = self.screen.picture.cursor.y
        self.screen.type(keys)

    def run(self, command: str, prompt: str = "$") -> None:
        """Type a command, and wait until it has ended."""
        self.type(f"{command}\n")
        self.until_prompt(prompt)

    def until_prompt(self, prompt: str = "$") -> None:
        """Wait for the next one."""
        cursor = self.screen.picture.cursor
        self.until(
            lambda: (
                cursor.y > self._begun
                and self.screen.lines[cursor.y].rstrip() == prompt
                and cursor.x == len(prompt) + 1
            )
        )

    def until_typed(self, line: str) -> None:
        """Wait until a line can be gone on with, below what it can be completed to."""
        cursor = self.screen.picture.cursor
        self.until(
            lambda: (
                cursor.y > self._begun
                and self.screen.lines[cursor.y].rstrip() == f"$ {line}".rstrip()
            )
        )

    def interrupt(self) -> None:
        """Type Ctrl-C, and wait for a prompt, which may come in the same line."""
        before = len(self.screen.output.text)
        self.screen.type(CTRL_C)
        cursor = self.screen.picture.cursor
        self.until(
            lambda: (
                "^C" in self.screen.output.text[before:]
                and self.screen.lines[cursor.y].rstrip().endswith("$")
            )
        )

    def until_line(self, number: int) -> None:
        """Wait until the cursor is in a line."""
        self.until(lambda: self.screen.picture.cursor.y == number)

    def until_seen(self, times: int, text: str) -> None:
        """Wait until a text is on the screen that often."""
        self.until(lambda: "\n".join(self.screen.lines).count(text) >= times)

    def until(self, condition: Callable[[], object]) -> None:
        self.screen.until(condition, 60)

    def photograph(self, title: str, file: Path) -> None:
        """What is on the screen, without a prompt that waits."""
        self.until(lambda: between_frames(self.screen))
        lines = [line.rstrip() for line in self.screen.lines]
        while lines[-1] in ("", "$"):
            del lines[-1]
        if len(lines) == self.screen.picture.lines:
            raise SystemExit(f"{file.name}: the terminal is too small")
        photograph(self.screen, title, file, len(lines))


@contextmanager
def shell(folder: Path, columns: int, lines: int, environment: dict[str, str]) -> Iterator[Shell]:
    """bash, in a folder, with the command on its path, and these settings besides ours."""
    binaries = folder / ".bin"
    binaries.mkdir(exist_ok=True)
    command = binaries / "aioca"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m aioca "$@"\n')
    command.chmod(0o755)
    (binaries / "rc").write_text(_RC)
    bash = shutil.which("bash")
    if bash is None:
        raise SystemExit("needs bash")
    with in_terminal(
        "--noprofile", "--rcfile", str(binaries / "rc"), "-i", program=[bash], cwd=folder,
        env={**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "HOME": str(folder),
             **environment},
    ) as (process, output, fd):  # fmt: skip
        screen = Shown(process, output, fd)
        screen.resize(columns, lines)
        made = Shell(screen, folder)
        made.until_prompt()
        yield made
        made.interrupt()  # what still runs, or was typed, is done with
        screen.type("exit\n")
        screen.ended()
