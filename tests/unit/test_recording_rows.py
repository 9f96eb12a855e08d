"""Recordings decode updates in batches: what is written must be what the attributes say.

The values are decoded from DBR bytes of all types, as they come from a server.
"""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aioca import FORMAT_RAW, FORMAT_TIME, CANothing
from aioca._ca.libca import VALUE_OFFSET
from aioca._cli.recording import intake as intake_module
from aioca._cli.recording.decoder import RowDecoder
from aioca._cli.recording.intake import Intake
from aioca._cli.recording.last import LastRows
from aioca._cli.recording.reading import read_recording
from aioca._cli.recording.rows import EVENTS, TYPES, Event, Rows
from aioca._cli.recording.target import Target
from aioca._values.classes import Reader
from aioca._values.columns import columns_of
from aioca._values.decode import make_reader
from tests.support.recordings import read

CODES = ("40s", "h", "f", "H", "B", "i", "d")  # by DBR type
ELEMENTS: tuple[tuple[Any, ...], ...] = (
    (b"", b"a, b", b'"\n\xc3\xa9', b"to the NUL\0not this", b"\xff" * 39, b"q" * 40),
    (0, -(2**15), 2**15 - 1),
    (0.1, -0.0, float("nan"), float("inf"), 1e30),
    (0, 1, 2**16 - 1),
    (0, 65, 255),
    (0, -(2**31), 2**31 - 1),
    (0.1, -0.0, float("nan"), float("-inf"), 1e300, 5e-324),
)
# The name of each PV, its DBR type, and its native number of elements
PVS = [(f"{kind}-{TYPES[dbr]}", dbr, count) for dbr in range(7) for kind, count in
       (("scalar", 1), ("array", 9))] + [("long.NAME$", 4, 100), ("gone", 6, 1)]  # fmt: skip
NAMES = [name for name, _, _ in PVS]


def reader_for(name: str, dbr: int, count: int) -> Reader:
    return make_reader(name, dbr, count, None, FORMAT_TIME, monitor=True)


def update(reader: Reader, dbr: int, elements: list[Any], chance: random.Random) -> Any:
    """A value as a monitor delivers it, with a random alarm and time stamp."""
    alarm_and_stamp = struct.pack(
        "=hhII", chance.randrange(22), chance.randrange(4), chance.randrange(2**32),
        chance.randrange(10**9),
    )  # fmt: skip
    raw = alarm_and_stamp.ljust(VALUE_OFFSET[reader.shape.dbr], b"\1")
    raw += struct.pack(f"={CODES[dbr] * len(elements)}", *elements)
    return reader.decode(bytearray(raw) if len(elements) > 5 else raw)


def all_kinds(chance: random.Random) -> list[Any]:
    """Events, and updates of all types: scalars, arrays, and empty ones, in random order."""
    items: list[Any] = []
    for index, (name, dbr, count) in enumerate(PVS):
        reader = reader_for(name, dbr, count)
        lengths = (1, 1, 0) if count == 1 else (1, count, 0)
        for length in [*lengths, *lengths, *lengths]:
            if name != "gone":
                elements = [chance.choice(ELEMENTS[dbr]) for _ in range(length)]
                items.append(update(reader, dbr, elements, chance))
        items.append(Event(index, chance.randrange(2**60), "connected"))
        items.append(Event(index, chance.randrange(2**60), "disconnected"))
        items.append(Event(index, chance.randrange(2**60), "lost", chance.randrange(10**6)))
    chance.shuffle(items)
    return items


def by_attributes(item: Any) -> dict[str, Any]:
    """The row of an update or an event, from one attribute after the other."""
    row: dict[str, Any] = dict.fromkeys(("severity", "status", "type", "count", "value"))
    if isinstance(item, Event):
        row |= {
            "timestamp_ns": item.timestamp_ns, "pv": NAMES[item.index],
            "event": EVENTS[item.number], "value": item.lost,
        }  # fmt: skip
        return row
    plain = +item
    row |= {
        "timestamp_ns": item.timestamp_ns, "pv": item.name, "event": "value",
        "severity": item.severity, "status": item.status, "type": TYPES[item.datatype],
        "count": len(item) if isinstance(plain, np.ndarray) else None,
        "value": plain.tolist() if isinstance(plain, np.ndarray) else plain,
    }  # fmt: skip
    return row


def in_columns(rows: Rows, names: list[str] = NAMES) -> list[dict[str, Any]]:
    found = []
    for place in range(len(rows)):
        value: Any = rows.number[place].item() if rows.has_number[place] else None
        if place in rows.arrays:
            value = rows.arrays[place].tolist()
        is_value = rows.event[place] == 0
        found.append(
            {
                "timestamp_ns": rows.timestamp_ns[place].item(), "pv": names[rows.pv[place]],
                "event": EVENTS[rows.event[place]], "value": value,
                "severity": rows.severity[place].item() if is_value else None,
                "status": rows.status[place].item() if is_value else None,
                "type": TYPES[rows.type[place]] if is_value else None,
                "count": None if rows.count[place] < 0 else rows.count[place].item(),
            }
        )  # fmt: skip
    return found


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two rows are equal: NaN equals NaN, -0.0 is not 0.0, and 1 equals 1.0."""
    left, right = ({**row, "value": _cells(row["value"])} for row in (one, other))
    return repr(sorted(left.items())) == repr(sorted(right.items()))


def _cells(value: Any) -> Any:
    if isinstance(value, list):
        return [_cells(element) for element in value]
    return float(value) if isinstance(value, (int, float)) else value


@pytest.mark.parametrize("seed", range(3))
def test_a_batch_has_what_the_attributes_say(seed: int) -> None:
    """For each type, as scalar, array and empty, mixed with events; also one item at a time."""
    items = all_kinds(random.Random(seed))
    decoder = RowDecoder(NAMES)
    expected = [by_attributes(item) for item in items]
    whole = decoder.rows(items)
    one_by_one = [decoder.rows([item]) for item in items]
    for found in (in_columns(whole), [row for rows in one_by_one for row in in_columns(rows)]):
        assert len(found) == len(expected) > 100
        for row, right in zip(found, expected, strict=True):
            if isinstance(right["value"], str) or right["type"] == "STRING":
                row, right = {**row, "value": None}, {**right, "value": None}  # noqa: PLW2901
            assert same(row, right)
    texts = {i: e["value"] for i, e in enumerate(expected) if isinstance(e["value"], str)}
    assert {i: text for i, text in whole.texts.items() if i in texts} == texts
    assert list(whole.texts) == sorted(whole.texts)
    assert list(whole.arrays) == sorted(whole.arrays)


@pytest.mark.process  # h5py and pyarrow start `uname` when they are imported
@pytest.mark.parametrize("ending", [".csv", ".parquet", ".h5"])
def test_a_file_has_what_the_attributes_say(ending: str, tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="needs the extra record")
    pytest.importorskip("pyarrow", reason="needs the extra record")
    chance = random.Random(7)
    # The readers of these tests take a long string in CSV or HDF5 for a number
    batches = [[i for i in all_kinds(chance) if not is_long_string(i)] for _ in range(3)]
    scalar = reader_for("scalar-DOUBLE", 6, 1)
    batches.append([update(scalar, 6, [float(i)], chance) for i in range(100)])
    target = Target(tmp_path / f"a{ending}", NAMES, None)
    writer = target.open()
    decoder = RowDecoder(NAMES)
    for number, items in enumerate(batches):
        writer.add(decoder.rows(items))
        if number == 1:
            writer.flush()
    writer.flush()
    writer.close()
    expected = [by_attributes(item) for items in batches for item in items]
    assert writer.written == len(expected)
    columns = list(expected[0])
    found = [{name: row[name] for name in columns} for row in read(tmp_path / f"a{ending}")]
    assert len(found) == len(expected)
    for row, right in zip(found, expected, strict=True):
        if ending == ".h5" and right["count"] is None and right["value"] != right["value"]:
            right["value"] = None  # there, NaN is an empty cell, too
        assert same(row, right)


@pytest.mark.parametrize("text", ["a\rb", "\r", "a\r\nb\n\r", '\r"', ", \r\n"])
def test_csv_with_carriage_returns(text: str, tmp_path: Path) -> None:
    """Such a text is in quotes: csv and plot read it back, and the rows around it."""
    chance = random.Random(5)
    number, string = reader_for("scalar-DOUBLE", 6, 1), reader_for("scalar-STRING", 0, 1)
    items = [
        update(number, 6, [1.5], chance), update(string, 0, [text.encode()], chance),
        update(number, 6, [2.5], chance),
    ]  # fmt: skip
    path = tmp_path / "a.csv"
    writer = Target(path, NAMES, None).open()
    writer.add(RowDecoder(NAMES).rows(items))
    writer.flush()
    writer.close()
    assert [row["value"] for row in read(path)] == [1.5, text, 2.5]
    assert path.read_bytes().endswith(b",2.5\n")
    numbers, texts = read_recording(path, []).pvs
    assert (numbers.value, texts.value) == (2.5, text)


@pytest.mark.process
@pytest.mark.parametrize("ending", [".csv", ".parquet", ".h5"])
def test_plot_reads_long_strings(ending: str, tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="needs the extra record")
    pytest.importorskip("pyarrow", reason="needs the extra record")
    items = [item for item in all_kinds(random.Random(3)) if is_long_string(item)]
    path = tmp_path / f"a{ending}"
    writer = Target(path, NAMES, None).open()
    writer.add(RowDecoder(NAMES).rows([*items, *items]))
    writer.flush()
    writer.close()
    (found,) = read_recording(path, ["long.NAME$"]).pvs
    assert (found.kind, found.value) == ("text", str(items[-1]))


def is_long_string(item: Any) -> bool:
    return not isinstance(item, Event) and item.name == "long.NAME$"


def test_a_pv_that_comes_back_with_another_type() -> None:
    """The reader of each connection counts, in whatever order the updates are decoded."""
    chance = random.Random(1)
    first, second = reader_for("gone", 6, 1), reader_for("gone", 5, 1)
    items = [
        update(first, 6, [0.5], chance), update(second, 5, [7], chance),
        update(first, 6, [1.5], chance),
    ]  # fmt: skip
    decoder = RowDecoder(NAMES)
    for _ in range(2):
        rows = decoder.rows(items)
        assert rows.number.tolist() == [0.5, 7.0, 1.5]
        assert [TYPES[place] for place in rows.type] == ["DOUBLE", "LONG", "DOUBLE"]
        assert [NAMES[place] for place in rows.pv] == ["gone"] * 3
    assert len(decoder._codes) == 2  # the events' and one reader: those of the past are not kept


@pytest.mark.process
def test_severities_that_epics_does_not_have(tmp_path: Path) -> None:
    """A server may send any number: the file has the nearest that its column holds."""
    pytest.importorskip("pyarrow", reason="needs the extra record")
    reader = reader_for("scalar-DOUBLE", 6, 1)
    raw = struct.pack("=hhII4xd", -5, 3000, 0, 0, 1.0)
    writer = Target(tmp_path / "a.parquet", NAMES, None).open()
    writer.add(RowDecoder(NAMES).rows([reader.decode(raw)]))
    writer.flush()
    (row,) = read(tmp_path / "a.parquet")
    assert (row["severity"], row["status"], row["value"]) == (127, -5, 1.0)


def test_columns_need_time_stamps() -> None:
    reader = make_reader("X", 6, 1, None, FORMAT_RAW)
    with pytest.raises(ValueError, match="request it with FORMAT_TIME"):
        columns_of(reader.shape, [reader.decode(struct.pack("=d", 1.0))])


# -- The last rows ---------------------------------------------------------------------------------


def test_the_last_row_of_each_pv() -> None:
    """Batch by batch: what an Intake returns is what the newest rows of each PV say."""
    chance = random.Random(4)
    decoder, last = RowDecoder(NAMES), LastRows(len(NAMES))
    newest: dict[str, dict[str, Any]] = {}
    for _ in range(5):
        items = all_kinds(chance)
        rows = decoder.rows(items)
        last.note(rows)
        newest |= {row["pv"]: row for row in in_columns(rows) if row["event"] != "lost"}
        found = [row for some in last.beginning(77) for row in in_columns(some)]
        events, values = found[: len(NAMES)], found[len(NAMES) :]
        lost = {pv for pv, row in newest.items() if row["event"] == "disconnected"}
        assert {row["pv"] for row in events} == set(NAMES)
        for row in events:
            event = "disconnected" if row["pv"] in lost else "connected"
            assert (row["event"], row["timestamp_ns"], row["type"]) == (event, 77, None)
        assert 0 < len(values) == sum(row["event"] == "value" for row in newest.values())
        assert all(same(row, newest[row["pv"]]) for row in values)


def test_the_last_row_of_a_pv_that_changes_its_kind() -> None:
    chance = random.Random(6)
    kinds = [
        (6, 1, [0.5]),
        (0, 1, [b"text"]),
        (6, 9, [1.0, 2.0]),
        (0, 9, [b"x", b"y"]),
        (6, 1, [2]),
    ]
    last = LastRows(1)
    assert last.beginning(0) == []
    for dbr, count, elements in [*kinds, *reversed(kinds)]:
        rows = RowDecoder(["a"]).rows([update(reader_for("a", dbr, count), dbr, elements, chance)])
        last.note(rows)
        (_, value) = last.beginning(0)
        assert (value.texts, list(value.arrays)) == (rows.texts, list(rows.arrays))
        assert same(in_columns(value, ["a"])[0], in_columns(rows, ["a"])[0])


# -- The intake ------------------------------------------------------------------------------------


def test_updates_for_which_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are counted, and each PV has a row; events and what came before are kept."""
    monkeypatch.setattr(intake_module, "MAX_UPDATES", 4)
    chance = random.Random(2)
    names = ["a", "b"]
    readers = [reader_for(name, 5, 1) for name in names]
    intake = Intake(names)
    for number in range(6):
        for index, reader in enumerate(readers):
            intake.take(update(reader, 5, [number], chance), index)
        intake.collect()
    intake.take(CANothing("b", 192), 1)
    intake.collect()
    assert (intake.updates, intake.lost, intake.disconnections) == (4, 8, 1)
    assert (intake.connected, intake.seen) == ([True, False], [True, True])
    found = [row for rows in intake.drain() for row in in_columns(rows, names)]
    assert [(row["pv"], row["event"], row["value"]) for row in found] == [
        ("a", "connected", None), ("a", "value", 0), ("b", "connected", None), ("b", "value", 0),
        ("a", "value", 1), ("b", "value", 1), ("b", "disconnected", None),
        ("a", "lost", 4), ("b", "lost", 4),
    ]  # fmt: skip
    intake.take(update(readers[0], 5, [9], chance), 0)
    intake.collect()
    (after,) = intake.drain()
    assert (after.number.tolist(), intake.updates) == ([9.0], 5)


def test_arrays_for_which_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "MAX_BYTES", 100)
    reader = reader_for("a", 6, 9)
    intake = Intake(["a"])
    for length in (9, 9, 1):
        intake.take(update(reader, 6, [1.0] * length, random.Random(3)), 0)
        intake.collect()
    assert (intake.updates, intake.lost) == (2, 1)
    intake.drain()
    intake.take(update(reader, 6, [2.0], random.Random(3)), 0)
    intake.collect()
    assert (intake.updates, intake.lost) == (3, 1)
