"""``aioca plot`` of recordings: what is drawn of a file, and what is said of it."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from aioca._cli.live.figure import Chart
from aioca._cli.recording import reading
from aioca._cli.recording.reading import read_recording
from aioca._cli.shared import BadInputError
from aioca.testing import SoftIoc
from tests.support.commands import run_cli
from tests.support.recordings import READERS, read

UNIT = True

pytest.importorskip("h5py", reason="needs the extra record")
pytest.importorskip("pyarrow.parquet", reason="needs the extra record")

MakeIoc = Callable[..., SoftIoc]
ENDINGS = list(READERS)
SECOND = 10**9  # nanoseconds


def counter(pv: str, fields: str = "") -> str:
    return f'record(calc, "{pv}") {{ field(SCAN, ".1 second") field(CALC, "VAL+1") {fields} }}\n'


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_recording_is_plotted(
    own_ioc: MakeIoc, unique: str, backend: str, tmp_path: Path, ending: str
) -> None:
    """The picture has every recorded value, and only the PVs that are named."""
    file, picture = tmp_path / f"a{ending}", tmp_path / "a.svg"
    pvs = [f"{unique}C0", f"{unique}W", f"{unique}S"]
    with own_ioc(
        counter(pvs[0])
        + f'record(waveform, "{pvs[1]}") {{ field(FTVL, "LONG") field(NELM, "9") field(INP, [7]) }}'
        + f'record(stringin, "{pvs[2]}") {{ field(VAL, "hello") field(PINI, "YES") }}'
    ):
        done = run_cli("record", *pvs, "-o", str(file), "--for", "2s", "--backend", backend)
    assert (done.returncode, done.stderr) == (0, "")
    count = sum((row["pv"], row["event"]) == (pvs[0], "value") for row in read(file))
    done = run_cli("plot", str(file), "-o", str(picture))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    content = picture.read_text()
    steps = max(path.count("L") for path in re.findall(r'<path d="([^"]*)" clip-path', content))
    assert steps >= 2 * (count - 2)  # two points for each value; the ends are on the frame
    assert content.count('<g id="axes_') == 3

    done = run_cli("plot", str(file), pvs[2], "-o", str(picture))
    assert (done.returncode, done.stderr) == (0, "")
    assert picture.read_text().count('<g id="axes_') == 1


def recorded(path: Path, lines: list[str]) -> Path:
    path.write_text("timestamp_ns,pv,event,severity,status,type,count,value\n" + "\n".join(lines))
    return path


def test_gaps_in_a_recording(tmp_path: Path) -> None:
    """A first value counts from its connection on; a line that was cut off is left out."""
    file = recorded(
        tmp_path / "a.csv",
        [
            f"{1000 * SECOND},X,connected,,,,,",
            f"{5 * SECOND},X,value,0,0,DOUBLE,,1.5",
            f"{1002 * SECOND},X,value,3,17,DOUBLE,,2.5",
            f"{1003 * SECOND},X,disconnected,,,,,",
            f"{1006 * SECOND},X,connected,,,,,",
            f"{1002 * SECOND},X,value,0,0,DOUBLE,,2.5",
            f"{1007 * SECOND},X,lost,,,,,3",
            f"{1008 * SECOND},X,value,0,0,DOUBLE,,9",
        ],
    )
    (pv,), begin, end = read_recording(file, [])
    assert (begin, end) == (1000.0, 1007.0)
    curve = pv.curve(1000.0, 1006.5)
    assert curve.times.tolist() == [1000, 1002, 1003, 1006, 1006.5]
    assert curve.values[[0, 1, 3]].tolist() == [1.5, 2.5, 2.5]
    assert curve.gaps == [(1003.0, 1006.0)]
    assert math.isnan(curve.invalid[0]) and curve.invalid[1] == 2.5
    assert (pv.connected, pv.text()) == (True, "2.5")


def seconds(days: Any) -> list[float]:
    """Times of an axis, which has them in days, as seconds."""
    return [round(day * 86400, 2) for day in days]


def hatched(axes: Any) -> list[tuple[float, float]]:
    """From and to of each hatched area, in seconds."""
    boxes = [patch.get_extents().transformed(axes.transData.inverted()) for patch in axes.patches]
    return [(round(box.x0 * 86400, 2), round(box.x1 * 86400, 2)) for box in boxes]


def drawn(path: Path, *names: str) -> tuple[list[Any], list[str]]:
    """The axes of the figure that `aioca plot` makes of a recording, and what it says."""
    pvs, begin, end = read_recording(path, names)
    figure = Figure()
    Chart(figure, pvs, end - begin).update(end)
    figure.canvas.draw()
    return figure.axes, [remark for pv in pvs for remark in pv.remarks]


def test_the_time_is_that_of_all_pvs(tmp_path: Path) -> None:
    """A PV that did not change is a line, and a lost one is hatched, to the end."""
    file = recorded(
        tmp_path / "a.csv",
        [
            f"{1000 * SECOND},SAME,connected,,,,,",
            f"{5 * SECOND},SAME,value,0,0,DOUBLE,,1.5",
            f"{1001 * SECOND},LOST,connected,,,,,",
            f"{1001 * SECOND},LOST,value,0,0,DOUBLE,,7",
            f"{1004 * SECOND},LOST,disconnected,,,,,",
            f"{1000 * SECOND},OTHER,connected,,,,,",
            f"{1001 * SECOND},OTHER,value,0,0,DOUBLE,,1",
            f"{1010 * SECOND},OTHER,value,0,0,DOUBLE,,2\n",
        ],
    )
    (same, lost), remarks = drawn(file, "SAME", "LOST")
    assert seconds(same.get_xlim()) == [1000, 1010]
    assert same.lines[0].get_ydata().tolist() == [1.5, 1.5]
    assert seconds(same.lines[0].get_xdata()) == [1000, 1010]
    assert hatched(lost) == [(1004, 1010)]
    assert remarks == []


def test_only_pvs_that_do_not_change(tmp_path: Path) -> None:
    """The file does not say when it ended; the line is drawn all the same."""
    lines = ["1000000000000,X,connected,,,,,", "5,X,value,0,0,DOUBLE,,1.5\n"]
    ((axes,), remarks) = drawn(recorded(tmp_path / "a.csv", lines))
    assert seconds(axes.lines[0].get_xdata()) == [1000, 1001]
    assert remarks == []


def test_times_before_the_first_value_are_hatched(tmp_path: Path) -> None:
    file = recorded(
        tmp_path / "a.csv",
        [
            f"{1000 * SECOND},X,connected,,,,,",
            f"{5 * SECOND},X,value,0,0,DOUBLE,,1.5",
            f"{1005 * SECOND},LATE,disconnected,,,,,",
            f"{1006 * SECOND},BROKEN,connected,,,,,",
            f"{1007 * SECOND},BROKEN,disconnected,,,,,",
            f"{1008 * SECOND},LATE,connected,,,,,",
            f"{4 * SECOND},LATE,value,0,0,DOUBLE,,7",
            f"{1009 * SECOND},BROKEN,connected,,,,,",
            f"{1009 * SECOND},BROKEN,value,0,0,DOUBLE,,7",
            f"{1010 * SECOND},LATE,value,0,0,DOUBLE,,8\n",
        ],
    )
    (_, late, broken), _ = drawn(file)
    assert hatched(late) == [(1000, 1008)]  # it was not found since the recording began
    assert hatched(broken) == [(1007, 1009)]


NUMBER, TEXT, ARRAY, TEXTS = "0,0,DOUBLE,,1.5", "0,0,STRING,,on", '0,0,LONG,3,"[4, 5, 6]"', (
    '0,0,STRING,2,"[""x"", ""y""]"'
)  # fmt: skip


@pytest.mark.parametrize(
    ("values", "curve", "title", "said"),
    [
        ([TEXT, NUMBER], [math.nan, 1.5, 1.5], "1.5", "1 text"),
        ([NUMBER, TEXT, TEXT, NUMBER], [1.5, math.nan, math.nan, 1.5, 1.5], "1.5", "2 texts"),
        ([NUMBER, ARRAY], [1.5, math.nan, math.nan], "[3]", "1 array"),
        ([ARRAY, NUMBER, TEXT], [math.nan, 1.5, math.nan, math.nan], "on", "1 text, 1 array"),
        ([ARRAY, TEXT], [4, 5, 6], "on", "1 text"),
        ([TEXT, ARRAY], [4, 5, 6], "[3]", "1 text"),
        ([TEXTS], None, '["x", "y"]', None),
    ],
)
def test_a_pv_that_changes_its_kind(
    values: list[str], curve: list[float] | None, title: str, said: str | None, tmp_path: Path
) -> None:
    """What can be drawn in one panel is drawn, and the rest is named."""
    lines = ["1000000000000,X,connected,,,,,"]
    for number, value in enumerate(values):
        lines.append(f"{(1000 + number) * SECOND},X,value,{value}")
    ((axes,), remarks) = drawn(recorded(tmp_path / "a.csv", [*lines, ""]))
    assert axes.get_title(loc="right") == title
    assert axes.axison == (curve is not None)
    if curve is not None:
        assert axes.lines[0].get_ydata().tolist() == pytest.approx(curve, nan_ok=True)
    expected = [] if said is None else [f"X: it changed its type; not drawn: {said}"]
    assert remarks == expected


@pytest.mark.parametrize("ending", ENDINGS)
def test_strings_as_an_array_have_no_axis(
    own_ioc: MakeIoc, unique: str, tmp_path: Path, ending: str
) -> None:
    file = tmp_path / f"a{ending}"
    with own_ioc(
        f'record(waveform, "{unique}T") {{ field(FTVL, "STRING") field(NELM, "3")'
        ' field(PINI, "YES") field(INP, ["x", "y z"]) }'
    ):
        assert run_cli("record", f"{unique}T", "-o", str(file), "--for", "1s").returncode == 0
    ((axes,), remarks) = drawn(file)
    assert (axes.axison, axes.get_title(loc="right")) == (False, '["x", "y z"]')
    assert remarks == []


def test_time_stamps_of_an_ioc_without_a_time(
    own_ioc: MakeIoc, unique: str, tmp_path: Path
) -> None:
    """They are recorded as they are, and plot names the PV; the other one is drawn as usual."""
    file, picture = tmp_path / "a.csv", tmp_path / "a.png"
    pvs = [f"{unique}NOTIME", f"{unique}C0"]
    with own_ioc(counter(pvs[0], 'field(TSE, "-2")') + counter(pvs[1])):
        done = run_cli("record", *pvs, "-o", str(file), "--for", "2s")
        assert (done.returncode, done.stderr) == (0, "")
    stamps = [row["timestamp_ns"] for row in read(file) if row["pv"] == pvs[0]][1:]
    assert len(stamps) > 5
    assert set(stamps) == {631152000 * SECOND}
    done = run_cli("plot", str(file), "-o", str(picture))
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == (
        f"aioca plot: {pvs[0]}: {len(stamps) - 1} of its time stamps are unusable (its server had"
        " no time, or a wrong one), so these values are drawn at a wrong time\n"
    )
    assert picture.exists()
    _, begin, end = read_recording(file, [pvs[0]])
    assert 1 < end - begin < 10


@pytest.mark.parametrize("first", [["1000000000000,X,connected,,,,,"], []])
def test_time_stamps_before_the_connection(first: list[str], tmp_path: Path) -> None:
    """A first value may be old; a later one cannot be older than the connection."""
    lines = [f"{stamp},X,value,{NUMBER}" for stamp in (5, 6, 999 * SECOND, 1001 * SECOND)]
    file = recorded(tmp_path / "a.csv", [*first, *lines, ""])
    (pv,), begin, end = read_recording(file, [])
    assert pv.clock.unusable == (1 if first else 3)
    if first:
        assert (begin, end) == (1000, 1001)


def test_a_long_array_in_csv(tmp_path: Path) -> None:
    """It is read, and the limit of csv is as before; a cell beyond any limit is an error."""
    before = csv.field_size_limit()
    elements = list(range(100_000))
    line = f'1,X,value,0,0,LONG,100000,"{elements}"'
    assert len(line) > before
    file = recorded(tmp_path / "a.csv", [line, line, ""])
    (pv,) = read_recording(file, []).pvs
    assert pv.value.tolist() == elements
    assert csv.field_size_limit() == before


def test_a_cell_that_csv_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_LONGEST_CELL", 50)
    file = recorded(tmp_path / "a.csv", [f"1,X,value,0,0,STRING,,{'long' * 20}", ""])
    before = csv.field_size_limit()
    with pytest.raises(BadInputError, match="it is no recording, or damaged"):
        read_recording(file, [])
    assert csv.field_size_limit() == before


@pytest.mark.process
@pytest.mark.parametrize(
    ("name", "content", "arguments", "said"),
    [
        ("a.csv", None, [], "there is no such file"),
        ("a.csv", "hello\n1\n", [], "it is no recording, or damaged (its first line is not"),
        ("a.parquet", "PAR1", [], "it is no recording, or damaged"),
        ("a.h5", "hello", [], "it is no recording, or damaged"),
        ("b.csv", "1,X,value,0,0,LONG,,1", ["Y", "Z"], "it does not have Y, Z"),
        ("b.csv", "1,X,value,0,0,LONG,,1", [__file__], "; one recording at a time"),
        ("b.csv", "1,X,connected,,,,,", [], "it has no value"),
        ("b.csv", "1,X,value,0,0,LONG,,one\n", [], "it is no recording, or damaged (could not"),
        ("b.csv", "\n".join(f"1,X{i},value,0,0,LONG,,1" for i in range(30)), [], "more than 20"),
    ],
)
def test_no_recording_to_plot(
    name: str, content: str | None, arguments: list[str], said: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    if name == "b.csv":
        recorded(file, [f"{content}\n"])
    elif content is not None:
        file.write_text(content)
    done = run_cli("plot", str(file), *arguments, "-o", str(tmp_path / "a.png"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"aioca plot: {file}: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "a.png").exists()
