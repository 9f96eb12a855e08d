"""``aioca plot``: what is recorded, and what is drawn of it."""

from __future__ import annotations

import math
import re
import time
from types import SimpleNamespace
from typing import Any

import anyio
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from aioca import DBE_PROPERTY, FORMAT_CTRL, FORMAT_TIME, CANothing, caget, camonitor, caput, run
from aioca._cli.commands.plot import Recorder, Timed
from aioca._cli.live import figure as _figure
from aioca._cli.live.recording import Recording
from aioca.testing import SoftIoc

UNIT = True


def read(recording: Recording) -> None:
    """What its monitors would bring first."""
    recording.learn(run(caget(recording.name, format=FORMAT_CTRL, count=1)))
    recording.take(run(caget(recording.name, format=FORMAT_TIME)))


def chart(*recordings: Recording, seconds: float = 60.0) -> tuple[Figure, list[Any]]:
    """The panels drawn now; and drawn a second time, as in a window."""
    figure = Figure()
    whole = _figure.Chart(figure, recordings, seconds)
    whole.update(time.time())
    axes = list(figure.axes)
    whole.update(time.time())
    figure.canvas.draw()
    assert figure.axes == axes  # nothing was made anew
    return figure, axes


def colours_of_bands(axes: Any) -> dict[str, tuple[float, float]]:
    """From and to of each, by its colour."""
    found = {}
    for patch in axes.patches:
        if not patch.get_hatch():
            box = patch.get_extents().transformed(axes.transData.inverted())
            found[to_hex(patch.get_facecolor())] = (round(box.y0, 3), round(box.y1, 3))
    return found


# -- What is recorded ------------------------------------------------------------------------------


class Update(float):
    """A number as a monitor brings it."""

    severity = 0

    def __new__(cls, number: float, timestamp: float, severity: int = 0) -> Update:
        update = super().__new__(cls, number)
        update.timestamp = timestamp  # type: ignore[attr-defined]
        update.severity = severity
        return update


def strip() -> Recording:
    recording = Recording("PV")
    recording.kind = "strip"
    return recording


LOST = CANothing("PV", 192)


def test_times_are_those_of_the_ioc() -> None:
    now = time.time()
    recording = strip()
    for number, ago in enumerate([3.0, 2.0, 1.0]):
        recording.take(Update(number, now - ago))
    curve = recording.curve(now - 10, now)
    assert curve.times.tolist() == [now - 3, now - 2, now - 1, now]
    assert curve.values.tolist() == [0, 1, 2, 2]  # the last one holds


def test_times_that_cannot_be_are_those_of_arrival() -> None:
    """A record that was never processed, a clock that is wrong, and one that goes back."""
    begin = time.time()
    recording = strip()
    recording.take(Update(0, 631152000.0))  # since ever
    recording.take(Update(1, begin + 3600))
    recording.take(Update(2, begin - 3600))
    recording.take(Update(3, begin - 1))
    now = time.time()
    curve = recording.curve(begin - 10, now)
    assert curve.times[0] == begin - 10
    assert all(begin <= when <= now for when in curve.times[1:])
    assert sorted(curve.times) == curve.times.tolist()
    assert curve.values.tolist() == [0, 1, 2, 3, 3]


def test_what_is_older_is_forgotten_but_for_the_last() -> None:
    now = time.time()
    recording = strip()
    recording.take(Update(0, now - 4.9))
    for number in range(1, 50):
        recording.take(Update(number, now - 4.9 + number / 10))
    curve = recording.curve(now - 1.05, now)
    assert curve.times[0] == now - 1.05  # it has that value since before
    assert curve.values.tolist() == [*range(38, 50), 49]
    assert len(recording.curve(now - 10, now).times) == 13


def test_no_more_is_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aioca._cli.live.recording.Recording.max_updates", 100)
    now = time.time()
    recording = strip()
    for number in range(1000):
        recording.take(Update(number, now))
    values = recording.curve(now - 10, now).values
    assert 50 <= len(values) <= 101
    assert values[-1] == 999


def test_gaps() -> None:
    recording = strip()
    recording.take(Update(1, time.time()))
    recording.take(LOST)
    recording.take(LOST)
    lost = time.time()
    recording.take(Update(2, 1e9))  # what it became meanwhile, who knows when
    recording.take(Update(math.nan, time.time()))  # no number, but connected
    now = time.time()
    curve = recording.curve(now - 10, now)
    ((begin, end),) = curve.gaps
    assert now - 10 < begin <= lost <= end <= now
    assert curve.values[0] == 1
    assert 2 in curve.values.tolist()
    recording.take(LOST)
    later = time.time() + 1
    assert recording.curve(now - 10, later).gaps[1][1] == later  # still so


def test_invalid() -> None:
    now = time.time()
    recording = strip()
    for number, severity in enumerate([0, 3, 3, 1]):
        recording.take(Update(number, now, severity))
    curve = recording.curve(now - 10, now)
    assert np.isnan(curve.invalid).tolist() == [True, False, False, True, True]
    assert curve.invalid[1:3].tolist() == [1, 2]


@pytest.mark.anyio
async def test_nothing_is_lost_while_a_drawing_holds_the_loop(
    running: SoftIoc, unique: str
) -> None:
    recording = Recording(f"{unique}COUNT")
    recorder = Recorder([recording])
    async with (
        camonitor([recording.name], format=FORMAT_CTRL, events=DBE_PROPERTY) as properties,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(recorder.record, properties, tasks)
        while recording.value is None:
            await anyio.sleep(0.01)  # the recorder tells nobody of an update
        before = float(recording.value)
        time.sleep(1.5)  # the drawing
        while recording.value < before + 12:
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    now = time.time()
    curve = recording.curve(now - 60, now)
    assert set(np.diff(curve.values[:-1])) == {1.0}  # it counts, and each is there
    assert 0.05 < np.median(np.diff(curve.times[1:-1])) < 0.2  # when it was, not when it was taken
    assert recorder.dropped == 0


def test_kinds(running: SoftIoc, unique: str) -> None:
    kinds = {
        "T": "strip", "N": "strip", "MODE": "strip", "TEXT": "text", "WAVE": "trace",
        "T.DESC$": "text",
    }  # fmt: skip
    for name, kind in kinds.items():
        recording = Recording(unique + name)
        assert recording.kind is None
        read(recording)
        assert recording.kind == kind


# -- What is drawn ---------------------------------------------------------------------------------


def test_a_strip(running: SoftIoc, unique: str) -> None:
    recording = Recording(f"{unique}T")
    read(recording)
    run(caput(recording.name, 35.0, wait=True))
    recording.take(run(caget(recording.name, format=FORMAT_TIME)))
    _, (axes,) = chart(recording)
    line = axes.lines[0]
    assert line.get_ydata().tolist() == [21.5, 35.0, 35.0]
    assert line.get_drawstyle() == "steps-post"
    assert axes.get_title(loc="left") == recording.name
    assert axes.get_title(loc="right") == "35.00 degC   HIGH MINOR"
    assert axes.get_ylabel() == "degC"
    bottom, top = axes.get_ylim()
    assert bottom <= 0  # the display limits
    assert 50 <= top < 60
    begin, end = axes.get_xlim()
    assert end - begin == pytest.approx(60 / 86400, rel=1e-3)
    assert colours_of_bands(axes) == {
        _figure._MINOR_BAND: (30, 40),
        _figure._MAJOR_BAND: (40, round(top, 3)),
    }
    assert {text.get_text() for text in axes.texts} == {"HIGH", "HIHI"}


@pytest.mark.parametrize("seconds", [2, 60])
def test_the_times_have_hours(running: SoftIoc, unique: str, seconds: float) -> None:
    """Also where a plot shows parts of a second."""
    recording = Recording(f"{unique}T")
    read(recording)
    _, (axes,) = chart(recording, seconds=seconds)
    labels = [label.get_text() for label in axes.get_xticklabels() if label.get_text()]
    pattern = r"\d\d:\d\d:\d\d(\.\d\d)?" if seconds < 10 else r"\d\d:\d\d:\d\d"
    assert len(labels) >= 3
    assert all(re.fullmatch(pattern, label) for label in labels), labels


def test_limits_of_integers_that_are_not_set(running: SoftIoc, unique: str) -> None:
    recording = Recording(f"{unique}N")
    read(recording)
    _, (axes,) = chart(recording)
    assert {text.get_text() for text in axes.texts} <= {"LOW", "LOLO"}
    assert set(_figure.alarm_limits(recording.properties)) == {"LOW", "LOLO"}


def test_values_beyond_the_display_limits_are_seen(running: SoftIoc, unique: str) -> None:
    recording = Recording(f"{unique}T")
    read(recording)
    recording.take(Update(-70, time.time()))
    _, (axes,) = chart(recording)
    bottom, top = axes.get_ylim()
    assert bottom < -70 < 50 < top


def test_labels_of_an_enum(running: SoftIoc, unique: str) -> None:
    recording = Recording(f"{unique}MODE")
    read(recording)
    _, (axes,) = chart(recording)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Off", "On"]
    assert axes.get_title(loc="right") == "On"
    assert axes.lines[0].get_ydata().tolist() == [1, 1]


def test_states_beyond_the_labels(running: SoftIoc, unique: str) -> None:
    """They are on the axis, with what the server calls them, if that is known, or their number."""
    recording = Recording(f"{unique}UNDEFINED.STAT")
    read(recording)
    assert len(recording.labels) == 16 and recording.value == 17
    _, (axes,) = chart(recording)
    bottom, top = axes.get_ylim()
    assert bottom < 0 and 17 < top < 18
    texts = [text.get_text() for text in axes.get_yticklabels()]
    shown = dict(zip(axes.get_yticks(), texts, strict=True))
    assert sorted(shown) == [*range(16), 17]
    assert (shown[0], shown[15], shown[17]) == ("NO_ALARM", recording.labels[15], "17")
    recording.name_state(17, "UDF")
    _, (axes,) = chart(recording)
    assert axes.get_yticklabels()[-1].get_text() == axes.get_title(loc="right").split()[0] == "UDF"


def test_a_picture_has_what_the_server_calls_a_state(
    running: SoftIoc, unique: str, backend: str
) -> None:
    """Also one for which nothing but a first value is waited for."""
    recording = Recording(f"{unique}UNDEFINED.STAT")
    assert run(Timed([recording], 0).run(), backend=backend) == 0
    assert recording.text() == "UDF"


def test_a_state_without_a_label_is_its_number(running: SoftIoc, unique: str) -> None:
    recording = Recording(f"{unique}BARE")
    read(recording)
    _, (axes,) = chart(recording)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "1"]
    assert axes.get_title(loc="right").startswith("0")


@pytest.mark.parametrize(
    ("values", "labels", "bottom", "top", "states"),
    [
        ([0, 1], 2, -0.5, 1.5, [0, 1]),
        ([math.nan], 3, -0.5, 2.5, [0, 1, 2]),
        ([17, 17, 3], 16, -0.51, 17.51, [*range(16), 17]),
        ([1, 65535], 3, -1966.05, 67501.05, [1, 65535]),
        (list(range(1000)), 3, -29.97, 1028.97, list(range(0, 1000, 32))),
    ],
    ids=ascii,
)
def test_the_axis_of_an_enum(
    values: list[float], labels: int, bottom: float, top: float, states: list[int]
) -> None:
    found = _figure.ticks_of_states(np.array(values, float), labels)
    assert found == (pytest.approx(bottom), pytest.approx(top), states)


def test_gaps_are_hatched_and_go(running: SoftIoc, unique: str) -> None:
    recording = Recording(f"{unique}T")
    read(recording)
    recording.take(LOST)
    _, (axes,) = chart(recording)
    assert [patch.get_hatch() for patch in axes.patches].count("////") == 1
    assert "disconnected" in axes.get_title(loc="right")
    assert math.isnan(axes.lines[0].get_ydata()[-1])


def test_invalid_is_marked(running: SoftIoc, unique: str) -> None:
    recording = Recording(f"{unique}UNDEFINED")
    read(recording)
    _, (axes,) = chart(recording)
    assert axes.lines[1].get_color() == _figure._INVALID
    assert axes.lines[1].get_ydata().tolist() == [0, 0]
    assert "INVALID" in axes.get_title(loc="right")


def test_a_trace(running: SoftIoc, unique: str) -> None:
    recording = Recording(f"{unique}WAVE")
    read(recording)
    _, (axes,) = chart(recording)
    assert axes.lines[0].get_ydata().tolist() == [0, 1, 4, 9, 4, 1, 0]
    assert axes.lines[0].get_xdata().tolist() == [*range(7)]
    assert axes.get_ylabel() == "V"
    assert axes.get_xlim() == (0, 6)


def test_panels_are_made_for_what_pvs_turn_out_to_be(running: SoftIoc, unique: str) -> None:
    """Numbers, arrays, texts, and what is not known; a name with a dollar is no formula."""
    names = ["TEXT", "WAVE", "T", "T.DESC$"]
    recordings = [*(Recording(unique + name) for name in names), Recording("NOWHERE")]
    figure = Figure()
    whole = _figure.Chart(figure, recordings, 10.0)
    whole.update(time.time())
    assert len(figure.axes) == 5
    assert all(axes.get_title(loc="right") == "searching" for axes in figure.axes)
    for recording in recordings[:-1]:
        read(recording)
    whole.update(time.time())
    figure.canvas.draw()
    shown = [axes.get_title(loc="left").removeprefix(unique) for axes in figure.axes]
    assert shown == ["T", "WAVE", "TEXT", r"T.DESC\$", "NOWHERE"]
    assert figure.axes[2].get_title(loc="right") == "hello"


@pytest.mark.parametrize(
    ("values", "limits", "ends"),
    [
        ([], None, (-1, 1)),
        ([math.nan], None, (-1, 1)),
        ([0], None, (-1, 1)),
        ([10], None, (9.5, 10.5)),
        ([0, 100], None, (-6, 106)),
        ([5], (0, 100), (-6, 106)),
        ([], (0, 100), (-6, 106)),
        ([-100], (0, 100), (-112, 112)),
        ([0, 100], (0, 0), (-6, 106)),
        ([0, 100], (math.nan, math.nan), (-6, 106)),
    ],
)
def test_span(
    values: list[float], limits: tuple[float, float] | None, ends: tuple[float, float]
) -> None:
    names = ("lower_disp_limit", "upper_disp_limit")
    properties = SimpleNamespace(**dict(zip(names, limits or (), strict=False)))
    assert _figure.span(np.array(values, float), properties) == pytest.approx(ends)


def test_bands_where_only_one_limit_is_set() -> None:
    minor, major = _figure._MINOR_BAND, _figure._MAJOR_BAND
    assert _figure.bands({}, 0, 10) == []
    assert _figure.bands({"HIGH": 7}, 0, 10) == [(7, 10, minor)]
    assert _figure.bands({"HIHI": 7}, 0, 10) == [(7, 10, major)]
    assert _figure.bands({"LOLO": 1, "LOW": 2}, 0, 10) == [(0, 1, major), (1, 2, minor)]
    assert _figure.bands({"LOW": 20}, 0, 10) == [(0, 10, minor)]
    assert _figure.bands({"HIGH": 20}, 0, 10) == []
