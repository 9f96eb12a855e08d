"""Augmented values: the result for each record type, datatype, format and count."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import pickle
import pickletools
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

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
    DBR_PUT_ACKT,
    DBR_SHORT,
    DBR_STRING,
    DBR_STSACK_STRING,
    ECA,
    FORMAT_CTRL,
    FORMAT_RAW,
    FORMAT_TIME,
    CAError,
    CAInfo,
    CANothing,
    CARequestError,
    CATimeout,
    ChannelInfo,
    ca_extra_fields,
    caget,
    cainfo,
    camonitor,
    caput,
    run,
)
from aioca._errors import Failure, error_for
from aioca.types import Alarm, AugmentedValue, ca_array, ca_bytes, ca_float, ca_int, ca_str
from conftest import shown

pytestmark = pytest.mark.anyio

FORMATS = [FORMAT_RAW, FORMAT_TIME, FORMAT_CTRL]

ALWAYS = {"name", "ok", "datatype", "element_count"}
ALARM = {"status", "severity", "alarm"}
TIME = ALARM | {"raw_stamp", "timestamp", "timestamp_ns", "datetime", "datetime_utc"}
LIMITS = {
    f"{side}_{what}_limit"
    for side in ("upper", "lower")
    for what in ("disp", "alarm", "warning", "ctrl")
}
NUMBER = ALARM | LIMITS | {"units"}
EVERY = ALWAYS | TIME | NUMBER | {"precision", "enums", "label", "ackt", "acks"}
CTRL = {
    # DBR_CTRL_STRING has no further fields, so DBR_TIME_STRING is requested.
    DBR_STRING: TIME,
    DBR_ENUM: ALARM | {"enums", "label"},
    DBR_SHORT: NUMBER,
    DBR_CHAR: NUMBER,
    DBR_LONG: NUMBER,
    DBR_FLOAT: NUMBER | {"precision"},
    DBR_DOUBLE: NUMBER | {"precision"},
}


class Case(NamedTuple):
    """A PV and the expected value."""

    pv: str
    kind: type
    datatype: int
    value: Any
    count: int = 1
    dtype: str = ""


CASES = [
    Case("ai", ca_float, DBR_DOUBLE, 1.5),
    Case("ao", ca_float, DBR_DOUBLE, 2.5),
    Case("longin", ca_int, DBR_LONG, -42),
    Case("longout", ca_int, DBR_LONG, 42),
    Case("int64out", ca_float, DBR_DOUBLE, 4294967296.0),
    Case("bi", ca_int, DBR_ENUM, 1),
    Case("bo", ca_int, DBR_ENUM, 0),
    Case("mbbi", ca_int, DBR_ENUM, 2),
    Case("mbbo", ca_int, DBR_ENUM, 0),
    Case("stringin", ca_str, DBR_STRING, "hello"),
    Case("stringout", ca_str, DBR_STRING, "out"),
    Case("lsi", ca_str, DBR_STRING, ""),
    Case("lso", ca_str, DBR_STRING, ""),
    Case("calc", ca_float, DBR_DOUBLE, 7.0),
    Case("ai.PREC", ca_int, DBR_SHORT, 3),
    Case("ai.RTYP", ca_str, DBR_STRING, "ai"),
    Case("ai.EGU$", ca_str, DBR_CHAR, "mm", 16),
    Case("stringout.DESC$", ca_str, DBR_CHAR, "a description", 41),
    Case("stringin.VAL$", ca_str, DBR_CHAR, "hello", 40),
    Case("lsi.VAL$", ca_str, DBR_CHAR, "", 200),
    Case("wf:STRING", ca_array, DBR_STRING, ["ab", "cdé", ""], 5, "<U3"),
    Case("wf:CHAR", ca_array, DBR_CHAR, [], 100, "u1"),
    Case("wf:UCHAR", ca_array, DBR_CHAR, [], 100, "u1"),
    Case("wf:SHORT", ca_array, DBR_SHORT, [1, -2, 3], 5, "i2"),
    Case("wf:USHORT", ca_array, DBR_LONG, [1, 2, 3], 5, "i4"),
    Case("wf:LONG", ca_array, DBR_LONG, [1, -2, 3], 5, "i4"),
    Case("wf:ULONG", ca_array, DBR_DOUBLE, [1, 2, 3], 5, "f8"),
    Case("wf:INT64", ca_array, DBR_DOUBLE, [1, -2, 3], 5, "f8"),
    Case("wf:UINT64", ca_array, DBR_DOUBLE, [1, 2, 3], 5, "f8"),
    Case("wf:FLOAT", ca_array, DBR_FLOAT, [1.5, -2.5, 3], 5, "f4"),
    Case("wf:DOUBLE", ca_array, DBR_DOUBLE, [1.5, -2.5, 3], 5, "f8"),
    Case("wf:ENUM", ca_array, DBR_ENUM, [], 5, "u2"),
    Case("wf:empty", ca_array, DBR_DOUBLE, [], 5, "f8"),
    Case("wf:one", ca_float, DBR_DOUBLE, 0.0),
    # With a filter of the server, the native count is the length of the result
    Case("wf:DOUBLE.[0:1]", ca_array, DBR_DOUBLE, [1.5, -2.5], 2, "f8"),
    Case("wf:DOUBLE.[1:1]", ca_float, DBR_DOUBLE, -2.5),
    Case("wf:LONG.[-2:-1]", ca_array, DBR_LONG, [0, 0], 2, "i4"),
    Case('ai.{"dbnd":{"d":1}}', ca_float, DBR_DOUBLE, 1.5),
    Case('stringout.DESC${"dbnd":{"d":1}}', ca_str, DBR_CHAR, "a description", 41),
]
PLAIN: dict[type, type] = {
    ca_int: int, ca_float: float, ca_str: str, ca_bytes: bytes, ca_array: np.ndarray,
}  # fmt: skip


def attributes(value: Any) -> dict[str, Any]:
    """All attributes of the value, found as existing programs find them."""
    return {name: getattr(value, name) for name in EVERY if hasattr(value, name)}


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal, if NaN equals NaN."""
    if isinstance(a, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    return bool(np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b)


# -- Values that are read --------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.pv)
async def test_native(p: str, case: Case) -> None:
    for format in FORMATS:
        value: Any = await caget(p + case.pv, format=format)
        expected = {FORMAT_RAW: set(), FORMAT_TIME: TIME, FORMAT_CTRL: CTRL[case.datatype]}[format]
        assert type(value) is case.kind
        assert attributes(value).keys() == ALWAYS | expected
        assert set(ca_extra_fields) >= attributes(value).keys() - {
            "alarm", "timestamp_ns", "datetime_utc", "label",
        }  # fmt: skip
        assert (value.name, value.ok) == (p + case.pv, True)
        assert (value.datatype, value.element_count) == (case.datatype, case.count)
        assert type(+value) is PLAIN[case.kind]
        if case.kind is ca_array:
            if case.pv != "wf:LONG.[-2:-1]":  # libca interprets the end differently
                assert value.tolist() == (+value).tolist() == case.value
            assert value.dtype == case.dtype
            assert value.ndim == 1
            assert value.flags.writeable
        else:
            assert value == +value == case.value
            assert repr(value) == repr(case.value)
            assert hash(value) == hash(case.value)


async def test_ctrl_of_a_float(p: str) -> None:
    value: Any = await caget(p + "ai", format=FORMAT_CTRL)
    assert attributes(value) == {
        "name": p + "ai", "ok": True, "datatype": DBR_DOUBLE, "element_count": 1,
        "status": 0, "severity": 0, "alarm": ("NO_ALARM", "NO_ALARM"),
        "units": "mm", "precision": 3,
        "upper_disp_limit": 100.0, "lower_disp_limit": -100.0,
        "upper_alarm_limit": 90.0, "upper_warning_limit": 80.0,
        "lower_warning_limit": -80.0, "lower_alarm_limit": -90.0,
        "upper_ctrl_limit": 100.0, "lower_ctrl_limit": -100.0,
    }  # fmt: skip


async def test_ctrl_limits_have_the_type_of_the_value(p: str) -> None:
    value: Any = await caget(p + "longin", format=FORMAT_CTRL)
    assert type(value.upper_disp_limit) is int
    assert (value.units, value.upper_disp_limit) == ("cnt", 1000)
    ao: Any = await caget(p + "ao", format=FORMAT_CTRL)
    # For an output, the display limits differ from the control limits
    assert (ao.upper_ctrl_limit, ao.lower_ctrl_limit) == (10.0, -10.0)
    assert (ao.upper_disp_limit, ao.lower_disp_limit) == (20.0, -20.0)


@pytest.mark.parametrize(
    "pv,labels",
    [
        ("bi", ["Closed", "Open"]),
        ("bo", ["Off", "On"]),
        ("mbbi", ["zero", "one", "zwei µ"]),
        ("mbbo", ["Off", "Manual", "Automatic"]),
        ("wf:ENUM", []),
    ],
)
async def test_ctrl_of_an_enum(p: str, pv: str, labels: list[str]) -> None:
    value: Any = await caget(p + pv, format=FORMAT_CTRL)
    assert value.enums == labels
    assert type(value.enums) is list
    assert value.label == (labels[value] if labels else [])


@pytest.mark.parametrize(
    ("pv", "state", "label"),
    [("put:mbbo", 1, "Manual"), ("put:mbbo", 3, "3"), ("put:mbbo", 40000, "40000"),
     ("ai:never.STAT", 17, "17"), ("put:bo", 0, "Off"), ("ai.SCAN", 0, "Passive")],
)  # fmt: skip
async def test_label(p: str, pv: str, state: int, label: str) -> None:
    """An enum in CTRL always has a label; for a state without one, the number."""
    if pv.startswith("put:"):
        await caput(p + pv, state, wait=True)
    value: Any = await caget(p + pv, format=FORMAT_CTRL)
    assert (value, value.label) == (state, label)
    assert pickle.loads(pickle.dumps(value)).label == label
    for other in (
        await caget(p + pv),
        await caget(p + pv, format=FORMAT_TIME),
        await caget(p + pv, datatype=int, format=FORMAT_CTRL),
        await caget(p + "longin", format=FORMAT_CTRL),
    ):
        assert not hasattr(other, "label")
        assert not hasattr(other, "enums")


async def test_missing_attribute_says_what_brings_it(p: str) -> None:
    value: Any = await caget(p + "ai")
    with pytest.raises(AttributeError, match="FORMAT_TIME"):
        value.timestamp  # noqa: B018
    with pytest.raises(AttributeError, match="FORMAT_CTRL"):
        value.units  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute 'nonsense'$"):
        value.nonsense  # noqa: B018


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
        ("put:wf:CHAR", [-56, 1], np.int16, [-56, 1]),
        ("put:wf:CHAR", [-56, 1], np.uint8, [200, 1]),
        ("put:wf:CHAR", [-56, 1], np.uint16, None),
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


# -- Contents --------------------------------------------------------------------------------------


async def test_nan_and_infinities(p: str) -> None:
    values = [math.nan, math.inf, -math.inf, -0.0, 5e-324]
    await caput(p + "put:wf:DOUBLE", values, wait=True)
    array: Any = await caget(p + "put:wf:DOUBLE")
    assert array.tobytes() == np.array(values).tobytes()
    await caput(p + "put:wf:FLOAT", values[:3], wait=True)
    floats: Any = await caget(p + "put:wf:FLOAT")
    np.testing.assert_array_equal(floats, np.array(values[:3], "f4"))
    for value in values:
        await caput(p + "put:ao", value, wait=True)
        assert same(await caget(p + "put:ao"), value)


async def test_text_is_utf_8(p: str) -> None:
    units: Any = await caget(p + "ai:utf8", format=FORMAT_CTRL)
    assert units.units == "µm"
    strings: Any = await caget(p + "wf:STRING")
    assert strings[1] == "cdé"
    label: Any = await caget(p + "mbbi", datatype=DBR_ENUM_STR)
    assert label == "zwei µ"


async def test_text_that_is_not_utf_8(p: str) -> None:
    """PVs of an old IOC that sends Latin-1 can still be read."""
    pv = p + "put:units"
    try:
        await caput(pv + ".EGU$", [0xB5, ord("m"), 0], datatype=DBR_CHAR, wait=True)
        value: Any = await caget(pv, format=FORMAT_CTRL)
        assert value.units == "\N{REPLACEMENT CHARACTER}m"
        assert (await caget(pv + ".EGU$", datatype=bytes)) == b"\xb5m"  # type: ignore[comparison-overlap]
        assert (await caget(pv + ".EGU")) == "\N{REPLACEMENT CHARACTER}m"  # type: ignore[comparison-overlap]
        # Longer than the eight bytes of the units, and cut within a character
        await caput(pv + ".EGU$", "1234567µm", wait=True)
        value = await caget(pv, format=FORMAT_CTRL)
        assert value.units.startswith("1234567")
        assert len(value.units) <= 8
    finally:
        await caput(pv + ".EGU", "V", wait=True)


async def test_never_processed(p: str) -> None:
    value: Any = await caget(p + "ai:never", format=FORMAT_TIME)
    assert value.alarm == ("UDF", "INVALID")
    assert str(value.alarm) == "UDF INVALID"
    assert (value.status, value.severity) == (17, 3)
    assert value.raw_stamp == (631152000, 0)  # 1990, the epoch of EPICS
    assert value.timestamp == 631152000.0
    assert value.datetime_utc == datetime(1990, 1, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "value,alarm",
    [
        (0, ("NO_ALARM", "NO_ALARM")),
        (85, ("HIGH", "MINOR")),
        (95, ("HIHI", "MAJOR")),
        (-85, ("LOW", "MINOR")),
        (-95, ("LOLO", "MAJOR")),
    ],
)
async def test_alarm(p: str, value: float, alarm: tuple[str, str]) -> None:
    try:
        await caput(p + "ai", value, wait=True)
        for format in (FORMAT_TIME, FORMAT_CTRL):
            got: Any = await caget(p + "ai", format=format)
            assert got.alarm == alarm
            assert (got.alarm.status, got.alarm.severity) == alarm
            assert got.severity == ["NO_ALARM", "MINOR", "MAJOR"].index(alarm[1])
    finally:
        await caput(p + "ai", 1.5, wait=True)


async def test_stamps_agree(p: str) -> None:
    before = datetime.now(timezone.utc)
    await caput(p + "put:ao", 1, wait=True)
    value: Any = await caget(p + "put:ao", format=FORMAT_TIME)
    after = datetime.now(timezone.utc)
    seconds, nanoseconds = value.raw_stamp
    assert value.timestamp_ns == seconds * 10**9 + nanoseconds
    assert value.timestamp == pytest.approx(value.timestamp_ns / 1e9, abs=1e-6)
    assert value.datetime_utc.utcoffset() == timedelta(0)
    assert value.datetime_utc == datetime.fromtimestamp(value.timestamp, timezone.utc)
    assert value.datetime.tzinfo is None
    # astimezone() treats a naive datetime as local time
    assert value.datetime.astimezone(timezone.utc) == value.datetime_utc
    # The IOC runs on this machine; its clock may be slightly coarser
    assert before - timedelta(seconds=1) < value.datetime_utc < after + timedelta(seconds=1)


# -- Alarm acknowledgement -------------------------------------------------------------------------


async def test_alarm_acknowledgement(p: str) -> None:
    pv = p + "ackn"

    async def state() -> tuple[str, int, int]:
        value: Any = await caget(pv, datatype=DBR_STSACK_STRING)
        assert attributes(value).keys() == ALWAYS | ALARM | {"ackt", "acks"}
        assert type(value) is ca_str
        return value.alarm.severity, value.ackt, value.acks

    try:
        await caput(pv, 20, wait=True)
        assert await state() == ("MAJOR", 1, 2)
        await caput(pv, 0, wait=True)  # the alarm is gone, but not acknowledged
        assert await state() == ("NO_ALARM", 1, 2)
        await caput(pv, 1, datatype=DBR_PUT_ACKS, wait=True)  # a lower one changes nothing
        assert await state() == ("NO_ALARM", 1, 2)
        await caput(pv, 2, datatype=DBR_PUT_ACKS, wait=True)
        assert await state() == ("NO_ALARM", 1, 0)
        await caput(pv, 0, datatype=DBR_PUT_ACKT, wait=True)
        assert await state() == ("NO_ALARM", 0, 0)
        await caput(pv, 20, wait=True)
        await caput(pv, 0, wait=True)  # transient alarms need no acknowledgement now
        assert await state() == ("NO_ALARM", 0, 0)
    finally:
        await caput(pv, 0, wait=True)
        await caput(pv, 1, datatype=DBR_PUT_ACKT, wait=True)
        await caput(pv, 2, datatype=DBR_PUT_ACKS, wait=True)


# -- Values as Python objects ----------------------------------------------------------------------


def get(pv: str, datatype: Any = None, format: Any = FORMAT_RAW, count: int = 0) -> Any:
    """Read a new value. The tests from here on are about the object: one backend is enough."""
    return run(caget(pv, datatype, format, count))


@pytest.fixture(scope="module")
def array(p: str) -> Any:
    value = get(p + "wf:DOUBLE", format=FORMAT_TIME)
    assert value.timestamp  # decode an attribute before the copy
    return value


def by_pickle(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def by_oldest_pickle(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value, protocol=0))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_have_public_paths_only(p: str, protocol: int) -> None:
    """Later versions, which may have other private modules, must be able to read pickles."""
    info = run(cainfo(p + "ai"))
    values = [
        *(get(p + pv, format=FORMAT_TIME) for pv in ("ai", "longin", "stringin", "wf:DOUBLE")),
        get(p + "stringin", bytes), get(p + "ai", format=FORMAT_TIME).alarm,
        info, ChannelInfo("PV", True, 1), ECA.TIMEOUT,
        CANothing("PV", 192), error_for([Failure("A", 80, "x"), Failure("B", 192, "y")]),
    ]  # fmt: skip
    for value in values:
        data = pickle.dumps(value, protocol)
        assert b"aioca._" not in data
        strings = [argument for _, argument, _ in pickletools.genops(data)]
        assert not [s for s in strings if isinstance(s, str) and s.startswith("aioca._")]
        again = pickle.loads(data)
        assert type(again) is type(value)
        assert str(again) == str(value)
    assert pickle.loads(pickle.dumps(info, protocol)).__dict__ == info.__dict__


# Pickles from before 3.0 was released, with the paths of private modules
OLD_PICKLES = {
    "value": b"caioca._values\n_rebuild\n(Vca_float\nF1.5\n(dVname\nVPV\nsVseverity\nI2\nstR.",
    "alarm": b"caioca._values\nAlarm\n(VHIHI\nVMAJOR\ntR.",
    "error": b"caioca._errors\n_restore\n(VCATimeout\nVPV\nI80\n(dV_detail\nVconnecting\nstR.",
    "channel": b"caioca._context\nChannelInfo\n(VPV\nI01\nI2\ntR.",
    "info": b"ccopy_reg\n_reconstructor\n(caioca._info\nCAInfo\nc__builtin__\nobject\nNtR"
    b"(dVname\nVPV\nsb.",
}


def test_old_pickles_can_be_read() -> None:
    """The old path is in files, so it must remain importable."""
    read = {name: pickle.loads(data) for name, data in OLD_PICKLES.items()}
    value, error = read["value"], read["error"]
    assert (type(value), value, value.name, value.severity) == (ca_float, 1.5, "PV", 2)
    assert read["alarm"] == Alarm("HIHI", "MAJOR")
    assert (type(error), error.name, error.errorcode) == (CATimeout, "PV", 80)
    assert "(connecting)" in str(error)
    assert read["channel"] == ChannelInfo("PV", True, 2)
    assert (type(read["info"]), read["info"].name) == (CAInfo, "PV")


def test_a_value_is_an_augmented_value(p: str) -> None:
    """isinstance() distinguishes it from a plain value and from a CANothing."""
    for pv, datatype in (("ai", None), ("longin", None), ("stringin", None), ("stringin", bytes),
                         ("wf:DOUBLE", None)):  # fmt: skip
        value = get(p + pv, datatype)
        assert isinstance(value, AugmentedValue)
        assert not isinstance(+value, AugmentedValue)
    assert not isinstance(CANothing("PV", 80), AugmentedValue)


def test_classes_by_datatype_are_what_the_overloads_promise(p: str) -> None:
    kinds = {float: ca_float, int: ca_int, bool: ca_int, str: ca_str, bytes: ca_bytes}
    for datatype, kind in kinds.items():
        assert type(get(p + "ai", datatype)) is kind
        assert type(run(caget([p + "ai"], datatype))[0]) is kind  # type: ignore[call-overload]
    assert get(p + "ai", np.dtype("f8")) == 1.5


@pytest.mark.parametrize("duplicate", [by_pickle, by_oldest_pickle, copy.copy, copy.deepcopy])
@pytest.mark.parametrize(
    "pv,datatype",
    [
        ("ai", None), ("longin", None), ("mbbi", None), ("stringin", None), ("stringin", bytes),
        ("stringout.DESC$", None), ("wf:DOUBLE", None), ("wf:STRING", None), ("wf:empty", None),
        ("ai", DBR_STSACK_STRING),
    ],
)  # fmt: skip
def test_copies_keep_everything(p: str, pv: str, datatype: Any, duplicate: Any) -> None:
    for format in FORMATS:
        value: Any = get(p + pv, datatype=datatype, format=format)
        other = duplicate(value)  # before any attribute is read
        assert type(other) is type(value)
        assert same(other, value)
        assert attributes(other).keys() == attributes(value).keys()
        for name, content in attributes(value).items():
            assert same(getattr(other, name), content), name
        again = duplicate(other)
        assert attributes(again).keys() == attributes(value).keys()


def test_copy_of_an_array_is_its_own(p: str) -> None:
    value: Any = get(p + "wf:DOUBLE", format=FORMAT_TIME)
    for other in (value.copy(), copy.copy(value), copy.deepcopy(value), +value):
        other[0] = 99
        assert value[0] == 1.5
    assert value.copy().timestamp == value.timestamp


def test_big_array_is_writable(p: str) -> None:
    """An array larger than a page shares its DBR's memory: writing must not change attributes."""
    value: Any = get(p + "wf:scratch", count=-1, format=FORMAT_TIME)
    stamp, status = copy.copy(value).raw_stamp, copy.copy(value).status
    value[:] = np.arange(1000)
    assert (value.raw_stamp, value.status) == (stamp, status)
    assert value.sum() == 499500


@pytest.mark.parametrize(
    "derive",
    [
        lambda v: v[:2],
        lambda v: v[0],
        lambda v: v[[True, False, True]],
        lambda v: v[::-1],
        lambda v: v + 1,
        lambda v: 1 + v,
        lambda v: -v,
        lambda v: v > 0,
        lambda v: np.sqrt(np.abs(v)),
        lambda v: v.astype(int),
        lambda v: v.sum(),
        lambda v: v.max(),
        lambda v: v.mean(),
        lambda v: v.reshape(3, 1),
        lambda v: v.view(),
        lambda v: np.concatenate([v, v]),
        np.asarray,
        lambda v: np.array(v, subok=True)[1:],
        lambda v: pickle.loads(pickle.dumps(v[:2])),
        lambda v: v.cumsum(),
    ],
)
def test_what_derives_from_an_array_carries_no_lie(array: Any, derive: Any) -> None:
    derived = derive(array)
    assert attributes(derived) == {}
    if isinstance(derived, np.ndarray):
        assert (derived + 0).dtype is not None  # it works like an array


def test_array_changed_in_place(p: str) -> None:
    value: Any = get(p + "wf:DOUBLE")
    original = value
    value += 1
    assert value.tolist() == [2.5, -1.5, 4.0]
    assert value is original or attributes(value) == {}


@pytest.mark.parametrize(
    "pv,derive",
    [
        ("ai", lambda v: v + 1),
        ("ai", lambda v: 2 * v),
        ("ai", lambda v: -v),
        ("ai", abs),
        ("ai", round),
        ("longin", lambda v: v // 2),
        ("longin", abs),
        ("longin", lambda v: v & 1),
        ("stringin", lambda v: v[:2]),
        ("stringin", lambda v: v + "x"),
        ("stringin", lambda v: v.upper()),
        ("stringin", str),
        ("stringin", lambda v: f"{v}"),
    ],
)
def test_what_derives_from_a_scalar_is_plain(p: str, pv: str, derive: Any) -> None:
    value: Any = get(p + pv, format=FORMAT_TIME)
    assert value.timestamp
    assert type(derive(value)) in (int, float, str)


def test_values_serve_as_plain_ones(p: str) -> None:
    number: Any = get(p + "longin")
    text: Any = get(p + "stringin")
    real: Any = get(p + "ai")
    assert {-42: "x"}[number] == "x"
    assert {"hello": 1}[text] == 1
    assert [0, 1, 2][get(p + "mbbi")] == 2
    assert f"{real:.2f} {number:d} {text!s:>6}" == "1.50 -42  hello"
    assert "".join([text, "!"]) == "hello!"
    assert sorted([3.0, real]) == [1.5, 3.0]
    assert np.array([real, real]).dtype == np.float64


def test_dir_has_the_attributes(p: str) -> None:
    value: Any = get(p + "ai", format=FORMAT_CTRL)
    assert {"units", "precision", "name"} <= set(dir(value))
    assert "timestamp" not in dir(value)


# -- epicscorelibs ---------------------------------------------------------------------------------


def run_python(program: str, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *args],
        capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


INSTANCES = """
import sys
import aioca
async def main(p):
    pvs = [p + "longin", p + "ai", p + "stringin", p + "wf:DOUBLE"]
    return [*await aioca.caget(pvs, format=aioca.FORMAT_TIME),
            await aioca.caget(p + "stringin", datatype=bytes)]
values = aioca.run(main(sys.argv[1]))
from epicscorelibs.ca import dbr
import aioca.types, copy, pickle
kinds = [dbr.ca_int, dbr.ca_float, dbr.ca_str, dbr.ca_array, dbr.ca_bytes]
ours = [getattr(aioca.types, kind.__name__) for kind in kinds]
for value, kind, own in zip(values, kinds, ours):
    assert isinstance(value, kind) and isinstance(value, own), (value, kind)
    assert not any(isinstance(value, other) for other in kinds if other is not kind)
    again = pickle.loads(pickle.dumps(value))
    assert type(again) is type(copy.copy(value)) is own and again.name == value.name
assert isinstance(values[1], float) and isinstance(values[2], str)
print("fine")
"""


def test_instances_of_the_classes_in_epicscorelibs(p: str) -> None:
    assert run_python(INSTANCES, p) == "fine\n"


def test_import_is_light() -> None:
    modules = run_python("import sys, aioca, aioca.types; print(*sys.modules)").split()
    heavy = {"setuptools", "pkg_resources", "setuptools_dso", "trio", "asyncio"}
    assert not heavy & set(modules)
    assert not [name for name in modules if name.startswith("epicscorelibs.ca")]
    assert "epicscorelibs.path" not in modules
