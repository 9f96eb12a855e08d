"""The figure of `plot`: one panel for each PV, from top to bottom.

A panel is made once, and then updated with new data, so that a window can be drawn ten times a
second. Besides the window in `commands.plot`, only this module imports matplotlib.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import matplotlib.dates
import numpy as np
from matplotlib.figure import Figure

from .recording import Recording

dates: Any = matplotlib.dates  # it has no types

DPI = 120  # dots per inch: a picture of 1200 dots fits on most screens
WIDTH = 10.0  # inches, like the lengths in the next line
_PANEL, _ABOVE, _BELOW, _BETWEEN, _LEFT, _RIGHT = 1.65, 0.45, 0.5, 0.62, 0.95, 0.6

# Parts of a full panel's height; the last two kinds have text only
_SHARES = {"strip": 1.0, "trace": 1.0, "text": 0.01, None: 0.01}

_MAX_STATE_TICKS = 32  # states of an enum on an axis; the labels of more would overlap

_LINE = "#1763a6"
_GREY = "#6b7280"
_INVALID = "#c026d3"
_ALARMS = {-1: _INVALID, 0: "#15803d", 1: "#b45309", 2: "#dc2626", 3: _INVALID}
_MINOR_BAND, _MAJOR_BAND = "#fef3c7", "#fee2e2"
_MINOR_EDGE, _MAJOR_EDGE = "#d97706", "#dc2626"


def height(kinds: Sequence[str | None]) -> float:
    """Return the height in inches of a figure of recordings of these kinds."""
    panels = sum(_SHARES[kind] for kind in kinds) * _PANEL
    return _ABOVE + _BELOW + panels + (len(kinds) - 1) * _BETWEEN


class Chart:
    """The panels of a figure.

    Args:
        figure: an empty figure, with the size `WIDTH` by `height`.
        recordings: one for each panel; numbers come first, then arrays, then text.
        seconds: the time to show.
    """

    def __init__(self, figure: Figure, recordings: Sequence[Recording], seconds: float) -> None:
        self._figure = figure
        self._recordings = recordings
        self._seconds = max(seconds, 0.1)
        self._kinds: list[str | None] = []
        self._panels: list[_Panel] = []

    def update(self, now: float) -> None:
        """Update the artists of the figure; the owner of the figure draws them."""
        kinds = [recording.kind for recording in self._recordings]
        if kinds != self._kinds:
            self._build()
            self._kinds = kinds
        for panel in self._panels:
            panel.update(now - self._seconds, now)

    def _build(self) -> None:
        """Make the panels for the known kinds of the PVs."""
        self._figure.clear()
        order = list(_SHARES)
        ordered = sorted(self._recordings, key=lambda recording: order.index(recording.kind))
        shares = [_SHARES[recording.kind] for recording in ordered]
        inches = WIDTH, height([recording.kind for recording in ordered])
        grid = self._figure.add_gridspec(  # pyright: ignore[reportUnknownMemberType]
            len(ordered), 1, left=_LEFT / inches[0], right=1 - _RIGHT / inches[0],
            top=1 - _ABOVE / inches[1], bottom=_BELOW / inches[1],
            height_ratios=shares, hspace=_BETWEEN * len(shares) / (_PANEL * sum(shares)),
        )  # fmt: skip
        kinds = {"strip": _Strip, "trace": _Trace}
        self._panels = []
        for number, recording in enumerate(ordered):
            axes = self._figure.add_subplot(grid[number, 0])
            following = ordered[number + 1].kind if number + 1 < len(ordered) else None
            labelled = not (recording.kind == following == "strip")  # the panel below has its times
            self._panels.append(kinds.get(recording.kind or "", _Panel)(axes, recording, labelled))


class _Panel:
    """The axes of one PV, with its name and its value as text; subclasses add a curve."""

    def __init__(self, axes: Any, recording: Recording, labelled: bool) -> None:
        self.axes = axes
        self.recording = recording
        self._bands: list[Any] = []
        self._banded: Any = None  # the limits and range of the drawn bands
        axes.set_title(_plain(recording.shown_name), loc="left", fontsize=10, fontweight="bold")
        self._said = axes.set_title("", loc="right", fontsize=10)
        self.prepare(labelled)

    def prepare(self, labelled: bool) -> None:
        self.axes.set_axis_off()

    def update(self, since: float, now: float) -> None:
        state = self.recording
        condition = "" if state.severity == 0 else state.condition
        words = [state.text() if state.connected else "", state.units if state.connected else ""]
        text = "   ".join(filter(None, [" ".join(filter(None, words)), condition]))
        self._said.set(text=_plain(text), color=_ALARMS[state.severity])

    def frame(self) -> None:
        """Set the style of the axes, for strips and traces."""
        self.axes.spines[["top", "right"]].set_visible(False)
        self.axes.spines[["left", "bottom"]].set_color(_GREY)
        self.axes.tick_params(colors=_GREY, labelsize=8)
        self.axes.grid(color="#000000", alpha=0.07, linewidth=0.8)
        self.axes.set_axisbelow(True)

    def scale(self, values: Any) -> None:
        """Set the vertical axis, and draw its bands."""
        properties = self.recording.properties
        self.axes.set_ylabel(_plain(self.recording.units), fontsize=9, color=_GREY)
        if labels := self.recording.labels:
            bottom, top, states = ticks_of_states(values, len(labels))
            self.axes.set_ylim(bottom, top)
            texts = [_plain(self.recording.state_text(state)) for state in states]
            self.axes.set_yticks(states, texts)
            return
        bottom, top = span(values, properties)
        self.axes.set_ylim(bottom, top)
        limits = alarm_limits(properties)
        if (limits, bottom, top) != self._banded:
            self._banded = limits, bottom, top
            self._draw_bands(limits, bottom, top)

    def _draw_bands(self, limits: dict[str, float], bottom: float, top: float) -> None:
        for artist in self._bands:
            artist.remove()
        self._bands = []
        for low, high, colour in bands(limits, bottom, top):
            band = self.axes.axhspan(low, high, color=colour, linewidth=0, zorder=0)
            self._bands.append(band)
        for name, limit in limits.items():
            if bottom <= limit <= top:
                edge = _MAJOR_EDGE if name in ("HIHI", "LOLO") else _MINOR_EDGE
                self._bands += [
                    self.axes.axhline(limit, color=edge, linewidth=0.8, alpha=0.6, zorder=1),
                    self.axes.annotate(
                        name, (1.0, limit), xycoords=("axes fraction", "data"), xytext=(4, 0),
                        textcoords="offset points", fontsize=7, color=edge, va="center",
                    ),
                ]  # fmt: skip


class _Strip(_Panel):
    """The panel of a number against time."""

    def prepare(self, labelled: bool) -> None:
        self.frame()
        style: dict[str, Any] = {"drawstyle": "steps-post", "solid_capstyle": "butt"}
        (self._line,) = self.axes.plot([], [], color=_LINE, linewidth=1.4, **style)
        (self._invalid,) = self.axes.plot([], [], color=_INVALID, linewidth=3, **style)
        self._gaps: list[Any] = []
        zone = datetime.now().astimezone().tzinfo
        locator = dates.AutoDateLocator(tz=zone, minticks=4, maxticks=9)
        self.axes.xaxis.set_major_locator(locator)
        formatter = dates.AutoDateFormatter(locator, tz=zone)
        formatter.scaled[1 / dates.HOURS_PER_DAY] = "%H:%M"
        formatter.scaled[1 / dates.MINUTES_PER_DAY] = "%H:%M"

        def to_hundredths(day: float, _place: int) -> str:
            return str(dates.num2date(day, zone).strftime("%H:%M:%S.%f")[:-4])

        # Parts of a second: by default the hour is missing, and there are six digits
        formatter.scaled[1 / dates.MUSECONDS_PER_DAY] = to_hundredths
        self.axes.xaxis.set_major_formatter(formatter)
        self.axes.tick_params(labelbottom=labelled)
        self._dated = labelled

    def update(self, since: float, now: float) -> None:
        super().update(since, now)
        curve = self.recording.curve(since, now)
        times = days(curve.times)
        self._line.set_data(times, curve.values)
        self._invalid.set_data(times, curve.invalid)
        for artist in self._gaps:
            artist.remove()
        self._gaps = [
            self.axes.axvspan(
                *days(gap), facecolor="#f3f4f6", edgecolor="#d1d5db", hatch="////", linewidth=0,
                zorder=1.5,
            )
            for gap in curve.gaps
        ]  # fmt: skip
        self.axes.set_xlim(*days((since, now)))
        if self._dated:
            day = datetime.fromtimestamp(now).strftime("%Y-%m-%d")
            self.axes.set_xlabel(day, fontsize=8, color=_GREY, labelpad=1)
        self.scale(curve.values)


class _Trace(_Panel):
    """The panel of an array against its index."""

    def prepare(self, labelled: bool) -> None:
        self.frame()
        (self._line,) = self.axes.plot([], [], color=_LINE, linewidth=1.2)
        self.axes.set_xlabel("element", fontsize=8, color=_GREY, labelpad=1)

    def update(self, since: float, now: float) -> None:
        super().update(since, now)
        value = self.recording.value
        if not self.recording.is_array or value.dtype.kind not in "iuf":
            return
        values = np.asarray(+value, float)
        self._line.set_data(np.arange(len(values)), values)
        invalid = self.recording.severity == 3
        self._line.set(
            color=_INVALID if invalid else _LINE,
            alpha=1.0 if self.recording.connected else 0.35,
            marker="." if len(values) <= 64 else "",
        )
        self.axes.set_xlim(0, max(1, len(values) - 1))
        self.scale(values)


def days(times: Any) -> Any:
    """Convert seconds of the Unix epoch to the times of matplotlib."""
    return dates.date2num((np.asarray(times, float) * 1e6).astype("datetime64[us]"))


def span(values: Any, properties: Any) -> tuple[float, float]:
    """Return the ends of a vertical axis: the display limits, widened to include all values."""
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if len(finite) else (math.inf, -math.inf)
    bottom = getattr(properties, "lower_disp_limit", math.nan)
    top = getattr(properties, "upper_disp_limit", math.nan)
    if -math.inf < bottom < top < math.inf:
        low, high = min(low, bottom), max(high, top)
    elif not len(finite):
        return -1.0, 1.0
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return float(low - margin), float(high + margin)


def ticks_of_states(values: Any, labels: int) -> tuple[float, float, list[int]]:
    """Return the ends of the axis of an enum, and the states to label on it.

    These are the states with labels, and states in the values. If the labels would overlap, they
    are only states in the values.
    """
    present = {int(state) for state in np.unique(values[np.isfinite(values)])}
    states = sorted({*range(labels), *present})
    low, high = states[0], states[-1]
    if high - low >= _MAX_STATE_TICKS:
        states = sorted(present)
        states = states[:: len(states) // _MAX_STATE_TICKS + 1]
    margin = max(0.5, 0.03 * (high - low))
    return low - margin, high + margin, states


def alarm_limits(properties: Any) -> dict[str, float]:
    """Return the alarm limits that are set, by name.

    A limit that is not set is NaN; of an integer PV, both limits of a pair are 0.
    """
    names = {
        "LOLO": "lower_alarm_limit", "LOW": "lower_warning_limit",
        "HIGH": "upper_warning_limit", "HIHI": "upper_alarm_limit",
    }  # fmt: skip
    found = {name: float(getattr(properties, field, math.nan)) for name, field in names.items()}
    for pair in (("LOLO", "LOW"), ("HIGH", "HIHI")):
        if all(found[name] == 0 for name in pair):
            found.update(dict.fromkeys(pair, math.nan))
    return {name: limit for name, limit in found.items() if math.isfinite(limit)}


def bands(limits: dict[str, float], bottom: float, top: float) -> list[tuple[float, float, str]]:
    """Return the lower end, upper end and colour of each band, cut at the ends of the axis."""
    lolo, low = limits.get("LOLO", -math.inf), limits.get("LOW", -math.inf)
    high, hihi = limits.get("HIGH", math.inf), limits.get("HIHI", math.inf)
    wanted = [
        (-math.inf, lolo, _MAJOR_BAND), (lolo, low, _MINOR_BAND),
        (high, hihi, _MINOR_BAND), (hihi, math.inf, _MAJOR_BAND),
    ]  # fmt: skip
    clipped = [(max(a, bottom), min(b, top), colour) for a, b, colour in wanted]
    return [(a, b, colour) for a, b, colour in clipped if a < b]


def _plain(text: str) -> str:
    """Escape the dollars in a text, with which matplotlib begins a formula."""
    return text.replace("$", r"\$")
