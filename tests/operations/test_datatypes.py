"""Augmented values: the result for each datatype and count."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import anyio
import numpy as np
import pytest

from aioca import (
    DBR_CHAR,
    DBR_CHAR_BYTES,
    DBR_CHAR_STR,
    DBR_CHAR_UNICODE,
    DBR_CLASS_NAME,
    DBR_DOUBLE,
    DBR_ENUM,
    DBR_ENUM_STR,
    DBR_FLOAT,
    DBR_LONG,
    DBR_PUT_ACKS,
    DBR_SHORT,
    DBR_STRING,
    FORMAT_CTRL,
    FORMAT_RAW,
    FORMAT_TIME,
    CAError,
    CANothing,
    CARequestError,
    caget,
    camonitor,
    caput,
)
from aioca.types import ca_array, ca_str
from tests.support.ids import shown
from tests.support.values import ALWAYS, CHAR_HAS_SIGN, FORMATS, attributes

pytestmark = pytest.mark.anyio


# -- Datatypes -------------------------------------------------------------------------------------
LABELS = (DBR_STRING, DBR_ENUM_STR, str)


@pytest.mark.parametrize(
    "pv,datatype,expected",
    [
        # libca's codes
        ("ai", DBR_DOUBLE, 1.5),
        ("ai", DBR_FLOAT, 1.5),
        ("ai", DBR_LONG, 1),
        ("ai", DBR_SHORT, 1),
        ("ai", DBR_CHAR, 1),
        ("ai", DBR_ENUM, 1),
        ("ai", DBR_STRING, "1.500"),
        ("longin", DBR_DOUBLE, -42.0),
        ("stringin", DBR_STRING, "hello"),
        # Python's types
        ("ai", int, 1),
        ("ai", bool, 1),
        ("ai", float, 1.5),
        ("ai", str, "1.500"),
        ("ai", bytes, b"1.500"),
        ("longin", float, -42.0),
        ("longin", str, "-42"),
        ("stringin", bytes, b"hello"),
        # numpy's dtypes
        ("longin", np.float32, -42.0),
        ("ai", np.int32, 1),
        ("ai", np.dtype("i2"), 1),
        ("ai", "float64", 1.5),
        ("ai", np.uint8, 1),
        ("ai", "U", "1.500"),
        ("ai", "S40", "1.500"),
        # labels of an enum, the native type of anything else
        *[("mbbi", datatype, "zwei µ") for datatype in LABELS],
        ("mbbi", bytes, "zwei µ".encode()),
        ("mbbi", DBR_ENUM, 2),
        ("bi", DBR_ENUM_STR, "Open"),
        ("bi", int, 1),
        ("ai", DBR_ENUM_STR, 1.5),
        ("stringin", DBR_ENUM_STR, "hello"),
        # long strings
        ("stringout.DESC$", str, "a description"),
        ("stringout.DESC$", bytes, b"a description"),
        ("stringout.DESC$", DBR_ENUM_STR, "a description"),
        ("stringout.DESC$", DBR_CHAR_STR, "a description"),
        ("stringout.DESC$", DBR_CHAR_UNICODE, "a description"),
        ("stringout.DESC$", DBR_CHAR_BYTES, b"a description"),
        ("wf:CHAR", str, ""),
        ("wf:CHAR", bytes, b""),
        ("wf:CHAR", DBR_CHAR_STR, ""),
    ],
    ids=shown,
)
async def test_datatype(p: str, pv: str, datatype: Any, expected: Any) -> None:
    for format in FORMATS:
        value: Any = await caget(p + pv, datatype=datatype, format=format)
        assert value == expected
        assert type(+value) is type(expected)


@pytest.mark.parametrize(
    "pv,datatype,expected,dtype",
    [
        ("wf:DOUBLE", int, [1, -2, 3], "i8"),
        ("wf:DOUBLE", DBR_LONG, [1, -2, 3], "i4"),
        ("wf:LONG", int, [1, -2, 3], "i8"),
        ("wf:LONG", "i2", [1, -2, 3], "i2"),
        ("wf:USHORT", np.uint16, [1, 2, 3], "u2"),
        ("wf:ULONG", np.uint32, [1, 2, 3], "u4"),
        ("wf:UINT64", np.uint64, [1, 2, 3], "u8"),
        ("wf:DOUBLE", bool, [True, True, True], "?"),
        ("wf:DOUBLE", np.float32, [1.5, -2.5, 3], "f4"),
        ("wf:DOUBLE", str, ["1.5000", "-2.5000", "3.0000"], "U7"),
        ("wf:DOUBLE", bytes, [b"1.5000", b"-2.5000", b"3.0000"], "S7"),
        ("wf:LONG", DBR_STRING, ["1", "-2", "3"], "U2"),
        ("wf:LONG", DBR_ENUM_STR, [1, -2, 3], "i4"),
        ("wf:LONG", np.int8, [1, -2, 3], "i1"),
        ("wf:ULONG", DBR_CHAR, [1, 2, 3], "u1"),
        ("wf:STRING", bytes, [b"ab", "cdé".encode(), b""], "S4"),
        ("wf:empty", str, [], "U1"),
        ("ai.EGU$", DBR_CHAR, [*b"mm"], "u1"),
        ("stringin.VAL$", DBR_CHAR, [*b"hello"], "u1"),
    ],
    ids=shown,
)
async def test_datatype_of_an_array(
    p: str, pv: str, datatype: Any, expected: list[Any], dtype: str
) -> None:
    value: Any = await caget(p + pv, datatype=datatype)
    assert value.dtype == dtype
    if pv.endswith("$"):  # the reply includes the NUL
        value = value[: len(expected)]
    assert value.tolist() == expected


@pytest.mark.parametrize(
    ("pv", "written", "datatype", "expected"),
    [
        # Numbers that 32 bits cannot hold: None means an error
        ("put:int64out", 2**40 + 5, int, 2**40 + 5),
        ("put:int64out", 2**40 + 5, np.int64, 2**40 + 5),
        ("put:int64out", -(2**53) + 1, "int64", -(2**53) + 1),
        ("put:int64out", 2**53 + 1, int, None),
        ("put:int64out", -(2**53), np.int64, None),
        ("put:int64out", 2**53 + 1, str, "9007199254740993"),
        ("put:int64out", 2**40 + 5, np.int32, None),
        ("put:int64out", 2**40 + 5, DBR_LONG, None),
        ("put:int64out", 2**40, bool, 1),
        ("put:ao", 3e9, int, 3_000_000_000),
        ("put:ao", 3e9, np.uint32, 3_000_000_000),
        ("put:ao", 3e9, np.int32, None),
        ("put:ao", 3e9, DBR_LONG, None),
        ("put:ao", 3e9, np.uint16, None),
        ("put:ao", 1e300, int, None),
        ("put:ao", 1e300, np.float32, None),
        ("put:ao", 1e300, DBR_FLOAT, None),
        ("put:ao", math.nan, int, None),
        ("put:ao", math.inf, DBR_SHORT, None),
        ("put:ao", math.inf, np.float32, math.inf),
        # The fraction is cut off, as in C
        ("put:ao", 1.7, int, 1),
        ("put:ao", -1.7, DBR_SHORT, -1),
        ("put:ao", -0.9, np.uint8, 0),
        ("put:ao", 65535.9, np.uint16, 65535),
        ("put:ao", 0.5, bool, 1),
        ("put:longout", -70000, np.int16, None),
        ("put:longout", -70000, DBR_CHAR, None),
        ("put:longout", -70000, DBR_ENUM, None),
        ("put:longout", -1, np.uint32, None),
        ("put:longout", 256, bool, 1),
        ("put:mbbo", 40000, DBR_SHORT, None),
        ("put:mbbo", 40000, int, 40000),
        ("put:mbbo", 40000, np.uint16, 40000),
        ("put:stringout", "3000000000", int, 3_000_000_000),
        ("put:stringout", "3000000000", DBR_LONG, None),
        ("put:wf:ULONG", [0xFFFFFFFF, 1], np.uint32, [0xFFFFFFFF, 1]),
        ("put:wf:ULONG", [0xFFFFFFFF, 1], int, [0xFFFFFFFF, 1]),
        ("put:wf:ULONG", [1, 0xFFFFFFFF], np.int32, None),
        ("put:wf:USHORT", [65535, 1], np.uint16, [65535, 1]),
        ("put:wf:USHORT", [65535, 1], np.int16, None),
        ("put:wf:CHAR", [200, 1], np.int8, [-56, 1]),
        ("put:wf:CHAR", [-56, 1], np.int16, [-56 if CHAR_HAS_SIGN else 200, 1]),
        ("put:wf:CHAR", [-56, 1], np.uint8, [200, 1]),
        ("put:wf:CHAR", [-56, 1], np.uint16, None if CHAR_HAS_SIGN else [200, 1]),
        ("put:wf:UCHAR", [200, 1], int, [200, 1]),
        ("put:wf:INT64", [2**40, -1], np.int64, [2**40, -1]),
        ("put:wf:DOUBLE", [-0.9, 3e9], np.uint64, [0, 3_000_000_000]),
        ("put:wf:DOUBLE", [0, math.nan], int, None),
        ("put:wf:DOUBLE", [1e300], np.float32, None),
        ("put:wf:FLOAT", [1.5, -2.5], int, [1, -2]),
    ],
    ids=shown,
)
async def test_never_a_wrong_number(
    p: str, pv: str, written: Any, datatype: Any, expected: Any
) -> None:
    pv = p + pv
    await caput(pv, written, wait=True)
    for format in FORMATS:
        if expected is None:
            with pytest.raises(CARequestError, match=r"does not fit|stands for several") as caught:
                await caget(pv, datatype=datatype, format=format)
            assert caught.value.name == pv
            (nothing,) = await caget([pv], datatype=datatype, format=format, throw=False)
            assert type(nothing) is CANothing
        else:
            value: Any = await caget(pv, datatype=datatype, format=format)
            assert (value.tolist() if isinstance(value, np.ndarray) else value) == expected
            assert hasattr(value, "severity") == (format != FORMAT_RAW)
        with anyio.fail_after(5):
            async with camonitor(
                pv, datatype=datatype, format=format, notify_disconnect=True
            ) as updates:
                update: Any = await anext(updates)
        assert update.ok == (expected is not None)
        if update.ok:
            assert (update.tolist() if isinstance(update, np.ndarray) else update) == expected
            assert getattr(update, "dtype", 0) == getattr(value, "dtype", 0)
            assert update.datatype == value.datatype
    with contextlib.suppress(CAError):
        await caput(pv, [0] if "wf" in pv else 0, wait=True)


@pytest.mark.parametrize(
    ("datatype", "code"),
    [(int, DBR_LONG), (np.int64, DBR_LONG), (np.uint16, DBR_SHORT), (DBR_LONG, DBR_LONG),
     (DBR_CHAR, DBR_CHAR), (np.int8, DBR_CHAR), (np.float32, DBR_FLOAT), (DBR_ENUM, DBR_ENUM)],
    ids=shown,
)  # fmt: skip
async def test_datatype_attribute_is_of_the_value(p: str, datatype: Any, code: int) -> None:
    """The DBR type nearest to the requested datatype, though the request was for a double."""
    value: Any = await caget(p + "ai", datatype=datatype, format=FORMAT_CTRL)
    assert value.datatype == code
    # The limits are doubles
    assert (value.upper_disp_limit, value.precision) == (100.0, 3)


@pytest.mark.parametrize(
    "datatype,error",
    [
        (complex, TypeError),
        ("nonsense", TypeError),
        (object(), TypeError),
        (dict, TypeError),
        (7, ValueError),
        (-1, ValueError),
        (1234, ValueError),
        (DBR_PUT_ACKS, ValueError),
    ],
    ids=shown,
)
async def test_datatype_that_is_none(p: str, datatype: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="datatype"):
        await caget(p + "ai", datatype=datatype)


@pytest.mark.parametrize("format", [3, -1, "time", None])
async def test_format_that_is_none(p: str, format: Any) -> None:
    with pytest.raises(ValueError, match="format"):
        await caget(p + "ai", format=format)


async def test_long_string_beyond_40_characters(p: str) -> None:
    text = "µ" * 60 + "x" * 70
    await caput(p + "put:lso.VAL$", text, wait=True)
    for datatype in (None, str, DBR_CHAR_STR, DBR_CHAR_UNICODE, DBR_ENUM_STR):
        value: Any = await caget(p + "put:lso.VAL$", datatype=datatype, format=FORMAT_TIME)
        assert (value, value.datatype, value.element_count) == (text, DBR_CHAR, 200)
        assert value.severity == 0
    assert await caget(p + "put:lso.VAL$", datatype=bytes) == text.encode()  # type: ignore[comparison-overlap]
    # Without the $ it is a string of 40 bytes, here cut within a character
    short: Any = await caget(p + "put:lso")
    assert text.startswith(short.rstrip("\N{REPLACEMENT CHARACTER}"))
    assert len(short.encode()) >= 38


async def test_char_array_as_text(p: str) -> None:
    await caput(p + "put:wf:CHAR", [*"grün".encode(), 0, 65], wait=True)
    pv = p + "put:wf:CHAR"
    assert (await caget(pv, datatype=str)) == "grün"  # type: ignore[comparison-overlap]
    assert (await caget(pv, datatype=bytes)) == "grün".encode()  # type: ignore[comparison-overlap]
    numbers: Any = await caget(pv)
    assert bytes(numbers) == "grün".encode() + b"\0A"
    await caput(pv, [0xFF, 65], wait=True)
    assert (await caget(pv, datatype=str)) == "\N{REPLACEMENT CHARACTER}A"  # type: ignore[comparison-overlap]
    assert (await caget(pv, datatype=bytes)) == b"\xffA"  # type: ignore[comparison-overlap]


@pytest.mark.parametrize("pv", ["ai", "wf:DOUBLE", "lsi", "mbbi"])
async def test_class_name(p: str, pv: str) -> None:
    value: Any = await caget(p + pv, datatype=DBR_CLASS_NAME)
    assert value == await caget(p + pv + ".RTYP")
    assert type(value) is ca_str
    assert attributes(value).keys() == ALWAYS


# -- Count -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pv,count,expected",
    [
        ("wf:DOUBLE", 0, [1.5, -2.5, 3]),
        ("wf:DOUBLE", -1, [1.5, -2.5, 3, 0, 0]),
        ("wf:DOUBLE", 1, [1.5]),
        ("wf:DOUBLE", 2, [1.5, -2.5]),
        ("wf:DOUBLE", 4, [1.5, -2.5, 3, 0]),
        ("wf:DOUBLE", 5, [1.5, -2.5, 3, 0, 0]),
        ("wf:DOUBLE", 1_000_000, [1.5, -2.5, 3, 0, 0]),
        ("wf:empty", 0, []),
        ("wf:empty", -1, [0] * 5),
        ("wf:empty", 2, [0, 0]),
        ("wf:STRING", 0, ["ab", "cdé", ""]),
        ("wf:STRING", -1, ["ab", "cdé", "", "", ""]),
        ("wf:STRING", 1, ["ab"]),
    ],
)
async def test_count(p: str, pv: str, count: int, expected: list[Any]) -> None:
    """A PV with a native count above one gives an array, even with one or no element."""
    for format in FORMATS:
        value: Any = await caget(p + pv, count=count, format=format)
        assert type(value) is ca_array
        assert value.tolist() == expected
        assert value.element_count == 5


@pytest.mark.parametrize("count", [0, -1, 1, 7])
@pytest.mark.parametrize("pv,expected", [("ai", 1.5), ("stringin", "hello"), ("wf:one", 0.0)])
async def test_count_of_a_scalar(p: str, pv: str, expected: object, count: int) -> None:
    assert await caget(p + pv, count=count) == expected


@pytest.mark.parametrize("count", [-2, 1.5, "1", None])
async def test_count_that_is_none(p: str, count: Any) -> None:
    with pytest.raises(ValueError, match="count"):
        await caget(p + "ai", count=count)
