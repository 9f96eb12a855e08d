"""caput of one value: it arrives unchanged, or is refused with an error that says why."""

from __future__ import annotations

import logging
import math
from typing import Any, NamedTuple

import anyio
import numpy as np
import pytest

from aioca import (
    DBR_CHAR,
    DBR_CHAR_STR,
    DBR_DOUBLE,
    DBR_ENUM_STR,
    DBR_LONG,
    DBR_STRING,
    FORMAT_TIME,
    CAAccessDenied,
    CANothing,
    CARequestError,
    CAValueError,
    caget,
    caput,
    purge_channel_caches,
)
from tests.support.ids import shown
from tests.support.puts import ECA_NOWTACCESS, ECA_PUTFAIL, plain

pytestmark = pytest.mark.anyio

ECA_BADCOUNT = 176
ECA_BADSTR = 186


# -- One PV ----------------------------------------------------------------------------------------


class Case(NamedTuple):
    """A value to write to a record of the block ``put:``, and the value to read back."""

    pv: str
    value: Any
    expected: Any = ...

    def __str__(self) -> str:
        return f"{self.pv}={self.value!r}"[:40]


CASES = [
    Case("ai", 1.25),
    Case("ao", -2.5),
    Case("ao", 3, 3.0),
    Case("ao", True, 1.0),
    Case("ao", "4.5", 4.5),
    Case("ao", b"5.5", 5.5),
    Case("ao", np.float32(1.5), 1.5),
    Case("ao", np.int16(-2), -2.0),
    Case("ao", np.array(2.25), 2.25),
    Case("ao", [6.5], 6.5),
    Case("longin", -7),
    Case("longout", 2**31 - 1),
    Case("longout", -(2**31)),
    Case("longout", np.uint8(200), 200),
    Case("longout", "12", 12),
    Case("longout", 5.0, 5),
    Case("int64out", -4294967296, -4294967296.0),
    Case("bi", 1),
    Case("bi", "Closed", 0),
    Case("bo", "On", 1),
    Case("bo", True, 1),
    Case("bo", False, 0),
    Case("mbbi", "zwei µ", 2),
    Case("mbbo", b"Manual", 1),
    Case("mbbo", 2),
    Case("mbbo", "2", 2),
    Case("stringin", "hallo"),
    Case("stringout", "grün µ"),
    Case("stringout", "x" * 39),
    Case("stringout", ""),
    Case("stringout", 1.5, "1.5"),
    Case("stringout", b"bytes", "bytes"),
    Case("lsi", "short"),
    Case("lso", "y" * 39),
    Case("lso.VAL$", "µ" * 99),
    Case("lso.VAL$", "z" * 41),
    Case("stringout.DESC$", "described"),
    Case("wf:STRING", ["a", "", "µ"]),
    Case("wf:STRING", ["one"]),
    Case("wf:STRING", np.array([b"n", b"p"]), ["n", "p"]),
    Case("wf:STRING", [1, 2.5], ["1", "2.5"]),
    Case("wf:CHAR", [0, 1, 255]),
    Case("wf:CHAR", [-1], [255]),
    Case("wf:CHAR", "text", [*b"text"]),
    Case("wf:CHAR", b"\0\xff", [0, 255]),
    Case("wf:UCHAR", np.array([1, 200], "u1"), [1, 200]),
    Case("wf:SHORT", [-32768, 32767]),
    Case("wf:USHORT", [0, 65535]),
    Case("wf:LONG", (-(2**31), 2**31 - 1), [-(2**31), 2**31 - 1]),
    Case("wf:ULONG", [0, 2**32 - 1]),
    Case("wf:INT64", [-(2**53), 2**53]),
    Case("wf:UINT64", [0, 2**53]),
    Case("wf:FLOAT", [1.5, math.inf]),
    Case("wf:FLOAT", np.array([0.5, 1.5], "f8"), [0.5, 1.5]),
    Case("wf:DOUBLE", [1e308, -math.inf, 0.0]),
    Case("wf:DOUBLE", range(3), [0, 1, 2]),
    Case("wf:DOUBLE", 7, [7]),
    Case("wf:DOUBLE", "8.5", [8.5]),
    Case("wf:DOUBLE", ["1.5", "2"], [1.5, 2]),
    Case("wf:DOUBLE", np.arange(10.0)[::3], [0, 3, 6, 9]),
    Case("wf:DOUBLE", np.array([1, 2], ">f8"), [1, 2]),
    Case("wf:ENUM", [0, 1, 65535]),
    # The texts of a list go to the server, which reads them as it reads one text
    Case("wf:LONG", ["0x10", "010", "2.9"], [16, 8, 2]),
    Case("wf:DOUBLE", ["1_0", 2.5], [1, 2.5]),
    Case("longout", ["010"], 8),
]


@pytest.mark.parametrize("case", CASES, ids=shown)
async def test_comes_back(p: str, case: Case) -> None:
    pv = p + "put:" + case.pv
    done = await caput(pv, case.value, wait=True)
    assert type(done) is CANothing
    assert done
    assert (done.name, done.ok, done.errorcode) == (pv, True, 1)
    expected = case.value if case.expected is ... else case.expected
    assert plain(await caget(pv)) == expected


async def test_comes_back_without_wait(p: str) -> None:
    """A server handles the requests on one circuit in order."""
    for number in range(10):
        assert await caput(p + "put:ao", number)
        assert await caget(p + "put:ao") == number


async def test_writing_starts_processing(p: str) -> None:
    await caput(p + "put:calc.A", 21, wait=True)
    assert await caget(p + "put:calc") == 42


@pytest.mark.parametrize(
    "pv,value,datatype,expected",
    [
        ("ao", "2.5", float, 2.5),
        ("ao", "2.5", DBR_DOUBLE, 2.5),
        ("ao", 2, DBR_LONG, 2.0),
        ("ao", 2.5, str, 2.5),
        ("ao", 2.5, DBR_STRING, 2.5),
        ("ao", 2.5, np.float32, 2.5),
        ("mbbo", "Automatic", DBR_ENUM_STR, 2),
        ("mbbo", 1, DBR_ENUM_STR, 1),
        ("stringout", "text", str, "text"),
        ("stringout.DESC$", "text", DBR_CHAR_STR, "text"),
        ("stringout.DESC$", [65, 66, 0], DBR_CHAR, "AB"),
        ("wf:CHAR", "text", DBR_CHAR_STR, [*b"text"]),
        ("wf:DOUBLE", [1.5, 2.5], int, [1, 2]),
        ("wf:DOUBLE", [1.5, 2.5], DBR_STRING, [1.5, 2.5]),
    ],
)
async def test_datatype(p: str, pv: str, value: Any, datatype: Any, expected: Any) -> None:
    await caput(p + "put:" + pv, value, datatype=datatype, wait=True)
    assert plain(await caget(p + "put:" + pv)) == expected


@pytest.mark.parametrize("number", [2**53 + 1, 2**63 - 1, -(2**63), -(2**53) - 1])
@pytest.mark.parametrize("kind", [int, np.int64, "object array"], ids=shown)
async def test_64_bit_integers_are_exact(p: str, number: int, kind: Any) -> None:
    value = np.array([np.int64(number)], object) if kind == "object array" else kind(number)
    await caput(p + "put:int64out", value, wait=True)
    # As a double it would be equal to its neighbours
    assert +await caget(p + "put:int64out", datatype=str) == str(number)


@pytest.mark.parametrize(
    "numbers",
    [
        [2**60 + 1, -(2**62) - 1],
        [str(2**63 - 1), str(2**53 + 1)],
        np.array([np.int64(2**53 + 1), np.uint64(2**62 + 1)], object),
        [True, 2**53 + 1],
        np.array([True, 2**53 + 1], object),
    ],
    ids=shown,
)
async def test_64_bit_integers_in_an_array_are_exact(p: str, numbers: Any) -> None:
    await caput(p + "put:wf:INT64", numbers, wait=True)
    expected = [str(int(number)) for number in numbers]
    assert plain(await caget(p + "put:wf:INT64", datatype=str)) == expected


async def test_nan(p: str) -> None:
    await caput(p + "put:ao", math.nan, wait=True)
    assert math.isnan(plain(await caget(p + "put:ao")))


@pytest.mark.parametrize(
    "pv,datatype,text",
    [("stringout.DESC$", None, ""), ("lso.VAL$", None, ""), ("wf:CHAR", str, "")],
)
async def test_empty_string(p: str, pv: str, datatype: Any, text: str) -> None:
    pv = p + "put:" + pv
    await caput(pv, "something", wait=True)
    await caput(pv, text, wait=True)
    assert plain(await caget(pv, datatype=datatype)) == ""


async def test_shorter_long_string_leaves_nothing_of_the_longer(p: str) -> None:
    for pv in ("lso.VAL$", "stringout.DESC$", "wf:CHAR"):
        await caput(p + "put:" + pv, "something long", wait=True)
        await caput(p + "put:" + pv, "short", wait=True)
        assert plain(await caget(p + "put:" + pv, datatype=str)) == "short"


@pytest.mark.parametrize("nothing", [[], (), np.array([]), np.array([], "i4")], ids=repr)
async def test_no_elements(p: str, nothing: Any) -> None:
    await caput(p + "put:wf:DOUBLE", [1, 2, 3], wait=True)
    await caput(p + "put:wf:DOUBLE", nothing, wait=True)
    assert plain(await caget(p + "put:wf:DOUBLE")) == []
    assert +await caget(p + "put:wf:DOUBLE.NORD") == 0


@pytest.mark.parametrize("connected", [True, False], ids=["connected", "not yet"])
@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize("record", ["ao", "longout", "mbbo", "stringout", "wf:one"])
async def test_no_elements_for_a_scalar(p: str, record: str, wait: bool, connected: bool) -> None:
    """A server would process the record, keep its value and report success."""
    pv = p + ("wf:one" if record == "wf:one" else "put:" + record)
    before: Any = None
    if connected:
        before = await caget(pv, format=FORMAT_TIME)
    for nothing in ([], np.array([])):
        with pytest.raises(CAValueError, match=f"{pv}: .*no element") as caught:
            await caput(pv, nothing, wait=wait)
        assert caught.value.errorcode == ECA_BADCOUNT
        result = await caput(pv, nothing, wait=wait, throw=False)
        assert type(result) is CANothing and not result
    if connected:  # the record was not processed either
        assert (await caget(pv, format=FORMAT_TIME)).raw_stamp == before.raw_stamp


class _Broken:
    def __float__(self) -> float:
        raise ZeroDivisionError("broken on purpose")


@pytest.mark.parametrize("connected", [True, False], ids=["connected", "not yet"])
@pytest.mark.parametrize(
    "value",
    [_Broken(), [_Broken()], np.ma.array([1.0], mask=[True]), np.ma.masked],
    ids=["raises", "list", "masked", "masked scalar"],
)
async def test_the_same_error_before_and_after_connecting(
    p: str, nothing_written: None, value: Any, connected: bool
) -> None:
    """An invalid value gives a CAValueError with the PV; `throw` applies to it."""
    pvs = [p + "ao:a", p + "ao:b"]
    if not connected:
        purge_channel_caches()
    for wait in (False, True):
        with pytest.raises(CAValueError, match=f"^{pvs[1]}: ") as caught:
            await caput(pvs[1], value, wait=wait)
        assert caught.value.name == pvs[1]
        if not connected:
            purge_channel_caches()
        good, bad = await caput(pvs, [await caget(pvs[0]), value], wait=wait, throw=False)
        assert good
        assert type(bad) is CANothing and not bad and bad.name == pvs[1]
        if not connected:
            purge_channel_caches()


async def test_a_masked_element_for_one_of_many(p: str, nothing_written: None) -> None:
    pvs = [p + "ao:a", p + "ao:b", p + "ao:c"]
    values = np.ma.array([1.0, 2.0, 3.0], mask=[False, True, False])
    with pytest.raises(CAValueError, match="masked") as caught:
        await caput(pvs, values, wait=True)
    assert [failure.name for failure in caught.value.failures] == [pvs[1]]


async def test_a_million_doubles(p: str) -> None:
    sent = np.random.default_rng().random(1_000_000)
    await caput(p + "wf:big", sent, wait=True, timeout=20)
    got: Any = await caget(p + "wf:big", timeout=20)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, sent)
    await caput(p + "wf:big", [], wait=True)


async def test_array_may_change_once_caput_is_back(p: str) -> None:
    """libca copies the array, also without wait."""
    array = np.arange(1000.0)
    await caput(p + "wf:scratch", array)
    array[:] = -1
    got: Any = await caget(p + "wf:scratch")
    np.testing.assert_array_equal(got, np.arange(1000.0))
    await caput(p + "wf:scratch", [], wait=True)


@pytest.mark.parametrize(
    "pv,value,datatype",
    [
        ("ao", 1.5, None),
        ("longout", 4, None),
        ("mbbo", 2, None),
        ("mbbo", "Manual", DBR_ENUM_STR),
        ("stringout", "grün", None),
        ("stringout", "grün", bytes),
        ("lso.VAL$", "x" * 60, None),
        ("lso.VAL$", "x" * 60, bytes),
        ("wf:CHAR", "text", None),
        ("wf:CHAR", "text", str),
        ("wf:CHAR", "text", bytes),
        ("wf:DOUBLE", [1.5, 2.5], None),
        ("wf:DOUBLE", [1.5, 2.5], str),
        ("wf:DOUBLE", [], None),
        ("wf:STRING", ["a", "µ"], None),
        ("wf:STRING", ["a", "µ"], bytes),
        ("wf:ENUM", [0, 1], None),
    ],
)
async def test_augmented_value_is_put_back(p: str, pv: str, value: Any, datatype: Any) -> None:
    pv = p + "put:" + pv
    await caput(pv, value, wait=True)
    before: Any = await caget(pv, datatype=datatype, format=FORMAT_TIME)
    await caput(pv, 0 if isinstance(value, (int, float)) else [] if "wf" in pv else "", wait=True)
    await caput(pv, before, wait=True)
    after: Any = await caget(pv, datatype=datatype, format=FORMAT_TIME)
    assert type(after) is type(before)
    assert plain(after) == plain(before)
    assert after.timestamp_ns > before.timestamp_ns


# -- Values that aioca refuses ---------------------------------------------------------------------


@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize(
    "pv,value,status",
    [
        ("stringout", "x" * 40, ECA_BADSTR),
        ("ao", "x" * 40, ECA_BADSTR),
        ("wf:STRING", ["x" * 40], ECA_BADSTR),
        ("ao", [1, 2], ECA_BADCOUNT),
        ("wf:DOUBLE", [0] * 6, ECA_BADCOUNT),
        ("wf:CHAR", "x" * 101, ECA_BADCOUNT),
        ("wf:DOUBLE", np.zeros((2, 2)), ECA_BADCOUNT),
        ("lso.VAL$", "x" * 201, ECA_BADCOUNT),
        ("ao", None, None),
        ("stringout", None, None),
        ("wf:DOUBLE", [1.0, None], None),
        ("longout", math.nan, None),
        ("longout", math.inf, None),
        ("longout", 2**31, None),
        ("longout", -(2**31) - 1, None),
        ("wf:SHORT", [40000], None),
        ("wf:USHORT", [math.nan], None),
        ("bo", -1, None),
        ("ao", 1j, None),
        ("ao", object(), None),
        ("ao", {"a": 1}, None),
    ],
)  # fmt: skip
async def test_refused_before_it_is_sent(
    p: str, pv: str, value: Any, status: int | None, wait: bool
) -> None:
    pv = p + "put:" + pv
    before: Any = await caget(pv, format=FORMAT_TIME)
    with pytest.raises(CAValueError) as caught:
        await caput(pv, value, wait=wait)
    assert caught.value.name == pv
    assert caught.value.errorcode == status or status is None
    assert str(caught.value).startswith(f"{pv}: ")
    nothing = await caput(pv, value, wait=wait, throw=False)
    assert type(nothing) is CANothing
    assert not nothing
    assert nothing.errorcode == caught.value.errorcode
    after: Any = await caget(pv, format=FORMAT_TIME)
    np.testing.assert_array_equal(plain(after), plain(before))
    assert after.raw_stamp == before.raw_stamp


async def test_refused_before_it_is_sent_also_when_not_yet_connected(p: str) -> None:
    with pytest.raises(CAValueError, match=r"put:longout: .*outside"):
        await caput(p + "put:longout", 2**31)


async def test_string_too_long_says_what_to_do(p: str) -> None:
    with pytest.raises(CAValueError, match=r"41 bytes, but a string holds 39.*long string.*\$"):
        await caput(p + "put:stringout", "x" * 41)


@pytest.mark.parametrize("datatype", [38, 37, complex, "nonsense", 1234])
async def test_datatype_that_is_none(p: str, datatype: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="datatype"):
        await caput(p + "put:ao", 1, datatype=datatype)


# -- Values that the server refuses ----------------------------------------------------------------
REFUSED_BY_SERVER = [("put:mbbo", "Nonsense"), ("put:ao", "abc"), ("ao:disabled", 1.0)]


@pytest.mark.parametrize("pv,value", REFUSED_BY_SERVER)
async def test_refused_by_the_server(p: str, pv: str, value: Any) -> None:
    with pytest.raises(CARequestError, match="refused") as caught:
        await caput(p + pv, value, wait=True)
    assert not isinstance(caught.value, CAValueError)
    assert (caught.value.name, caught.value.errorcode) == (p + pv, ECA_PUTFAIL)
    nothing = await caput(p + pv, value, wait=True, throw=False)
    assert (type(nothing), nothing.errorcode) == (CANothing, ECA_PUTFAIL)


@pytest.mark.parametrize("pv,value", REFUSED_BY_SERVER)
async def test_refused_by_the_server_without_wait_is_logged(
    p: str, pv: str, value: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    def records() -> list[logging.LogRecord]:
        return [r for r in caplog.records if r.name == "aioca" and r.levelno >= logging.WARNING]

    assert await caput(p + pv, value)
    for _ in range(2):
        await caget(p + pv)  # earlier updates have arrived and are queued for the loop
        with anyio.fail_after(5):
            while not records():
                await anyio.sleep(0)
    assert len(records()) == 1
    assert p + pv in records()[0].getMessage()
    assert "CA.Client" not in capfd.readouterr().err


@pytest.mark.parametrize("wait", [False, True])
async def test_no_write_access(p: str, wait: bool) -> None:
    with pytest.raises(CAAccessDenied) as caught:
        await caput(p + "ao:readonly", 1, wait=wait)
    assert caught.value.errorcode == ECA_NOWTACCESS
    assert p + "ao:readonly" in str(caught.value)
    assert not await caput(p + "ao:readonly", 1, wait=wait, throw=False)
    assert +await caget(p + "ao:readonly") == 7


async def test_enum_index_beyond_its_labels_is_accepted(p: str) -> None:
    """The server accepts the index, so the client does not refuse it."""
    try:
        await caput(p + "put:mbbo", 9, wait=True)
        assert +await caget(p + "put:mbbo") == 9
    finally:
        await caput(p + "put:mbbo", 0, wait=True)
