"""The table of `watch`: its state, and its lines for a screen of any size.

The lines are made here from rich's styles and widths: a `rich.table.Table` of a full screen takes
tens of milliseconds, ten times a second; this module takes one or two.
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

from ..._values.classes import SEVERITIES
from .history import SPARKS, STEP_SECONDS, Rate, Sparkline, shape
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
    """The state of a PV with its rate and sparkline; `updates` is the number of taken updates."""

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
            self.updates += known  # the first update after a connection is not a change
            if isinstance(update, (int, float)):
                number = float(update)
        self._spark.add(time.monotonic(), number)

    def count(self, now: float, dropped: int) -> None:
        """Note the number of replaced updates, once a second; newer ones came before `take`."""
        self.rate.count(now, self.updates + dropped)
        self._spark.advance(now)

    def spark(self, width: int) -> str:
        """Return the last minute of a number, as far as it fits; of an array, its shape now."""
        value = self.value
        if not self.is_array:
            return self._spark.text(width)
        return shape(value, width) if self.connected and value.dtype.kind in "iuf" else ""


class Painter:
    """Returns text in a style, with the escape codes for the terminal."""

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
    """Pad or cut a text to a width in cells of the screen; a cut text ends with an ellipsis."""
    missing: int = width - cell_len(text)
    if missing < 0:
        return set_cell_size(text, width - 1) + "…" if width > 0 else ""
    return " " * missing + text if right else text + " " * missing


class Widths(NamedTuple):
    """The widths of the columns; 0 for a column that is not shown on a narrow screen."""

    name: int
    value: int
    units: int
    alarm: int
    time: int
    rate: int
    spark: int


_MIN_WIDTHS = Widths(name=12, value=10, units=5, alarm=12, time=12, rate=7, spark=10)
_MAX_COLUMN_WIDTH = 40  # of value, units and alarm, which grow with their texts
_DROP_ORDER = ("spark", "units", "rate", "time")  # columns left out on a narrow screen


def widths(screen: int, most: dict[str, int]) -> Widths:
    """Divide the width of a line among the columns; `most` is the largest useful width of each."""
    least: dict[str, int] = _MIN_WIDTHS._asdict()

    def free() -> int:
        shown = [width for width in least.values() if width]
        return screen - sum(shown) - len(_GAP) * (len(shown) - 1)

    for column in _DROP_ORDER:
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
        rows: the rows of all PVs, in the given order.
        shown: the rows on the screen.
        order: the current order, one of `ORDERS`.
        message: the text in the last line.
    """

    def __init__(self, rows: Sequence[Row], order: str, painter: Painter) -> None:
        self.rows = list(rows)
        self.shown: list[Row] = []
        self.order = order
        self.message = ""
        self._paint = painter
        self._top = 0
        self._page = 1
        # The largest useful widths so far. They never shrink, so that columns do not jump.
        longest = max(cell_len(row.shown_name) for row in self.rows)
        self._most = {"name": longest, "value": 0, "units": 0, "alarm": 0, "spark": SPARKS}

    def press(self, key: str) -> None:
        """Scroll, or change the order."""
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
        """Return the lines of the screen, from top to bottom; `now` is from `time.time`."""
        width = max(1, width - 1)  # terminals differ in their last column
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
                self._most[column] = max(self._most[column], min(cell_len(text), _MAX_COLUMN_WIDTH))

    def _sorted(self) -> list[Row]:
        if self.order == "name":
            return sorted(self.rows, key=lambda row: row.name)
        if self.order == "alarm":  # PVs that are not connected come first
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
            "rate": "rate/s", "spark": f"last {columns.spark * STEP_SECONDS:.0f} s",
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
        counted = [(severity, SEVERITIES[severity]) for severity in (3, 2, 1)]
        for severity, what in [(-1, "not connected"), *counted]:
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
        """Return a line with the texts that fit at the left, and one text at the right."""
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
