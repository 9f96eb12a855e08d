"""``aioca caput --strict``: what a server would take for another value is not written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import epicscorelibs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioca import DBR_CHAR, DBR_DOUBLE, DBR_ENUM, DBR_FLOAT, DBR_LONG, DBR_SHORT, DBR_STRING
from aioca._cli.tools import field_types
from aioca._cli.tools.strict import RefusedError, checked, needs_field_type
from aioca.testing import SoftIoc, loopback_environment
from tests.support.commands import run_cli

UNIT = True

DATABASE = """
record(longout, "LONG") { field(VAL, "7") field(PINI, "YES") }
record(int64out, "INT64") { field(VAL, "7") field(PINI, "YES") }
record(ao, "AO") { field(VAL, "7") field(PINI, "YES") }
record(mbbo, "MBBO") { field(ZRST, "Off") field(ONST, "On") field(PINI, "YES") }
record(calc, "TICKS") { field(SCAN, ".1 second") }
record(stringout, "TEXT") { field(VAL, "7") field(PINI, "YES") }
record(waveform, "LONGS") { field(FTVL, "LONG") field(NELM, "4") field(INP, [7]) }
record(waveform, "USHORTS") { field(FTVL, "USHORT") field(NELM, "2") field(INP, [7]) }
record(aai, "ULONGS") { field(FTVL, "ULONG") field(NELM, "2") field(INP, [7]) }
record(aao, "INT64S") { field(FTVL, "INT64") field(NELM, "2") field(OUT, [7]) }
record(aao, "UINT64S") { field(FTVL, "UINT64") field(NELM, "2") field(OUT, [7]) }
record(subArray, "UCHARS") { field(FTVL, "UCHAR") field(MALM, "2") field(NELM, "2") }
record(waveform, "CHARS") { field(FTVL, "CHAR") field(NELM, "2") field(INP, [7]) }
record(waveform, "DOUBLES") { field(FTVL, "DOUBLE") field(NELM, "2") field(INP, [7]) }
record(aSub, "ASUB") { field(FTA, "USHORT") field(NOA, "2") field(FTB, "ULONG") }
record(seq, "SEQ") {}
record(ai, "TSE:EVENT") { field(TSE, "-1") field(PINI, "YES") }
record(ai, "TSE:DEVICE") { field(TSE, "-2") field(PINI, "YES") }
record(ao, "SLOW") { field(FLNK, "SLOW:SEQ") }
record(seq, "SLOW:SEQ") { field(DLY1, "20") field(LNK1, "AO.DESC") field(DOL1, "1") }
record(ao, "SLOW:TOO") { field(FLNK, "SLOW:TOO:SEQ") }
record(seq, "SLOW:TOO:SEQ") { field(DLY1, "20") field(LNK1, "AO.DESC") field(DOL1, "1") }
"""


@pytest.fixture(scope="module")
def strict_ioc() -> Iterator[dict[str, str]]:
    """The environment for programs that use an IOC of this module."""
    with SoftIoc(DATABASE) as ioc:
        yield loopback_environment(ioc.port)


TRAPS = [  # arguments; the value that is written without --strict; words of the message
    (["LONG", "1e3"], 1, "LONG: nothing was written: '1e3' is not an integer in plain digits; read"
     " by a record of integers, it is 1. Write 1000."),
    (["LONG", "08"], 0, "'08' is not an integer in plain digits"),
    (["LONG", "010"], 8, "it is 8 (or 10 where it reads decimal digits only). Write 10."),
    (["LONG", "1.9"], 1, "it is 1."),
    (["LONG", "12 apples"], 12, "'12 apples' is not an integer"),
    (["INT64", "1e3"], 1, "it is 1. Write 1000."),
    (["AO", "12 apples"], 12, "AO: nothing was written: '12 apples' is not a number"),
    (["TICKS.SCAN", "50"], "50", "TICKS.SCAN: nothing was written: '50' is neither one of its"),
    (["MBBO", "1x"], "On", "nor the number of one (0: Off, 1: On)"),
    (["TEXT", "t" * 45], "t" * 39, "more than the 39 bytes of a STRING"),
    (["-a", "LONGS", "2", "5", "010"], [5, 8, 0, 0], "LONGS: nothing was written: '010'"),
    (["-a", "LONGS", "3", "5"], [5, 0, 0, 0], "the count is 3, and 1 values follow it"),
]  # fmt: skip


TOO_WIDE = [  # arguments; the value that a server stores without an error
    (["INT64", "99999999999999999999"], "-9223372036854775808"),
    (["INT64", "-9223372036854775809"], "-9223372036854775808"),
    (["INT64.HOPR", "0x8000000000000000"], "-9223372036854775808"),
    (["SEQ.SELN", "70000"], "4464"),
    (["MBBO.ZRVL", "-1"], "4294967295"),
    (["SEQ.TPRO", "-1"], "255"),
    (["-a", "USHORTS", "1", "70000"], "4464"),
    (["-a", "USHORTS.VAL", "2", "1", "-1"], "1 65535"),
    (["-a", "ULONGS", "1", "4294967296"], "0"),
    (["-a", "INT64S", "1", "1.5"], "1"),
    (["-a", "INT64S", "1", "9223372036854775808"], "-9223372036854775808"),
    (["-a", "UINT64S", "1", "-1"], "18446744073709551615"),
    (["-a", "UCHARS", "1", "-1"], "255"),
    (["-a", "ASUB.A", "1", "70000"], "4464"),
    (["ASUB.B", "4294967296"], "0"),
]


@pytest.mark.process
@pytest.mark.parametrize(("arguments", "stored"), TOO_WIDE, ids=lambda x: str(x)[:30])
def test_what_a_wider_type_of_channel_access_hides(
    strict_ioc: dict[str, str], arguments: list[str], stored: str
) -> None:
    """A number that the record's type cannot hold is refused; a server would change it."""
    name = next(word for word in arguments if word.isupper())

    def now() -> str:
        return run_cli("caget", "-t", "-s", "-w", "20", name, environment=strict_ioc).stdout

    before = now()
    done = run_cli("caput", "-c", "-w", "20", "--strict", *arguments, environment=strict_ioc)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{name}: nothing was written: " in done.stderr
    assert ("is not from" in done.stderr) is ("1.5" not in arguments)
    assert now() == before != stored


@pytest.mark.process
@pytest.mark.parametrize(
    "arguments",
    [
        ["USHORTS", "2", "65535", "0"], ["ULONGS", "2", "4294967295", "0"],
        ["INT64S", "2", "9007199254740993", "-9223372036854775808"],
        ["UINT64S", "2", "18446744073709551615", "1"], ["UCHARS", "2", "127", "0"],
        ["DOUBLES", "2", "-2", "4294967297"], ["ASUB.A", "2", "65535", "1"],
    ],
    ids=lambda x: x[0],
)  # fmt: skip
def test_arrays_take_what_their_type_can_hold(
    strict_ioc: dict[str, str], arguments: list[str]
) -> None:
    done = run_cli("caput", "-a", "-c", "-w", "20", "--strict", *arguments,
                   environment=strict_ioc)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    done = run_cli("caget", "-s", "-w", "20", arguments[0], environment=strict_ioc)
    assert done.stdout.split()[2:] == arguments[2:]


@pytest.mark.process
def test_a_char_takes_what_it_is_for_channel_access(strict_ioc: dict[str, str]) -> None:
    """A CHAR has no sign for some clients: 200 and -56 are the same byte."""
    for text in ("200", "-56"):
        done = run_cli("caput", "-a", "-c", "-w", "20", "--strict", "CHARS", "1", text,
                       environment=strict_ioc)  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.split()[-2:] == ["-56", "0"]


LAST: dict[str, object] = {}  # the values that these tests have written


@pytest.mark.process
@pytest.mark.parametrize(("arguments", "taken", "words"), TRAPS, ids=lambda x: str(x)[:20])
def test_refused(
    strict_ioc: dict[str, str], arguments: list[str], taken: object, words: str
) -> None:
    """With --strict nothing is written; without it, the value is another one, and no error."""
    options = ["--json", "-c", "-w", "20"]
    name = next(word for word in arguments if word.isupper())
    done = run_cli("caput", *options, "--strict", *arguments, environment=strict_ioc)
    assert done.returncode == 1
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    row = json.loads(done.stdout)
    assert row.keys() == {"name", "error"}
    assert row["error"] in done.stderr
    done = run_cli("caput", *options, *arguments, environment=strict_ioc)
    assert done.returncode == 0
    row = json.loads(done.stdout)
    assert LAST.get(name, row["old"]) == row["old"]  # not changed since the last test
    assert row["value"] == taken
    LAST[name] = row["value"]


@pytest.mark.process
@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["LONG", "-12"], -12), (["LONG", "0x1F"], 31), (["INT64", "9007199254740993"], 2.0**53),
        (["AO", "1e3"], 1000), (["AO", "010"], 10), (["AO", "-.5"], -0.5), (["AO", "nan"], "NaN"),
        (["MBBO", "On"], "On"), (["MBBO", "0"], "Off"), (["TEXT", "a text"], "a text"),
        (["-a", "LONGS", "2", "5", "6"], [5, 6, 0, 0]),
    ],
    ids=lambda x: str(x)[:20],
)  # fmt: skip
def test_written(strict_ioc: dict[str, str], arguments: list[str], value: object) -> None:
    done = run_cli("caput", "--json", "-c", "-w", "20", "--strict", *arguments,
                   environment=strict_ioc)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["value"] == value
    if arguments[0] == "INT64":  # exactly, though no double is this number
        done = run_cli("caget", "-t", "-s", "-w", "20", "INT64", environment=strict_ioc)
        assert done.stdout.strip() == arguments[1]


@pytest.mark.process
@pytest.mark.parametrize(
    ("arguments", "status", "error"),
    [
        (["NOTHING", "1"], 1, "not connected"),
        (["-c", "MBBO", "Sideways"], 1, "string value 'Sideways' invalid"),
        (["-c", "AO", "text"], 1, "the server reports that the write failed"),
        (["-c", "SLOW", "1"], 0, "timed out"),
        (["-c", "--strict", "SLOW:TOO", "1"], 1, "timed out"),
    ],
    ids=lambda x: str(x)[:20],
)
def test_json_of_a_write_that_fails(
    strict_ioc: dict[str, str], arguments: list[str], status: int, error: str
) -> None:
    """There is one object, with the error that is on stderr, too."""
    done = run_cli("caput", "--json", "-w", "2", *arguments, environment=strict_ioc)
    assert done.returncode == status
    assert done.stderr
    row = json.loads(done.stdout)
    assert row["name"] == arguments[-2]
    assert error in row["error"]


@pytest.mark.process
def test_time_stamps_in_json(strict_ioc: dict[str, str]) -> None:
    """null where the record has no time, though it was processed."""
    names = ["TSE:EVENT", "TSE:DEVICE", "LONG"]
    done = run_cli("caget", "-a", "-w", "20", "--json", *names, environment=strict_ioc)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["timestamp"] is None for row in rows] == [True, True, False]
    assert [row["severity"] for row in rows] == ["NO_ALARM"] * 3


# -- Without a server ------------------------------------------------------------------------------


@given(st.integers(-(2**31), 2**31 - 1))
def test_integers(number: int) -> None:
    assert checked("X", DBR_LONG, [str(number)]) == [number]
    assert checked("X", DBR_DOUBLE, [str(number), hex(number)]) == [number, number]


@given(st.floats(allow_nan=False))
def test_floats(number: float) -> None:
    assert checked("X", DBR_DOUBLE, [repr(number)]) == [number]
    assert checked("X.VAL", DBR_DOUBLE, [repr(number)], field_type="DOUBLE") == [number]


@pytest.mark.parametrize(
    ("datatype", "text"),
    [
        (DBR_LONG, "2147483648"), (DBR_SHORT, "-32769"), (DBR_CHAR, "256"), (DBR_CHAR, "-129"),
        (DBR_LONG, ""), (DBR_LONG, " 5"), (DBR_LONG, "5 "), (DBR_LONG, "nan"), (DBR_LONG, "1_0"),
        (DBR_DOUBLE, ""), (DBR_DOUBLE, "1_0"), (DBR_FLOAT, "0x"), (DBR_DOUBLE, "1e"),
        (DBR_ENUM, "2"), (DBR_ENUM, "-1"), (DBR_ENUM, "on"), (DBR_STRING, "ä" * 20),
        (DBR_LONG, "\u0661"),
    ],
)  # fmt: skip
def test_not_for_any_server(datatype: int, text: str) -> None:
    with pytest.raises(RefusedError, match="X: nothing was written"):
        checked("X", datatype, [text], ["Off", "On"])


@pytest.mark.parametrize(
    ("datatype", "texts", "needed"),
    [
        (DBR_DOUBLE, ["1", "1.5"], True), (DBR_DOUBLE, ["1", "-0x2"], True),
        (DBR_DOUBLE, ["1", str(2**32)], True), (DBR_DOUBLE, ["0", str(2**32 - 1)], False),
        (DBR_LONG, ["1", "70000"], True), (DBR_LONG, ["65535", "0"], False),
        (DBR_LONG, ["1.5"], False),  # it is refused in any case
        (DBR_CHAR, ["-1"], True), (DBR_CHAR, ["255"], False), (DBR_SHORT, ["-1"], False),
        (DBR_FLOAT, ["1.5"], False), (DBR_STRING, ["-1"], False),
    ],
)  # fmt: skip
def test_the_type_of_the_field_is_asked_for_where_it_matters(
    datatype: int, texts: list[str], needed: bool
) -> None:
    assert needs_field_type(datatype, texts) is needed


@pytest.mark.parametrize("name", field_types.RANGES)
def test_each_type_has_its_range(name: str) -> None:
    low, high = field_types.RANGES[name]
    datatype = {"UCHAR": DBR_CHAR, "USHORT": DBR_LONG}.get(name, DBR_DOUBLE)
    found = checked("X", datatype, [str(low), str(high)], field_type=name)
    assert [int(number) for number in found] == [low, high]
    for number in (low - 1, high + 1):
        assert needs_field_type(datatype, [str(number)])
        with pytest.raises(RefusedError, match=f"{number} is not from {low} to {high}"):
            checked("X", datatype, ["0", str(number)], field_type=name)


def test_the_fields_are_those_of_the_records_of_base() -> None:
    """The files of EPICS base say which fields that can be written have which type."""
    folder = Path(next(iter(epicscorelibs.__path__)), "dbd")
    found = {name: set[str]() for name in ("UCHAR", "USHORT", "ULONG", "INT64", "UINT64")}
    for file in [*folder.glob("*Record.dbd"), folder / "dbCommon.dbd"]:
        record = file.stem.removesuffix("Record").removesuffix("dbCommon")
        for name, kind, body in re.findall(
            r"field\((\w+), *DBF_(\w+)\)\s*\{(.*?)\n\s*\}", file.read_text(), re.DOTALL
        ):
            if kind in found and "SPC_NOMOD" not in body and name != "HASH":  # HASH: internal
                found[kind].add(f"{record}.{name}")
    known = {
        kind: {f"{r}.{name}" for r, names in fields.items() for name in names.split()}
        for kind, fields in field_types._FIELDS.items()
    }
    known["ULONG"].remove("histogram.VAL")  # no type in the file: the record sets it
    for kind, fields in found.items():  # an older base has fewer
        assert fields <= known.get(kind, set())


def test_records_of_64_bit_integers() -> None:
    with pytest.raises(RefusedError):
        checked("X", DBR_DOUBLE, ["1.5"], field_type="INT64")
    for text in (str(2**63 - 1), hex(2**63 - 1)):  # decimal digits are the same for every server
        assert checked("X", DBR_DOUBLE, [text], field_type="INT64") == [str(2**63 - 1)]
        assert checked("X", DBR_DOUBLE, [text]) == [str(2**63 - 1)]
