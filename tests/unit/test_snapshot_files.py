"""The files of `aioca.snapshot`: its own format, those of other programs, lists, macros."""

from __future__ import annotations

import json
import math
import os
import stat
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aioca import snapshot
from aioca.snapshot import (
    Entry,
    Snapshot,
    SnapshotError,
    _burt,
    _files,
    _json_format,
    _names,
    _resolve,
    load,
    parse_macros,
    read_names,
    save,
)
from aioca.snapshot._macros import expand

WHEN = datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=timezone.utc)
STATE: dict[str, Any] = {
    "severity": "MINOR",
    "status": "HIGH",
    "timestamp_ns": 1_700_000_000_000_000_001,
}
ENTRIES = (
    Entry("A:DOUBLE", 0.1 + 0.2, "DOUBLE", **STATE),
    Entry("A:ZERO", -0.0, "DOUBLE"),
    Entry("A:INF", [math.inf, -math.inf, 5e-324], "DOUBLE"),
    Entry("A:INT64", 2**53 + 1, "DOUBLE"),
    Entry("A:UINT64", [2**64 - 1, 0], "DOUBLE"),
    Entry("A:FLOAT", 0.1, "FLOAT"),
    Entry("A:LONG", -(2**31), "LONG"),
    Entry("A:SHORT", [1, -2], "SHORT"),
    Entry("A:ENUM", 1, "ENUM", "Manual"),
    Entry("A:NO_LABEL", 17, "ENUM"),
    Entry("A:STRING", 'a "b" \\ \n é \x1b[31m \u202e', "STRING"),
    Entry("A:LATIN", "20 \udcb0C", "STRING"),
    Entry("A:BYTES39", "\udcb0" * 39, "STRING"),
    Entry("A:STRINGS", ["", "x"], "STRING"),
    Entry("A:LONG$", "x" * 1000, "CHAR"),
    Entry("A:TEXT", [*b"/data", 0, 0], "CHAR"),
    Entry("A:BYTES", [0, 1, 255], "CHAR"),
    Entry("A:EMPTY", [], "DOUBLE"),
    Entry("A:UNTYPED", [1.5, 2]),
    Entry("A:READ_ONLY", "7", read_only=True),
    Entry("A:MISSING", None, error="it is not connected"),
)


def test_round_trip(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    save(Snapshot(ENTRIES, WHEN), file)
    again = load(file)
    assert again == Snapshot(ENTRIES, WHEN)
    assert math.copysign(1, again["A:ZERO"].value) == -1  # type: ignore[arg-type]
    first = file.read_bytes()
    save(again, file)
    assert file.read_bytes() == first


def test_a_file_for_people_and_for_diff(tmp_path: Path) -> None:
    """One PV a line, values apart from times, nothing that a terminal would obey."""
    file = tmp_path / "a.json"
    save(Snapshot(ENTRIES, WHEN), file)
    text = file.read_text("utf-8")
    lines = text.splitlines()
    assert lines[:5] == [
        "{", '"format": "aioca snapshot",', '"version": 1,',
        '"saved": "2026-01-31T12:00:00.250000000Z",',
        '"values": {',
    ]  # fmt: skip
    assert '  "A:ENUM": {"value": 1, "label": "Manual", "type": "ENUM"},' in lines
    assert '  "A:TEXT": {"value": "/data", "type": "CHAR", "length": 7},' in lines
    assert '  "A:INF": {"value": ["Infinity", "-Infinity", 5e-324], "type": "DOUBLE"},' in lines
    values = text.partition('"values": {\n')[2].partition("\n},\n")[0]
    assert [line.split('"')[1] for line in values.splitlines()] == [e.pv for e in ENTRIES]
    assert all(line.isprintable() for line in lines)
    json.loads(text)  # for other programs


def test_nan(tmp_path: Path) -> None:
    save(
        Snapshot((Entry("A", math.nan, "DOUBLE"), Entry("B", [math.nan, 1.0], "FLOAT"))),
        tmp_path / "a",
    )
    again = load(tmp_path / "a")
    assert math.isnan(again["A"].value)  # type: ignore[arg-type]
    assert math.isnan(again["B"].value[0])  # type: ignore[index]


def test_untyped_numbers_that_json_lacks(tmp_path: Path) -> None:
    save(Snapshot((Entry("A", -math.inf), Entry("B", "NaN"))), tmp_path / "a")
    assert load(tmp_path / "a").entries == (Entry("A", -math.inf, "DOUBLE"), Entry("B", "NaN"))


numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**63), 2**64 - 1),
    st.text(max_size=45),
)


@given(st.lists(numbers, max_size=5) | numbers, st.text(min_size=1), st.text(max_size=10))
@settings(max_examples=300, deadline=None)
def test_any_value_comes_back(value: Any, pv: str, label: str) -> None:
    cells = value if isinstance(value, list) else [value]
    if len({isinstance(cell, str) for cell in cells}) > 1:
        return
    entry = Entry(pv, value, "", label)
    text = _json_format.text_of(Snapshot((entry,)))
    assert _json_format.parse(text.encode("utf-8")).entries == (entry,)


# -- Replacing the file ----------------------------------------------------------------------------


@pytest.mark.parametrize("failing", ["replace", "fsync", "fchmod"])
def test_a_failed_save_leaves_the_old_file(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    file = tmp_path / "a.json"
    file.write_text("old")
    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="No space"):
        save(Snapshot(ENTRIES), file)
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_mode_and_link_are_kept(tmp_path: Path) -> None:
    file, link = tmp_path / "a.json", tmp_path / "link.json"
    before = os.umask(0o027)
    try:
        save(Snapshot(()), file)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    file.chmod(0o604)
    link.symlink_to(file)
    save(Snapshot(ENTRIES), link)
    assert link.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o604
    assert len(load(file)) == len(ENTRIES)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="not a regular file"):
        save(Snapshot(()), "/dev/null")
    with pytest.raises(OSError, match="not a regular file"):
        save(Snapshot(()), tmp_path)
    with pytest.raises(FileNotFoundError, match="directory does not exist"):
        save(Snapshot(()), tmp_path / "nowhere" / "a.json")
    with pytest.raises(IsADirectoryError):
        load(tmp_path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none")


# -- Files that nobody vouches for -----------------------------------------------------------------


def of_values(values: str, head: str = '"format": "aioca snapshot", "version": 1') -> str:
    return f'{{{head}, "values": {{{values}}}}}'


HOSTILE = [
    ("", "the file is empty"),
    ("hello", "it is no snapshot"),
    ("{", "it is not JSON"),
    ("{}", '"format" is not "aioca snapshot"'),
    ('{"a": ' + "[" * 200_000, "nested too deeply"),
    (of_values("", '"format": "aioca snapshot", "version": 2'), '"version" is 2; this aioca reads'),
    (of_values("", '"format": "aioca snapshot"'), '"version" is null'),
    (of_values("", '"format": "aioca snapshot", "version": true'), '"version" is true'),
    (of_values("", '"format": "aioca snapshot", "version": 1, "extra": 1'), '"extra" is not known'),
    ('{"format": "aioca snapshot", "version": 1}', '"values" is not an object'),
    ('{"format": "aioca snapshot", "version": 1, "values": []}', '"values" is not an object'),
    (of_values("", '"format": "aioca snapshot", "version": 1, "saved": 5'), "the time is not like"),
    (of_values('"A": {"value": 1}, "A": {"value": 2}'), '"A" occurs twice'),
    (of_values('"A": {"value": 1, "value": 2}'), '"value" occurs twice'),
    (of_values('"": {"value": 1}'), "the name of a PV is empty"),
    (of_values('"A": 5'), "A: its part"),
    (of_values('"A": {}'), 'A: it has no "value"'),
    (of_values('"A": {"vaule": 1}'), 'A: "vaule" is not known'),
    (of_values('"A": {"value": null}'), "A: null is no value"),
    (of_values('"A": {"value": true}'), "A: true is no value"),
    (of_values('"A": {"value": {"b": 1}}'), "is no value"),
    (of_values('"A": {"value": [[1]]}'), "is no value"),
    (of_values('"A": {"value": [1, "x"]}'), "both numbers and strings"),
    (of_values('"A": {"value": 1e999}'), "too large for a double"),
    (of_values('"A": {"value": NaN}'), "write it in quotes"),
    (of_values('"A": {"value": ' + "9" * 5000 + "}"), "thousands of digits"),
    (of_values('"A": {"value": ' + "9" * 50 + "}"), "not in the range"),
    (of_values('"A": {"value": 3000000000, "type": "LONG"}'), "A: 3000000000 is not in the range"),
    (of_values('"A": {"value": -1, "type": "ENUM"}'), "not in the range"),
    (of_values('"A": {"value": 1.5, "type": "LONG"}'), "1.5 is no value of type LONG"),
    (of_values('"A": {"value": "x", "type": "DOUBLE"}'), '"x" is no value of type DOUBLE'),
    (of_values('"A": {"value": 5, "type": "STRING"}'), "5 is no value of type STRING"),
    (of_values('"A": {"value": "' + "x" * 40 + '", "type": "STRING"}'), "at most 39 bytes"),
    (of_values('"A": {"value": "\\ud800"}'), "is not UTF-8"),
    (of_values('"A": {"value": 1, "type": "QUAD"}'), "'QUAD' is no type"),
    (of_values('"A": {"value": 1, "type": 6}'), 'its "type" is not a string'),
    (of_values('"A": {"value": 1, "label": 6}'), 'its "label" is not a string'),
    (of_values('"A": {"value": 1, "read_only": 1}'), '"read_only" is neither'),
    (of_values('"A": {"value": 1, "error": "x"}'), 'both "value" and "error"'),
    (of_values('"A": {"value": 1, "length": 5}'), 'has a "length"'),
    (of_values('"A": {"value": "x", "type": "CHAR", "length": 99999999999}'), "not a number of"),
    (of_values('"A": {"value": "x", "type": "CHAR", "length": -1}'), "not a number of"),
    (
        of_values('"A": {"value": 1}}, "states": {"A": {"time": "2026-13-01T00:00:00Z"}'),
        "the time is",
    ),
    (of_values('"A": {"value": 1}}, "states": {"A": {"severity": 3}'), "is not a string"),
    (of_values('"A\x1b[31m": {"value": null}').replace("\x1b", "\\u001b"), r"A\x1b[31m: null"),
    ("SDDS1\n", "SDDS files are not supported"),
    ("X 1\n<EN", "it is no snapshot"),
    ("# save/restore V5\nX 1\n", "<END> is missing"),
    ("X 1\nX 2\n<END>\n", "X occurs twice"),
    ('X @array@ { "1" "2\n<END>\n', "an array has no end"),
    ("X @array@ 1 2\n<END>\n", "an array has no {"),
    ("X a\\x00b\n<END>\n", "contains NUL"),
    ("$(P)X 1\n<END>\n", "the macro 'P' is not defined"),
    ("--- Start BURT header\nX 1 2\n", "the header of BURT has no end"),
    ("--- Start BURT header\nType: Relative\n--- End BURT header\n", "it is a Relative snapshot"),
    ("--- Start BURT header\n--- End BURT header\nX 2 1\n", "does not have 2 values"),
    ("--- Start BURT header\n--- End BURT header\nX q 1\n", "the count 'q' is not a number"),
    ("--- Start BURT header\n--- End BURT header\nX\n", "not a name, a count and values"),
    ("--- Start BURT header\n--- End BURT header\nX 1 1\nX 1 2\n", "X occurs twice"),
    ("#{", "it is not JSON"),
    ("#{}\nX,{\n", "it is not JSON"),
    ("#{}\nX,[[1]]\n", "its value is not a number"),
    ('#{}\nX,"\\ud800"\n', "is not UTF-8"),
    ("#{}\nX,true\n", "its value is not a number"),
    ("#{}\nX,1\nX,2\n", "X occurs twice"),
    ('#{}\nX,[1,"a"]\n', "both numbers and strings"),
    ("#{}\n,1\n", "has no name"),
    ("#{}\n$(P)X,1\n", "the macro 'P' is not defined"),
]


@pytest.mark.parametrize(("content", "said"), HOSTILE, ids=range(len(HOSTILE)))
def test_bad_files(content: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "bad"
    file.write_text(content, "utf-8")
    with pytest.raises(SnapshotError) as caught:
        load(file)
    text = str(caught.value)
    assert said in text
    assert text.startswith(str(file))
    assert len(text.splitlines()) == 1
    assert len(text) < 400
    assert text.isprintable()


def test_the_line_of_an_error(tmp_path: Path) -> None:
    file = tmp_path / "bad"
    file.write_bytes(b'{\n"format": \xff\n}')
    with pytest.raises(SnapshotError, match=r"bad:2: the line is not UTF-8"):
        load(file)
    file.write_text('A 1\nB @array@ {\n"1"\n}\nA 2\n<END>\n')
    with pytest.raises(SnapshotError, match=r"bad:5: A occurs twice"):
        load(file)


def test_a_device_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_files, "_MAX_FILE_BYTES", 1 << 20)
    with pytest.raises(SnapshotError, match="more than 1 MiB"):
        load("/dev/zero")


pieces = st.sampled_from([
    b"{", b"}", b"[", b"]", b'"', b":", b",", b"\n", b"1e5", b"NaN", b"A", b" ", b"\\",
    b"@array@ {", b"<END>", b"# ", b"#{}", b"$(P)", b"$(", b"%", b"RO ", b"\xff", b"\0",
    b"--- Start BURT header\n", b"--- End BURT header\n", b"Type: X",
    of_values('"A": {"value": 1}').encode(), b"Time: 5",
])  # fmt: skip


@given(content=st.lists(pieces | st.binary(max_size=4), max_size=30).map(b"".join))
@settings(
    max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_content_is_a_snapshot_or_an_error(content: bytes, tmp_path: Path) -> None:
    for name in ("a.json", "a.sav", "a.snap"):
        file = tmp_path / name
        file.write_bytes(content)
        try:
            assert isinstance(load(file), Snapshot)
        except SnapshotError as error:
            assert str(error).isprintable()


# -- Files of other programs -----------------------------------------------------------------------

# In these files ~ stands for nothing: an editor would cut off the blanks before it
SAV = r"""# autosave R5.10.2	Automatically generated - DO NOT MODIFY - 260131-120000
! 1 channel(s) not connected - or not all gets were successful
BL:m1.VAL 3.1415926535898
BL:mode 2
BL:name   two blanks before, \"quoted\" \xc2\xb5
BL:empty ~
BL:degree 20 \xb0C
#BL:gone Search Issued
#BL:edited 5
BL:wave @array@ { "1" "0.99" "-1e-05" }
BL:strings @array@ { "abc" "de\"f" "g{hi\\" "jk } pqr" "" }
BL:broken @array@ { "1"
"2"
 "3" }
BL:last.DESC end
<END>
anything
"""


def test_autosave(tmp_path: Path) -> None:
    file = tmp_path / "auto_settings.sav"
    file.write_text(SAV.replace("~", ""))
    found = load(file)
    assert found.format == "autosave"
    assert {e.pv: e.value for e in found} == {
        "BL:m1.VAL": "3.1415926535898",
        "BL:mode": "2",
        "BL:name": '  two blanks before, "quoted" µ',
        "BL:empty": "",
        "BL:degree": "20 \udcb0C",
        "BL:gone": None,
        "BL:wave": ["1", "0.99", "-1e-05"],
        "BL:strings": ["abc", 'de"f', "g{hi\\", "jk } pqr", ""],
        "BL:broken": ["1", "2", "3"],
        "BL:last.DESC": "end",
    }
    assert found["BL:gone"].error == "autosave was not connected to it"


def test_autosave_with_macros(tmp_path: Path) -> None:
    file = tmp_path / "a.sav"
    file.write_text("$(P)A $(P)\n<END>\n")
    assert load(file, {"P": "BL:"}).entries == (Entry("BL:A", "$(P)"),)


BURT = r"""--- Start BURT header
Time:     Sat Jan 31 12:00:00 2026
Login ID: ops (Operator)
Eff  UID: 1000
Group ID: 1000
Keywords: optics
Comments: two\nlines
Type:     Absolute
Directory /home/ops
Req File: a.req
--- End BURT header
% a comment
A 1 3.259328000000000e+00 % inline
B 3 1.0e+00 2.0e+00 \0
C 1 "two words"
D 1 \0
RO E 1 5
RON F 1 6
WO G 1 7
H 1 ""
I 8 H e l l o   I  ~
J 2 three "blind \"mice\""
"""


def test_burt(tmp_path: Path) -> None:
    file = tmp_path / "a.snap"
    file.write_text(BURT.replace("~", ""))
    found = load(file)
    assert found.format == "burt"
    assert found.saved == datetime(2026, 1, 31, 12).astimezone()
    assert {e.pv: e.value for e in found} == {
        "A": "3.259328000000000e+00", "B": ["1.0e+00", "2.0e+00", _burt.NULL], "C": "two words",
        "D": _burt.NULL, "E": "5", "F": "6", "G": "7", "H": "", "I": [*"Hello I "],
        "J": ["three", 'blind "mice"'],
    }  # fmt: skip
    assert [e.pv for e in found if e.read_only] == ["E", "F"]


PSI = """#{"comment": "", "save_time": 1769860800.5, "macros": {"SYS": "BL"}, "labels": []}
# a comment
$(SYS):A,{"val": 1.5, "EGU": "mm"}
$(SYS):B,[1, 2]
C,"text, with a comma"
D
E,{"val": null}
F,NaN
"""


def test_psi(tmp_path: Path) -> None:
    file = tmp_path / "a.snap"
    file.write_text(PSI)
    found = load(file)
    assert found.format == "psi"
    assert found.saved == datetime.fromtimestamp(1769860800.5, timezone.utc)
    assert {e.pv: e.value for e in found if e.pv != "F"} == {
        "BL:A": 1.5, "BL:B": [1, 2], "C": "text, with a comma", "D": None, "E": None,
    }  # fmt: skip
    assert math.isnan(found["F"].value)  # type: ignore[arg-type]
    assert load(file, {"SYS": "X"}).entries[0].pv == "X:A"


def test_a_file_of_another_program_in_our_format(tmp_path: Path) -> None:
    (tmp_path / "a.sav").write_text(SAV.replace("~", ""))
    found = load(tmp_path / "a.sav")
    save(found, tmp_path / "a.json")
    assert load(tmp_path / "a.json").entries == found.entries


LABELS = ["Off", "Manual", "1"]


@pytest.mark.parametrize(
    ("entry", "format", "kind", "count", "wanted"),
    [
        (Entry("X", "0.1"), "autosave", "DOUBLE", 1, 0.1),
        (Entry("X", "nan"), "autosave", "FLOAT", 1, math.nan),
        (Entry("X", "9007199254740993"), "autosave", "DOUBLE", 1, 2**53 + 1),
        (Entry("X", "-5"), "autosave", "LONG", 1, -5),
        (Entry("X", "0x1F"), "autosave", "LONG", 1, 31),
        (Entry("X", "5"), "autosave", "STRING", 1, "5"),
        (Entry("X", "20 \udcb0C"), "autosave", "STRING", 1, b"20 \xb0C"),
        (Entry("X", "5"), "autosave", "DOUBLE", 10, [5.0]),
        (Entry("X", ""), "autosave", "DOUBLE", 10, []),
        (Entry("X", ""), "autosave", "STRING", 1, ""),
        (Entry("X", ["1", "2"]), "autosave", "CHAR", 10, [1, 2]),
        (Entry("X.VAL$", "text"), "autosave", "CHAR", 10, "text"),
        (Entry("X", "1"), "autosave", "ENUM", 1, 1),
        (Entry("X", "1"), "burt", "ENUM", 1, 2),  # the state that is called 1
        (Entry("X", "Manual"), "burt", "ENUM", 1, 1),
        (Entry("X", "Manual"), "psi", "ENUM", 1, 1),
        (Entry("X", 1), "psi", "ENUM", 1, 1),
        (Entry("X", "b"), "burt", "CHAR", 1, 98),
        (Entry("X", ["H", "i", _burt.NULL]), "burt", "CHAR", 10, [72, 105, 0]),
        (Entry("X", _burt.NULL), "burt", "STRING", 1, ""),
        (Entry("X", _burt.NULL), "burt", "DOUBLE", 1, 0.0),
        (Entry("X", "text"), "psi", "CHAR", 10, "text"),
        (Entry("X", 1, "ENUM", "Manual"), "aioca", "ENUM", 1, 1),
        (Entry("X", 0, "ENUM", "Manual"), "aioca", "ENUM", 1, 1),  # the states have been reordered
        (Entry("X", 7, "ENUM"), "aioca", "ENUM", 1, 7),
        (Entry("X", 2, "ENUM", "Manual"), "aioca", "LONG", 1, 2),
    ],
)  # fmt: skip
def test_what_text_means_for_a_pv(
    entry: Entry, format: Any, kind: str, count: int, wanted: Any
) -> None:
    native = snapshot._model.TYPE_NAMES.index(kind)
    found = _resolve.resolve(entry, format, native, count, LABELS)
    assert type(found) is type(wanted)
    assert repr(found) == repr(wanted)  # NaN is not equal to itself


@pytest.mark.parametrize(
    ("entry", "kind", "said"),
    [
        (Entry("X", "one"), "DOUBLE", "'one' is not a number"),
        (Entry("X", "9" * 5000), "DOUBLE", "is not a number"),
        (Entry("X", ""), "LONG", "the file has no value for it"),
        (
            Entry("X", "Open"),
            "ENUM",
            "none of its states is called 'Open'; it has 'Off', 'Manual', '1'",
        ),
        (Entry("X", 0, "ENUM", "Closed"), "ENUM", "none of its states is called 'Closed'"),
    ],
)
def test_text_without_a_meaning(entry: Entry, kind: str, said: str) -> None:
    with pytest.raises(_resolve.UnusableError, match=said):
        _resolve.resolve(entry, "autosave", snapshot._model.TYPE_NAMES.index(kind), 1, LABELS)


# -- Macros and lists ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("X", "X"),
        ("$(P)X.VAL$", "BL:X.VAL$"),
        ("${P}$(M)", "BL:m1"),
        ("$(NONE=default)", "default"),
        ("$(P=default)", "BL:"),
        ("$(NONE=$(M))", "m1"),
        ("$($(WHICH))", "BL:"),
        ("$(TWICE)", "BL:BL:"),
        ("$", "$"),
    ],
)
def test_macros(text: str, expanded: str) -> None:
    macros = {"P": "BL:", "M": "m1", "WHICH": "P", "TWICE": "$(P)$(P)"}
    assert expand(text, macros) == expanded


@pytest.mark.parametrize(
    ("text", "macros", "said"),
    [
        ("$(P)", {}, "'P' is not defined"),
        ("$(P", {"P": ""}, "no closing"),
        ("$(A)", {"A": "$(A)"}, "contains itself"),
        ("$(A)", {"A": "$(B)", "B": "$(A)"}, "contains itself"),
        ("$(M9)", {f"M{n}": f"$(M{n - 1})" * 10 for n in range(1, 10)} | {"M0": "x"}, "more than"),
    ],
)
def test_macros_that_cannot_be(text: str, macros: dict[str, str], said: str) -> None:
    with pytest.raises(SnapshotError, match=said):
        expand(text, macros)


def test_definitions_of_macros() -> None:
    assert parse_macros("") == {}
    assert parse_macros("P=BL:, M = m1,N=") == {"P": "BL:", "M": "m1", "N": ""}
    assert parse_macros(r"""A="x, y",B='z=1',C=a\,b""") == {"A": "x, y", "B": "z=1", "C": "a,b"}
    for wrong in ("P", "=x", "P=1,M"):
        with pytest.raises(SnapshotError, match="NAME=VALUE"):
            parse_macros(wrong)


def test_lists_and_request_files(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "motor.req").write_text("$(P)$(M).VAL\n$(P)$(M).DESC   # a comment\n")
    (tmp_path / "extra.req").write_text("X\n${N=default}\n")
    top = tmp_path / "top.req"
    top.write_text(
        "# settings\n\n$(P)mode\n"
        "file motor.req P=$(P),M=m1\n"
        'file "motor.req" P=$(P) M=m2\n'
        'file extra.req\nfile extra.req, "N=given"\nX\n'
    )
    names = read_names(top, {"P": "BL:"}, [tmp_path / "db"])
    assert names == [
        "BL:mode", "BL:m1.VAL", "BL:m1.DESC", "BL:m2.VAL", "BL:m2.DESC", "X", "default", "given",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "it names no PV"),
        ("# nothing\n", "it names no PV"),
        ("A\nB C\n", "top.req:2: more than one name in the line: 'B C'"),
        ("$(P)A\n", "top.req:1: the macro 'P' is not defined"),
        ("file none.req\n", "top.req:1: the file 'none.req' is not in"),
        ("file top.req\n", "it includes itself"),
        ("file other.req\n", "it includes itself"),
        ("file other.req P\n", "top.req:1: 'P' defines no macro"),
        ("A\n\xff\n", "top.req:2: the line is not UTF-8"),
    ],
)
def test_bad_lists(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "top.req").write_bytes(content.encode("latin-1"))
    (tmp_path / "other.req").write_text("file top.req\n")
    with pytest.raises(SnapshotError) as caught:
        read_names(tmp_path / "top.req")
    assert said in str(caught.value)


def test_an_included_file_that_is_not_in_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("top.req").write_text("file none.req\n")
    with pytest.raises(SnapshotError) as caught:
        read_names("top.req", include=["db"])
    said = "top.req:1: the file 'none.req' is not in the current directory, db"
    assert str(caught.value) == said


def test_lists_that_include_each_other_many_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 to the 19th power times the last file, if nothing ended it."""
    monkeypatch.setattr(_names, "_MAX_LINES", 10_000)
    for number in range(19):
        (tmp_path / f"{number}.req").write_text(f"file {number + 1}.req\n" * 2)
    (tmp_path / "19.req").write_text("A\n" * 100)
    with pytest.raises(SnapshotError, match="more than 10000 lines"):
        read_names(tmp_path / "0.req")


# -- The dataclasses -------------------------------------------------------------------------------


def test_select_and_index() -> None:
    some = Snapshot(ENTRIES, WHEN)
    assert [e.pv for e in some.select("A:ENUM", "*:LO*")] == ["A:LONG", "A:ENUM", "A:LONG$"]
    assert some.select() is some
    assert some["A:LONG"].value == -(2**31)
    with pytest.raises(KeyError):
        some["B"]


def test_text_that_may_be_cut_off() -> None:
    assert Entry("A", "x" * 39, "STRING").may_be_cut_off
    assert Entry("A", "µ" * 20, "STRING").may_be_cut_off
    assert not Entry("A", ["", "x" * 39], "STRING").may_be_cut_off  # no element can hold more
    assert not Entry("A", "x" * 38, "STRING").may_be_cut_off
    assert not Entry("A", "x" * 100, "CHAR").may_be_cut_off
