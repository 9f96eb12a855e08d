"""Augmented values: the result for each record type and format."""

from __future__ import annotations

import math
import pickle
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

import numpy as np
import pytest

from aioca import (
    DBR_CHAR,
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
    FORMAT_CTRL,
    FORMAT_RAW,
    FORMAT_TIME,
    ca_extra_fields,
    caget,
    caput,
)
from aioca.types import ca_array, ca_bytes, ca_float, ca_int, ca_str
from tests.support.values import ALARM, ALWAYS, FORMATS, NUMBER, TIME, attributes, same

pytestmark = pytest.mark.anyio

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
