"""What `watch` shows: the state of the table, and its lines for a screen of any size.

Lines are made by hand from rich's styles and widths: a `rich.table.Table` of a full screen takes
tens of milliseconds, ten times a second, where this takes one or two.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style

from .history import SPARKS, STEP, Rate, Sparkline, shape
from .pv_state import PVState

ORDERS = ("given", "name", "alarm", "rate")

_STYLES = {
    "plain": "none", "title": "bold", "head": "bold underline", "quiet": "dim", "name": "bold",
    "units": "cyan", "spark": "cyan", "keys": "dim", "message": "yellow",
    "no alarm": "green", "minor": "yellow", "major": "bold red", "invalid": "bold magenta",
    "absent": "reverse magenta",
}  # fmt: skip
_ALARM_STYLES = ("no alarm", "minor", "major", "invalid", "absent")  # -1 is the last

_GAP = "  "


class Row(PVState):
    """A PV with what is counted and kept of it; `updates` is how many have been taken."""

    __slots__ = ("_spark", "dropped", "position", "rate", "updates")

    def __init__(self, name: str, position: int, strings: bool) -> None:
        super().__init__(name, strings)
        self.position = position
        self.rate = Rate()
        self.updates = 0
        self._spark = Sparkline()

    def take(self, update: Any) -> None:
        known = self.connected
        super().take(update)
        number = math.nan
        if self.connected:
            self.updates += known  # the first on a connection is no change
            if isinstance(update, (int, float)):
                number = float(update)
        self._spark.add(time.monotonic(), number)

    def count(self, now: float, dropped: int) -> None:
        """Once a second: so many updates were overtaken by newer ones before they were taken."""
        self.rate.count(now, self.updates + dropped)
        self._spark.advance(now)

    def spark(self, width: int) -> str:
        """Of a number the last minute, or as much of it as fits; of an array its shape now."""
        value = self.value
        if not self.is_array:
            return self._spark.text(width)
        return shape(value, width) if self.connected and value.dtype.kind in "iuf" else ""


class Painter:
    """Text in a style, as the terminal takes it."""

    def __init__(self, console: Console) -> None:
        systems = {"standard": ColorSystem.STANDARD, "256": ColorSystem.EIGHT_BIT}
        self._system = systems.get(console.color_system or "", ColorSystem.TRUECOLOR)
        parsed = {name: Style.parse(text) for name, text in _STYLES.items()}
        if console.no_color or console.color_system is None:
            parsed = {name: style.without_color for name, style in parsed.items()}
        self._styles = parsed

    def __call__(self, text: str, style: str) -> str:
        return self._styles[style].render(text, color_system=self._system)


def fit(text: str, width: int, right: bool = False) -> str:
    """The text in so many cells of the screen, cut with an ellipsis if it is longer."""
    missing: int = width - cell_len(text)
    if missing < 0:
        return set_cell_size(text, width - 1) + "…" if width > 0 else ""
    return " " * missing + text if right else text + " " * missing


class Widths(NamedTuple):
    """Of the columns; 0 for one for which the screen is too narrow."""

    name: int
    value: int
    units: int
    alarm: int
    time: int
    rate: int
    spark: int


_LEAST = Widths(name=12, value=10, units=5, alarm=12, time=12, rate=7, spark=10)
_WIDEST = 40  # of a column that is as wide as what is in it
_LEAVE = ("spark", "units", "rate", "time")  # in this order, where there is no room


def widths(screen: int, most: dict[str, int]) -> Widths:
    """Share a line among the columns; `most` is what each could make use of."""
    least: dict[str, int] = _LEAST._asdict()

    def free() -> int:
        shown = [width for width in least.values() if width]
        return screen - sum(shown) - len(_GAP) * (len(shown) - 1)

    for column in _LEAVE:
        if free() < 0:
            least[column] = 0
    for column, width in most.items():
        if least[column]:
            least[column] += max(0, min(width - least[column], free()))
    if free() < 0:
        least["value"] = max(1, least["value"] + free())
    return Widths(**least)


class View:
    """The table.

    Attributes:
        rows: of all PVs, in the order in which they were given.
        shown: those that are on the screen.
        order: which of `ORDERS` they are shown in.
        message: what is to be said in the last line.
    """

    def __init__(self, rows: Sequence[Row], order: str, painter: Painter) -> None:
        self.rows = list(rows)
        self.shown: list[Row] = []
        self.order = order
        self.message = ""
        self._paint = painter
        self._top = 0
        self._page = 1
        # How wide the columns can become; they never shrink, or the table would be restless
        longest = max(cell_len(row.shown_name) for row in self.rows)
        self._most = {"name": longest, "value": 0, "units": 0, "alarm": 0, "spark": SPARKS}

    def press(self, key: str) -> None:
        """Scroll, or sort otherwise."""
        if key == "s":
            self.order = ORDERS[(ORDERS.index(self.order) + 1) % len(ORDERS)]
        moves = {
            "up": -1, "down": 1, "page up": -self._page, "page down": self._page,
            "home": -len(self.rows), "end": len(self.rows),
        }  # fmt: skip
        self._top += moves.get(key, 0)
        self._bound()

    def _bound(self) -> None:
        self._top = max(0, min(self._top, len(self.rows) - self._page))

    def lines(self, width: int, height: int, now: float) -> list[str]:
        """The screen, from top to bottom; `now` is of `time.time`."""
        width = max(1, width - 1)  # the last column is where terminals differ
        self._page = max(1, height - 3)
        self._bound()
        self.shown = self._sorted()[self._top : self._top + self._page]
        self._widen(self.shown)
        columns = widths(width, self._most)
        table = [self._line(row, columns, now) for row in self.shown]
        table += [""] * (self._page - len(table))
        return [self._title(width, now), self._head(columns), *table, self._foot(width)][:height]

    def _widen(self, shown: list[Row]) -> None:
        for row in shown:
            texts = {"value": row.text(), "units": row.units, "alarm": row.condition}
            for column, text in texts.items():
                self._most[column] = max(self._most[column], min(cell_len(text), _WIDEST))

    def _sorted(self) -> list[Row]:
        if self.order == "name":
            return sorted(self.rows, key=lambda row: row.name)
        if self.order == "alarm":  # those not connected are the worst
            return sorted(self.rows, key=lambda row: -(row.severity % 5))
        if self.order == "rate":
            return sorted(self.rows, key=lambda row: -row.rate.value)
        return self.rows

    def _line(self, row: Row, columns: Widths, now: float) -> str:
        alarm = _ALARM_STYLES[row.severity]
        present = row.connected
        cells = {
            "name": (row.shown_name, "name" if present else "quiet", False),
            "value": (row.text(), alarm if present else "quiet", True),
            "units": (row.units, "units" if present else "quiet", False),
            "alarm": (row.condition, alarm, False),
            "time": (row.time_text(now), "plain" if present else "quiet", True),
            "rate": (f"{row.rate.value:.1f}" if present else "", "plain", True),
            "spark": (row.spark(columns.spark), "spark" if present else "quiet", True),
        }
        return self._join(columns, cells)

    def _head(self, columns: Widths) -> str:
        names = {
            "name": "PV", "value": "value", "units": "units", "alarm": "alarm", "time": "time",
            "rate": "rate/s", "spark": f"last {columns.spark * STEP:.0f} s",
        }  # fmt: skip
        right = ("value", "time", "rate")
        cells = {column: (name, "head", column in right) for column, name in names.items()}
        return self._join(columns, cells)

    def _join(self, columns: Widths, cells: dict[str, tuple[str, str, bool]]) -> str:
        parts: list[str] = []
        for column, width in zip(columns._fields, columns, strict=True):
            if width:
                text, style, right = cells[column]
                parts.append(self._paint(fit(text, width, right), style))
        return _GAP.join(parts)

    def _title(self, width: int, now: float) -> str:
        severities = [row.severity for row in self.rows]
        texts = [(f"aioca watch {_GAP}{len(self.rows)} PVs", "title")]
        for severity, what in ((-1, "not connected"), (3, "INVALID"), (2, "MAJOR"), (1, "MINOR")):
            if number := severities.count(severity):
                texts.append((f"{number} {what}", _ALARM_STYLES[severity]))
        rate = sum(row.rate.value for row in self.rows)
        clock = time.strftime("%H:%M:%S", time.localtime(now))
        return self._spread(width, texts, f"{rate:,.0f} updates/s{_GAP}{clock}", "plain")

    def _foot(self, width: int) -> str:
        last = min(len(self.rows), self._top + self._page)
        texts = [
            (f"{self._top + 1}-{last} of {len(self.rows)}", "plain"),
            ("↑ ↓ PgUp PgDn Home End", "keys"),
            (f"s sort: {self.order}", "keys"),
            ("q quit", "keys"),
        ]
        return self._spread(width, texts, self.message, "message")

    def _spread(self, width: int, texts: list[tuple[str, str]], right: str, style: str) -> str:
        """Texts from the left as far as they fit, and one at the right."""
        right = fit(right, min(cell_len(right), width // 2))
        left: list[str] = []
        room = width - cell_len(right)
        for text, its_style in texts:
            if cell_len(text) > room:
                break
            left.append(self._paint(text, its_style))
            room -= cell_len(text) + len(_GAP)
            left.append(_GAP if room >= 0 else "")
        return "".join(left) + " " * max(0, room) + self._paint(right, style)
