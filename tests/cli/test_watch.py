"""``aioca watch``, in a real terminal against soft IOCs."""

from __future__ import annotations

import logging
import math
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import anyio
import numpy as np
import pytest
from rich.console import Console

from aioca import caput, run
from aioca._cli.commands.watch import _Log
from aioca._cli.live import history
from aioca._cli.live.labels import name_states
from aioca._cli.live.pv_state import PVState
from aioca._cli.live.table import Painter, Row, View, fit, widths
from aioca._display.text import all_digits, number_text
from aioca.testing import SoftIoc
from tests.support.commands import run_cli
from tests.support.screen import (
    CTRL_C,
    CTRL_Z,
    DOWN,
    END,
    HOME,
    PAGE_DOWN,
    PAGE_UP,
    TERM,
    UP,
    Shown,
    shown,
)

UNIT = True

RECORDS = """
record(ao, "$(P)T") {
    field(VAL, "21.5") field(EGU, "degC") field(PREC, "2") field(PINI, "YES")
    field(HIGH, "30") field(HSV, "MINOR") field(HIHI, "40") field(HHSV, "MAJOR")
}
record(mbbo, "$(P)MODE") { field(ZRST, "Off") field(ONST, "Manual") field(VAL, "1") field(PINI, "YES") }
record(bo, "$(P)BARE") {}
record(stringout, "$(P)TEXT") { field(VAL, "hello") field(PINI, "YES") }
record(lsi, "$(P)LONG") { field(SIZV, "200") }
record(waveform, "$(P)WAVE") {
    field(FTVL, "DOUBLE") field(NELM, "8") field(INP, [0, 1, 4, 9, 4, 1, 0]) field(EGU, "V") field(PREC, "1")
}
record(waveform, "$(P)CHARS") { field(FTVL, "UCHAR") field(NELM, "80") }
record(ai, "$(P)UNDEFINED") {}
record(calc, "$(P)COUNT") { field(SCAN, ".1 second") field(INPA, "$(P)COUNT") field(CALC, "A+1") }
"""  # noqa: E501

MANY = "".join(f'record(longout, "$(P){n:03}") {{ field(VAL, "{n}") }}\n' for n in range(300))


@pytest.fixture(autouse=True)
def terminal_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", TERM)
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def running(own_ioc: Callable[..., SoftIoc], unique: str) -> Iterator[SoftIoc]:
    ioc = own_ioc(RECORDS, {"P": unique})
    ioc.start()
    yield ioc


@pytest.fixture
def many(own_ioc: Callable[..., SoftIoc], unique: str) -> list[str]:
    """300 PVs."""
    own_ioc(MANY, {"P": unique}).start()
    return [f"{unique}{n:03}" for n in range(300)]


# -- Values ----------------------------------------------------------------------------------------


def test_values_as_people_read_them(running: SoftIoc, unique: str, backend: str) -> None:
    """Precision and units, labels, long strings, arrays by count and range; and their changes."""
    names = ["T", "MODE", "TEXT", "LONG.VAL$", "WAVE", "UNDEFINED"]
    long = "a string of more than forty characters, whole"
    run(caput(f"{unique}LONG.VAL$", long, datatype=str, wait=True))
    arguments = ["watch", "--backend", backend, *(unique + name for name in names)]
    with shown(*arguments, columns=160) as screen:
        screen.until_row(f"{unique}T", " 21.50 ", "degC", "no alarm")
        screen.until_row(f"{unique}MODE", "Manual", "no alarm")
        screen.until_row(f"{unique}TEXT", "hello")
        screen.until_row(f"{unique}LONG.VAL$", "a string of more than forty")
        screen.until_row(f"{unique}WAVE", "[7] 0.0 to 9.0", "V", "▁▂▄█▄▂▁")
        screen.until_row(f"{unique}UNDEFINED", "UDF INVALID", "never")
        assert screen.names() == [unique + name for name in names]  # as they were given
        running.command(f"dbpf {unique}T 22.257")
        running.command(f"dbpf {unique}MODE Off")
        running.command(f"dbpf {unique}TEXT changed")
        screen.until_row(f"{unique}T", " 22.26 ", time.strftime("%H:"))
        screen.until_row(f"{unique}MODE", " Off ")
        screen.until_row(f"{unique}TEXT", "changed")


def test_without_a_precision_no_digit_is_lost(
    own_ioc: Callable[..., SoftIoc], unique: str, backend: str
) -> None:
    """0 is what PREC is where nobody has set it."""
    database = (
        'record(ao, "$(P)A") { field(VAL, "0.45") field(PINI, "YES") }\n'
        'record(int64out, "$(P)I") { field(VAL, "9007199254740993") field(PINI, "YES") }\n'
        'record(waveform, "$(P)F") { field(FTVL, "FLOAT") field(NELM, "2") field(INP, [0.1, 2]) }\n'
        'record(waveform, "$(P)W") { field(FTVL, "DOUBLE") field(NELM, "8")'
        " field(INP, [0.25, 0.75, 0.5, 0.123456789]) }"
    )
    own_ioc(database, {"P": unique}).start()
    names = [unique + name for name in "AIFW"]
    with shown("watch", "--backend", backend, *names, columns=160) as screen:
        screen.until_row(names[0], " 0.45 ", "no alarm")
        screen.until_row(names[1], " 9007199254740992 ", "no alarm")  # it comes as a double
        screen.until_row(names[2], " [2] 0.1 2 ")
        screen.until_row(names[3], " [4] 0.123457 to 0.75 ")  # as notebooks have it


def test_severities_have_colours(running: SoftIoc, unique: str, backend: str) -> None:
    name = f"{unique}T"
    with shown("watch", "--backend", backend, name) as screen:
        screen.until_row(name, "no alarm")
        assert screen.colour(name, "21.50") == "green"
        running.command(f"dbpf {name} 35")
        screen.until_row(name, "HIGH MINOR")
        assert (
            screen.colour(name, "35.00") == screen.colour(name, "HIGH") == "brown"
        )  # pyte's yellow
        running.command(f"dbpf {name} 45")
        screen.until_row(name, "HIHI MAJOR")
        assert screen.colour(name, "45.00") == screen.colour(name, "HIHI") == "red"
        screen.until_seen("1 MAJOR")


def test_no_colour_where_none_is_wanted(
    running: SoftIoc, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    running.command(f"dbpf {unique}T 45")
    with shown("watch", f"{unique}T") as screen:
        screen.until_row(f"{unique}T", "HIHI MAJOR")
        assert screen.colour(f"{unique}T", "HIHI") == "default"


def test_properties_that_change_are_followed(running: SoftIoc, unique: str, backend: str) -> None:
    name = f"{unique}T"
    with shown("watch", "--backend", backend, name) as screen:
        screen.until_row(name, " 21.50 ", "degC")
        running.command(f"dbpf {name}.EGU K")
        screen.until_row(name, " K ")
        running.command(f"dbpf {name}.PREC 4")
        screen.until_row(name, " 21.5000 ")


def test_rate_and_sparkline(running: SoftIoc, unique: str, backend: str) -> None:
    name = f"{unique}COUNT"
    with shown("watch", "--backend", backend, name) as screen:
        screen.until(lambda: re.search(r" (8|9|10|11|12)\.\d ", screen.row(name)))
        screen.until(lambda: len(re.sub("[^▁▂▃▄▅▆▇█]", "", screen.row(name))) >= 3)
        bars = re.sub("[^▁▂▃▄▅▆▇█]", "", screen.row(name))
        assert bars == "".join(sorted(bars))  # it counts up
        assert bars[0] != bars[-1]


def test_nothing_from_a_server_is_a_command_for_the_terminal(
    running: SoftIoc, unique: str, backend: str
) -> None:
    run(caput(f"{unique}TEXT", "\x1b]0;title\x07\x1b[31mred", wait=True))
    run(caput(f"{unique}T.EGU", "\x1b[2J", wait=True))
    with shown("watch", "--backend", backend, f"{unique}TEXT", f"{unique}T") as screen:
        screen.until_row(f"{unique}TEXT", "red")
        screen.until_row(f"{unique}T", "[2J")
        assert "\x1b]0;" not in screen.output.text
        assert "\x1b[31mred" not in screen.output.text
        assert "\x1b[2J" not in screen.output.text.replace("\x1b[?7l\x1b[2J", "")


def test_nor_is_the_name_of_a_pv(running: SoftIoc, unique: str, backend: str) -> None:
    with shown("watch", "--backend", backend, f"{unique}\x1b[31mT", f"{unique}T") as screen:
        screen.until_row(f"{unique}T", "21.50")
        screen.until_row(rf"{unique}\x1b[31mT", "searching")
        assert f"{unique}\x1b[31mT" not in screen.output.text


def test_states_without_a_label(running: SoftIoc, unique: str, backend: str) -> None:
    """One beyond the labels that Channel Access carries is what caget calls it; an empty label is
    its number."""
    stat, bare, mode = (f"{unique}{name}" for name in ("UNDEFINED.STAT", "BARE", "MODE"))
    assert run_cli("caget", "-w", "15", "-t", stat).stdout == "UDF\n"
    with shown("watch", "--backend", backend, stat, bare, mode) as screen:
        screen.until_row(stat, " UDF ")
        screen.until_row(bare, " 0 ")
        running.command(f"dbpf {bare} 1")
        run(caput(mode, 7, wait=True))  # which has no label
        screen.until_row(bare, " 1 ")
        screen.until_row(mode, " 7 ")


@pytest.mark.process
def test_a_state_that_cannot_be_named_is_asked_for_once(
    unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aioca._cli.live.labels._REPLY_SECONDS", 0.05)
    state = PVState(f"{unique}NOWHERE")
    state.properties = SimpleNamespace(enums=["a", "b"])
    state.value = 17
    asked: list[int] = []

    async def main() -> None:
        async with anyio.create_task_group() as tasks:

            def changed() -> None:
                asked.append(1)
                tasks.cancel_scope.cancel()

            with anyio.fail_after(30):
                await name_states(lambda: [state], changed)

    assert state.unlabelled == 17
    run(main())
    assert asked == [1]
    assert state.unlabelled is None
    assert state.state_text(17) == "17"
    state.learn(SimpleNamespace(enums=["a", "b"]))  # connected anew: it may be known by now
    assert state.unlabelled == 17


def test_arrays_of_char_as_strings(running: SoftIoc, unique: str, backend: str) -> None:
    name = f"{unique}CHARS"
    run(caput(name, list(b"letters"), wait=True))
    with shown("watch", "--backend", backend, name) as screen:
        screen.until_row(name, "[7] 101 to 116")
    with shown("watch", "--backend", backend, "-S", name) as screen:
        screen.until_row(name, " letters ")


# -- Connections -----------------------------------------------------------------------------------


def test_disconnection_and_return(running: SoftIoc, unique: str, backend: str) -> None:
    name, nowhere = f"{unique}T", f"{unique}NOWHERE"
    with shown("watch", "--backend", backend, name, nowhere) as screen:
        screen.until_row(name, " 21.50 ", "no alarm")
        screen.until_row(nowhere, "searching")
        screen.until_seen("1 not connected")
        running.kill()
        screen.until_row(name, " 21.50 ", "disconnected")  # what is known of it, and that it is old
        assert screen.colour(name, "disconnected") == "reverse magenta"
        screen.until_seen("2 not connected")
        running.database = RECORDS.replace('"21.5"', '"23.25"').replace("degC", "K")
        running.start()
        screen.until_row(name, " 23.25 ", " K ", "no alarm")
        screen.until_seen("1 not connected")
        screen.type("q")
        assert screen.ended() == 0


# -- More rows than lines --------------------------------------------------------------------------


def test_scrolling(many: list[str], backend: str) -> None:
    with shown("watch", "--backend", backend, *many, lines=24) as screen:
        screen.until(lambda: screen.names() == many[:21])
        screen.until_seen("1-21 of 300", "300 PVs")
        for keys, top in [
            (DOWN, 1), (DOWN + DOWN, 3), (UP, 2), (PAGE_DOWN, 23), (PAGE_UP, 2), (END, 279),
            (PAGE_DOWN, 279), (UP, 278), (HOME, 0), (UP, 0), (" ", 21), ("k", 20), ("j", 21),
            ("G", 279),
        ]:  # fmt: skip
            screen.type(keys)
            screen.until(lambda top=top: screen.names() == many[top : top + 21])  # type: ignore[misc]
            screen.until_seen(f"{top + 1}-{top + 21} of 300")
        for name, number in zip(many[279:], range(279, 300), strict=True):
            screen.until_row(name, f" {number} ")


def test_a_key_that_comes_in_pieces(many: list[str], backend: str) -> None:
    with shown("watch", "--backend", backend, *many) as screen:
        screen.until(lambda: screen.names() == many[:21])
        screen.type("\x1b[")
        screen.type("6")
        screen.type("~")
        screen.until(lambda: screen.names() == many[21:42])


def test_resize(many: list[str], backend: str) -> None:
    with shown("watch", "--backend", backend, *many, columns=120, lines=24) as screen:
        screen.until(lambda: screen.names() == many[:21])
        screen.until_seen("last ")
        screen.type(END)
        screen.until(lambda: screen.names() == many[279:])
        screen.resize(120, 50)
        screen.until(lambda: screen.names() == many[253:])  # the last ones stay in sight
        screen.type(HOME)
        screen.until(lambda: screen.names() == many[:47])
        screen.resize(60, 10)
        screen.until(lambda: screen.names() == many[:7])
        assert not any("last " in line for line in screen.lines)  # for that it is too narrow
        screen.until_seen("1-7 of 300")
        screen.resize(9, 2)
        screen.resize(1, 1)
        screen.resize(100, 24)
        screen.until(lambda: screen.names() == many[:21])


def test_sorted(running: SoftIoc, unique: str, backend: str) -> None:
    names = [unique + name for name in ("TEXT", "T", "COUNT", "NOWHERE", "UNDEFINED")]
    text, t, count, nowhere, undefined = names
    running.command(f"dbpf {t} 35")
    with shown("watch", "--backend", backend, *names, "--sort", "alarm") as screen:
        screen.until(lambda: screen.names() == [nowhere, undefined, t, text, count])
        screen.type("s")
        screen.until(lambda: screen.names() and screen.names()[0] == count)
        screen.until_seen("s sort: rate")
        screen.type("s")
        screen.until(lambda: screen.names() == names)
        screen.type("s")
        screen.until(lambda: screen.names() == sorted(names))


def test_a_flood_is_drawn_ten_times_a_second(running: SoftIoc, unique: str, backend: str) -> None:
    """And all of it is counted."""
    name = f"{unique}T"
    with shown("watch", "--backend", backend, name) as screen:
        screen.until_row(name, "21.50")
        begin, drawn = time.monotonic(), screen.output.text.count("\x1b[3;1H")
        sent = 0
        while time.monotonic() - begin < 3.0 or sent < 150:  # far more than are drawn
            sent += 1
            running.command(f"dbpf {name} {sent % 25}")
        per_second = sent / (time.monotonic() - begin)  # fewer on a busy machine

        def rate() -> float:
            found = re.search(r"\.\d{3} +(\d+\.\d) ", screen.row(name))
            return float(found[1]) if found else 0.0

        screen.until(lambda: rate() > min(40, per_second / 2))
        took = time.monotonic() - begin
        drawn = screen.output.text.count("\x1b[3;1H") - drawn
        assert 5 <= drawn <= 10 * took + 1


def test_a_terminal_that_is_not_read_for_a_while(
    running: SoftIoc, unique: str, backend: str
) -> None:
    """It is written to no more, and no less than before when it is read again."""
    names = [f"{unique}COUNT", *(f"{unique}COUNT.{field}" for field in ("A", "VAL", "LA"))]
    with shown("watch", "--backend", backend, *names) as screen:
        screen.until_row(names[0], "no alarm")
        unread, stopped = 0, 0
        give_up = time.monotonic() + 60
        while (
            stopped < 30 and time.monotonic() < give_up
        ):  # the kernel tells nobody that it is full
            before, unread = unread, screen.unread()
            stopped = stopped + 1 if before == unread else 0
            time.sleep(0.1)
        assert stopped == 30  # three seconds, in which there were updates
        begin = time.strftime("%H:%M:%S")
        screen.until(lambda: re.findall(r"\d\d:\d\d:\d\d", screen.lines[0])[-1:] > [begin], 10)
        running.command(f"dbpf {names[0]} 1000")
        screen.until_row(names[0], " 10", "no alarm")
        screen.type("q")
        assert screen.ended() == 0
        assert screen.restored()


# -- The end ---------------------------------------------------------------------------------------


def begun(screen: Shown, name: str) -> None:
    screen.until_row(name, "21.50")
    assert screen.taken()
    assert not screen.cursor_shown
    assert not screen.echoes()


@pytest.mark.parametrize(
    ("how", "status"), [("q", 0), (CTRL_C, 130), (signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_the_terminal_is_given_back(
    running: SoftIoc, unique: str, backend: str, how: str | signal.Signals, status: int
) -> None:
    with shown("watch", "--backend", backend, f"{unique}T") as screen:
        begun(screen, f"{unique}T")
        if isinstance(how, str):
            screen.type(how)
        else:
            screen.process.send_signal(how)
        assert screen.ended() == status
        assert screen.restored()
        assert "Traceback" not in screen.output.text


def test_it_ends_after_its_time(running: SoftIoc, unique: str, backend: str) -> None:
    with shown("watch", "--backend", backend, f"{unique}T", "--seconds", "2") as screen:
        begun(screen, f"{unique}T")
        assert screen.ended() == 0
        assert screen.restored()


def test_suspended_and_continued(running: SoftIoc, unique: str, backend: str) -> None:
    name = f"{unique}T"
    with shown("watch", "--backend", backend, name) as screen:
        begun(screen, name)
        screen.type(CTRL_Z)
        screen.until(lambda: not screen.taken())
        stat = Path(f"/proc/{screen.process.pid}/stat")
        give_up = time.monotonic() + 10
        while stat.read_text().rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < give_up
            time.sleep(0.01)  # that a process has been stopped is no event for us
        assert screen.restored()
        running.command(f"dbpf {name} 23")
        screen.process.send_signal(signal.SIGCONT)
        screen.until_row(name, " 23.00 ")
        assert screen.taken()
        assert not screen.echoes()
        screen.type("q")
        assert screen.ended() == 0
        assert screen.restored()


# -- No terminal -----------------------------------------------------------------------------------


@pytest.mark.process
def test_a_pipe_is_no_terminal() -> None:
    done = run_cli("watch", "X")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "not a terminal" in done.stderr
    assert "`aioca camonitor`" in done.stderr


@pytest.mark.process
def test_a_terminal_that_can_do_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with shown("watch", "X") as screen:
        assert screen.ended() == 1
        assert "`aioca camonitor`" in screen.output.text
        assert "\x1b" not in screen.output.text


@pytest.mark.process
@pytest.mark.parametrize(("arguments", "said"), [(["X", ""], ""), (["X" * 5000], "X")])
def test_names_that_cannot_be_searched_for(arguments: list[str], said: str, backend: str) -> None:
    with shown("watch", "--backend", backend, *arguments) as screen:
        assert screen.ended() == 1
        assert "Traceback" not in screen.output.text
        assert screen.output.text.startswith("aioca")
        assert said in screen.output.text


@pytest.mark.process
def test_no_pv() -> None:
    done = run_cli("watch")
    assert (done.returncode, done.stdout) == (2, "")
    assert "PV" in done.stderr


@pytest.mark.process
@pytest.mark.parametrize(("name", "examples"), [("watch", 2), ("plot", 3)])
def test_help_has_examples_in_lines_of_their_own(name: str, examples: int) -> None:
    done = run_cli(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    found = re.findall(rf"^ +(?:Examples: )?aioca {name} .*$", done.stdout, re.MULTILINE)
    assert len(found) == examples
    assert "\b" not in done.stdout
    assert "\\b" not in done.stdout


# -- The parts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "drawn"),
    [
        ([], ""),
        ([math.nan], ""),
        ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"),
        ([5, math.nan, 7], "▁ █"),
        ([5, 5], "──"),
        ([math.inf, 1, 2], " ▁█"),
        ([-1.7e308, 1.7e308], "──"),
        ([0.0, 5e-324], "──"),
    ],
)
def test_bars(numbers: list[float], drawn: str) -> None:
    assert history.bars(numbers) == drawn


def test_a_sparkline_is_of_the_last_minute() -> None:
    line = history.Sparkline()
    assert line.text(30) == ""
    line.add(100.0, 1.0)
    line.add(100.5, 3.0)  # in the same step: their mean
    line.add(102.0, 4.0)
    line.add(104.0, math.nan)  # disconnected
    line.add(106.0, 0.0)
    assert line.text(30) == "▅█ ▁"  # 2, 4, nothing, 0
    assert line.text(2) == " ─"  # there is nothing to compare it with
    line.advance(112.0)
    assert line.text(30) == "▅█ ▁▁▁▁"  # a value holds until there is another
    line.advance(10_000.0)
    assert line.text(30) == "─" * 30


def test_the_shape_of_a_long_array() -> None:
    assert history.shape(list(range(8000)), 8) == "▁▂▃▄▅▆▇█"
    assert history.shape([], 8) == ""
    assert history.shape([-math.inf, math.inf] * 8, 4) == ""


def test_a_rate_is_that_of_the_last_seconds() -> None:
    rate = history.Rate()
    for second in range(10):
        rate.count(float(second), second * 5)
    assert rate.value == 5.0
    for second in range(10, 14):
        rate.count(float(second), 45)
    assert rate.value == 0.0


@pytest.mark.parametrize("screen", range(1, 250, 7))
@pytest.mark.parametrize("longest", [1, 15, 60])
def test_columns_fill_no_more_than_the_screen(screen: int, longest: int) -> None:
    widest = widths(screen, {"name": longest, "value": 40, "spark": 30})
    columns = [width for width in widest if width]
    assert sum(columns) + 2 * (len(columns) - 1) <= max(screen, 12 + 1 + 12 + 4)
    if screen > 190:
        assert widest == (max(12, longest), 40, 5, 12, 12, 7, 30)


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (40, 10), (80, 24), (200, 60)])
def test_lines_fit(size: tuple[int, int]) -> None:
    """Whatever the size: as many lines as there are, none wider (but where there is no room)."""
    rows = [Row(f"SOME:PV:{n}", n, False) for n in range(40)]
    painter = Painter(Console(force_terminal=False, color_system=None))
    lines = View(rows, "given", painter).lines(*size, now=0.0)
    assert len(lines) == size[1]
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    assert max(map(len, plain)) <= max(size[0], 40)


@pytest.mark.parametrize(
    ("text", "width", "right", "fitted"),
    [
        ("abc", 5, False, "abc  "),
        ("abc", 5, True, "  abc"),
        ("abcdef", 4, False, "abc…"),
        ("日本", 3, False, "日…"),
        ("abc", 0, False, ""),
    ],
)
def test_fit(text: str, width: int, right: bool, fitted: str) -> None:
    assert fit(text, width, right) == fitted


@pytest.mark.parametrize(
    ("value", "precision", "text"),
    [
        (1.23456, 2, "1.23"),
        (1.23456, None, "1.23456"),
        (1.5, -1, "1.5"),
        (1.5, 200, "1.5"),
        (1e300, 2, "1.00e+300"),
        (2.15e-9, 2, "2.15e-09"),
        (0.0004, 2, "0.00"),
        (1.2e-16, 2, "0.00"),
        (0.0, 2, "0.00"),
        (math.nan, 2, "nan"),
        (-math.inf, 2, "-inf"),
    ],
)
def test_numbers(value: float, precision: int | None, text: str) -> None:
    assert number_text(value, precision) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.45, "0.45"),
        (0.1 + 0.2, "0.30000000000000004"),
        (25.0, "25"),
        (-3.0, "-3"),
        (2.0**53, "9007199254740992"),
        (2.0**64, "18446744073709551616"),
        (1e22, "1e+22"),
        (2e-9, "2e-09"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
    ],
)
def test_all_digits(value: float, text: str) -> None:
    assert all_digits(value) == text


def test_a_float_has_the_digits_of_four_bytes() -> None:
    assert all_digits(float(np.float32(0.1)), narrow=True) == "0.1"
    assert all_digits(float(np.float32(3)), narrow=True) == "3"


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(999_999_999, ".999"), (123_000_000, ".123"), (999_999, ".000"), (1_000_000, ".001")],
)
def test_times_are_cut_not_rounded_up(nanoseconds: int, text: str) -> None:
    row = Row("X", 0, False)
    now = 1_800_000_040
    stamp = now * 10**9 + nanoseconds
    row.value = SimpleNamespace(timestamp_ns=stamp, timestamp=round(stamp / 1e9, 6))
    assert row.time_text(now) == time.strftime("%H:%M:%S", time.localtime(now)) + text


def test_what_is_logged_does_not_go_over_the_screen(capfd: pytest.CaptureFixture[str]) -> None:
    log = _Log()
    with log:
        logging.getLogger("aioca").warning("something of %s", "note")
        assert log.message(time.monotonic()) == "something of note"
        assert log.message(time.monotonic() + 60) == ""
    assert capfd.readouterr().err == ""
