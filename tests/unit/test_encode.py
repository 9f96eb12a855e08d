"""Encode values to bytes and decode them, without an IOC: the result equals the value."""

from __future__ import annotations

import math
import struct
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

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
    FORMAT_CTRL,
    FORMAT_RAW,
    FORMAT_TIME,
    CAValueError,
)
from aioca._ca.libca import ECA_BADCOUNT, ECA_BADSTR, ECA_BADTYPE, VALUE_OFFSET, VALUE_SIZE
from aioca._values.dbr import datatype_code
from aioca._values.decode import make_reader
from aioca._values.encode import encode
from aioca.types import ca_array
from tests.support.ids import shown

UNIT = True

BASE_TYPES = range(DBR_STRING, DBR_DOUBLE + 1)
NUMPY_TYPES = ("S40", "i2", "f4", "u2", "u1", "i4", "f8")


def data_of(encoded: tuple[int, int, Any]) -> bytes:
    return bytes(encoded[2])


def sent(value: Any, native_type: int, count: int = 1, datatype: Any = None) -> Any:
    """The encoded value for the server, decoded by numpy."""
    code = datatype_code(datatype, writing=True)
    encoded = encode("PV", value, code, native_type, count)
    return np.frombuffer(data_of(encoded), NUMPY_TYPES[encoded[0]]).tolist()


# -- Values that can be written --------------------------------------------------------------------


@pytest.mark.parametrize(
    "value,native_type,expected",
    [
        (1.5, DBR_DOUBLE, [1.5]),
        (1, DBR_DOUBLE, [1.0]),
        (True, DBR_DOUBLE, [1.0]),
        (np.float32(1.5), DBR_DOUBLE, [1.5]),
        (np.int8(-3), DBR_DOUBLE, [-3.0]),
        (np.bool_(True), DBR_LONG, [1]),
        (1.5, DBR_FLOAT, [1.5]),
        (-1, DBR_SHORT, [-1]),
        (65535, DBR_ENUM, [65535]),
        (255, DBR_CHAR, [255]),
        (-1, DBR_CHAR, [255]),
        (-(2**31), DBR_LONG, [-(2**31)]),
        (3.0, DBR_LONG, [3]),
        ("1.5", DBR_DOUBLE, [b"1.5"]),
        (b"1.5", DBR_DOUBLE, [b"1.5"]),
        ("µ", DBR_STRING, ["µ".encode()]),
        (12, DBR_STRING, [b"12"]),
        ("x" * 39, DBR_STRING, [b"x" * 39]),
        ("Open", DBR_ENUM, [b"Open"]),
        ("a", DBR_CHAR, [b"a"]),  # a single CHAR: the server parses the number
        (Decimal("1.5"), DBR_DOUBLE, [1.5]),
        (Fraction(3, 2), DBR_DOUBLE, [1.5]),
        (math.inf, DBR_DOUBLE, [math.inf]),
        (2**53, DBR_DOUBLE, [2.0**53]),
        (2**60, DBR_DOUBLE, [2.0**60]),
        (2**53 + 1, DBR_DOUBLE, [b"9007199254740993"]),
        (-(2**63), DBR_DOUBLE, [-(2.0**63)]),
        (2**63 - 1, DBR_DOUBLE, [b"9223372036854775807"]),
        (np.array(2.5), DBR_DOUBLE, [2.5]),
        (np.array([2.5]), DBR_DOUBLE, [2.5]),
    ],
    ids=repr,
)
def test_scalar(value: Any, native_type: int, expected: list[Any]) -> None:
    assert sent(value, native_type) == expected


@pytest.mark.parametrize(
    "value,native_type,expected",
    [
        ([1, 2], DBR_LONG, [1, 2]),
        ((1, 2), DBR_LONG, [1, 2]),
        (range(3), DBR_LONG, [0, 1, 2]),
        ([], DBR_DOUBLE, []),
        (np.arange(6)[::2], DBR_DOUBLE, [0, 2, 4]),  # not contiguous
        (np.array([1, 2], ">i4"), DBR_LONG, [1, 2]),  # not the byte order of this machine
        (np.array([1, 2], "u8"), DBR_SHORT, [1, 2]),
        (np.array([-1, 255]), DBR_CHAR, [255, 255]),
        ([True, False], DBR_CHAR, [1, 0]),
        ([math.nan] * 0 + [1, 2.5], DBR_FLOAT, [1, 2.5]),
        (["a", b"b", 3], DBR_STRING, [b"a", b"b", b"3"]),
        (np.array(["a", "é"]), DBR_STRING, [b"a", "é".encode()]),
        (np.array([b"a"]), DBR_STRING, [b"a"]),
        (["Open", "Closed"], DBR_ENUM, [b"Open", b"Closed"]),
        ([0, 1], DBR_ENUM, [0, 1]),
        ("text", DBR_CHAR, [*b"text"]),
        (b"\xff\0x", DBR_CHAR, [255, 0, *b"x"]),
        ([1, 2], DBR_CHAR, [1, 2]),
        ("", DBR_CHAR, [0]),  # some records ignore a write of no bytes
        (bytearray(b"ab"), DBR_CHAR, [*b"ab"]),
        (5, DBR_DOUBLE, [5.0]),
    ],
    ids=repr,
)
def test_array(value: Any, native_type: int, expected: list[Any]) -> None:
    assert sent(value, native_type, count=10) == expected


@pytest.mark.parametrize(
    "value,datatype,expected",
    [
        ("1.5", float, [1.5]),
        (1.5, str, [b"1.5"]),
        (1.5, DBR_STRING, [b"1.5"]),
        (1, np.float32, [1.0]),
        (1, "i2", [1]),
        (2, DBR_PUT_ACKS, [2]),
    ],
    ids=repr,
)
def test_datatype(value: Any, datatype: Any, expected: list[Any]) -> None:
    if datatype == DBR_PUT_ACKS:
        dbr, count, data = encode("PV", value, DBR_PUT_ACKS, DBR_DOUBLE, 1)
        assert (dbr, count, data) == (DBR_PUT_ACKS, 1, struct.pack("=H", 2))
    else:
        assert sent(value, DBR_DOUBLE, datatype=datatype) == expected


@pytest.mark.parametrize("code", [DBR_CHAR_STR, DBR_CHAR_UNICODE, DBR_CHAR_BYTES])
def test_long_string_of_a_dollar_name(code: int) -> None:
    text = "x" * 41
    for given_code in (None, code):
        encoded = encode("PV.DESC$", text, given_code, DBR_CHAR, 100)
        # With a NUL: otherwise the server would keep the rest of a longer text in the field
        assert encoded[:2] == (DBR_CHAR, 42)
        assert data_of(encoded) == text.encode() + b"\0"
    assert data_of(encode("PV.DESC$", text, None, DBR_CHAR, 41)) == text.encode()


# -- Values that are refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "value,native_type,status,words",
    [
        (None, DBR_DOUBLE, ECA_BADTYPE, "None"),
        ([None], DBR_DOUBLE, ECA_BADTYPE, None),
        ([None], DBR_STRING, ECA_BADTYPE, "None"),
        ({"a": 1}, DBR_STRING, ECA_BADTYPE, "not a value"),
        ({"a": 1}, DBR_DOUBLE, ECA_BADTYPE, "not a value"),
        ({1}, DBR_DOUBLE, ECA_BADTYPE, "not a value"),
        ([[1, 2], [3]], DBR_DOUBLE, ECA_BADTYPE, None),
        ([[1, 2], [3, 4]], DBR_DOUBLE, ECA_BADCOUNT, "2 dimensions"),
        (np.zeros((2, 2)), DBR_STRING, ECA_BADCOUNT, "2 dimensions"),
        ([["a"]], DBR_STRING, ECA_BADTYPE, "not a string"),
        ("x" * 40, DBR_STRING, ECA_BADSTR, r"40 bytes.*39.*\$"),
        ("µ" * 20, DBR_STRING, ECA_BADSTR, "40 bytes"),
        (["ok", "x" * 40], DBR_STRING, ECA_BADSTR, "40 bytes"),
        (iter(["a"]), DBR_STRING, ECA_BADTYPE, "iterator"),
        # A server would store the elements before the one that it refuses
        (["1", "a"], DBR_LONG, ECA_BADTYPE, "'a' is not a number"),
        ([b"1", b""], DBR_DOUBLE, ECA_BADTYPE, "'' is not a number"),
        (["1", ".5"], DBR_LONG, ECA_BADTYPE, "'.5' is not a number"),
        ([1, "a"], DBR_CHAR, ECA_BADTYPE, "'a' is not a number"),
        (iter([1.0]), DBR_DOUBLE, ECA_BADTYPE, None),
        ("\ud800", DBR_STRING, ECA_BADSTR, "surrogate"),
        ([1, 2, 3, 4, 5, 6], DBR_DOUBLE, ECA_BADCOUNT, "6 elements.*5"),
        ("x" * 6, DBR_CHAR, ECA_BADCOUNT, "6 elements.*5"),
        (math.nan, DBR_LONG, ECA_BADTYPE, "NaN"),
        (math.inf, DBR_ENUM, ECA_BADTYPE, "infinite"),
        ([1.0, math.nan], DBR_SHORT, ECA_BADTYPE, "NaN"),
        (2**31, DBR_LONG, ECA_BADTYPE, "outside"),
        (-(2**31) - 1, DBR_LONG, ECA_BADTYPE, "outside"),
        ([2**31], DBR_LONG, ECA_BADTYPE, "outside"),
        (np.array([2**31], "u8"), DBR_LONG, ECA_BADTYPE, "outside"),
        (3e9, DBR_LONG, ECA_BADTYPE, "outside"),
        (2**15, DBR_SHORT, ECA_BADTYPE, "outside"),
        (-1, DBR_ENUM, ECA_BADTYPE, "outside"),
        (256, DBR_CHAR, ECA_BADTYPE, "outside"),
        (-129, DBR_CHAR, ECA_BADTYPE, "outside"),
        (1e300, DBR_FLOAT, ECA_BADTYPE, "overflow"),
        (1j, DBR_DOUBLE, ECA_BADTYPE, "complex"),
        # numpy would take their bytes for integers, and cut these off
        (np.timedelta64(10**10, "s"), DBR_LONG, ECA_BADTYPE, "not a type of numbers"),
        (np.datetime64("NaT", "s"), DBR_DOUBLE, ECA_BADTYPE, "not a type of numbers"),
        (np.array([(2**40,)], [("a", "i8")]), DBR_LONG, ECA_BADTYPE, "not a type of numbers"),
        ({1: 2}, DBR_DOUBLE, ECA_BADTYPE, None),
        (object(), DBR_DOUBLE, ECA_BADTYPE, None),
        # Numbers beyond what a double, or the conversion to a string, can hold
        (10**400, DBR_DOUBLE, None, None),
        (-(10**5000), DBR_DOUBLE, None, None),
        (10**5000, DBR_STRING, None, None),
        (10**5000, DBR_LONG, ECA_BADTYPE, "outside"),
        ([10**400], DBR_DOUBLE, ECA_BADTYPE, None),
    ],
    ids=lambda x: shown(repr(x))[:30] if not isinstance(x, int) or abs(x) < 1e9 else "huge",
)
def test_refused(value: Any, native_type: int, status: int | None, words: str | None) -> None:
    with pytest.raises(CAValueError, match=words) as caught:
        encode("THE:PV", value, None, native_type, 5)
    assert caught.value.name == "THE:PV"
    assert str(caught.value).startswith("THE:PV: ")
    if status is not None:
        assert caught.value.errorcode == status


@pytest.mark.parametrize(
    "nothing",
    [[], (), range(0), np.array([]), np.array([], "U1"), np.ma.array([]), memoryview(b"")],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("native_type", [DBR_DOUBLE, DBR_LONG, DBR_ENUM, DBR_CHAR, DBR_STRING])
def test_no_element_for_a_scalar(nothing: Any, native_type: int) -> None:
    for datatype in (None, int, str, "u2", DBR_DOUBLE):
        code = datatype_code(datatype, writing=True)
        with pytest.raises(CAValueError, match=r"(?s)PV: .*no element") as caught:
            encode("PV", nothing, code, native_type, 1)
        assert caught.value.errorcode == ECA_BADCOUNT
        assert encode("PV", nothing, code, native_type, 5)[1] == 0


@pytest.mark.parametrize("text", ["", b"", [""], np.array("")], ids=repr)
def test_an_empty_text_is_an_element(text: Any) -> None:
    assert encode("PV", text, None, DBR_STRING, 1)[:2] == (DBR_STRING, 1)


MASKED = np.ma.array([1.0, 2.0, 3.0], mask=[False, True, False])


@pytest.mark.filterwarnings("ignore:Warning. converting a masked element")
@pytest.mark.parametrize(
    "value",
    [
        MASKED, np.ma.masked, MASKED[1], MASKED[1:2], MASKED.astype("i4"), MASKED.astype("U3"),
        list(MASKED), tuple(MASKED.astype("i4")), [1.0, np.ma.masked], ["a", np.ma.masked],
        np.ma.array(5, mask=True), [np.ma.array(5.0, mask=True), 1], MASKED.astype(object),
        np.array([1, np.ma.masked], dtype=object), np.ma.masked_all(2, "i4"),
    ],
    ids=lambda value: shown(repr(value))[:40],
)  # fmt: skip
@pytest.mark.parametrize(
    "native_type", [DBR_DOUBLE, DBR_FLOAT, DBR_LONG, DBR_ENUM, DBR_CHAR, DBR_STRING]
)
def test_masked_elements_are_not_written(value: Any, native_type: int) -> None:
    for datatype in (None, str, int, DBR_CHAR_STR):
        with pytest.raises(CAValueError, match=r"^PV: "):
            encode("PV", value, datatype_code(datatype, writing=True), native_type, 5)


def test_an_array_that_could_be_masked_is_written() -> None:
    """A masked array can be written if it was filled, or if no element is masked."""
    assert sent(MASKED.filled(7), DBR_DOUBLE, count=5) == [1, 7, 3]
    assert sent(np.ma.array([1, 2], mask=False), DBR_LONG, count=5) == [1, 2]
    assert sent(np.ma.array([1.5]), DBR_DOUBLE) == [1.5]
    assert math.isnan(sent([1.0, math.nan], DBR_DOUBLE, count=5)[1])


class _Broken:
    """A value whose own methods raise unexpected exceptions."""

    def __float__(self) -> float:
        raise ZeroDivisionError("broken on purpose")

    def __iter__(self) -> Any:
        raise RuntimeError("broken on purpose")

    __int__ = __str__ = __repr__ = __float__  # type: ignore[assignment]


class _BrokenArray(list[Any]):
    def __len__(self) -> int:
        raise KeyError("broken on purpose")

    __iter__ = __len__  # type: ignore[assignment]


@pytest.mark.parametrize("native_type", [DBR_DOUBLE, DBR_LONG, DBR_ENUM, DBR_CHAR, DBR_STRING])
@pytest.mark.parametrize("kind", [_Broken, _BrokenArray])
def test_whatever_a_value_raises(kind: Any, native_type: int) -> None:
    for datatype in (None, str, int, bool, DBR_PUT_ACKS, DBR_CHAR_STR):
        for value in (kind(), [kind()]):
            with pytest.raises(CAValueError, match=r"^PV: "):
                encode("PV", value, datatype_code(datatype, writing=True), native_type, 5)


@pytest.mark.parametrize(
    ("value", "datatype", "expected"),
    [
        (65535, np.uint16, (DBR_LONG, [65535])),
        (-1, np.uint16, None),
        (0xFFFFFFFF, np.uint32, (DBR_DOUBLE, [float(0xFFFFFFFF)])),
        ([0xFFFFFFFF, 1], "u4", (DBR_DOUBLE, [float(0xFFFFFFFF), 1.0])),
        (7, np.uint32, (DBR_LONG, [7])),
        (2**32, np.uint32, None),
        (2**40 + 5, int, (DBR_DOUBLE, [2.0**40 + 5])),
        (2**53 + 1, np.int64, (DBR_STRING, [b"9007199254740993"])),
        (2**64 - 1, np.uint64, (DBR_STRING, [b"18446744073709551615"])),
        (-1, np.uint64, None),
        (2**64, int, None),
        (1.9, int, (DBR_LONG, [1])),
        (math.nan, int, None),
        (-1, np.int8, (DBR_CHAR, [255])),
        (200, np.int8, None),
        (5, bool, (DBR_CHAR, [1])),
        ([0.0, 0.5], bool, (DBR_CHAR, [0, 1])),
        ("1", bool, None),
    ],
    ids=shown,
)
def test_integer_datatypes(value: Any, datatype: Any, expected: Any) -> None:
    code = datatype_code(datatype, writing=True)
    if expected is None:
        with pytest.raises(CAValueError, match=r"^PV: "):
            encode("PV", value, code, DBR_DOUBLE, 5)
    else:
        dbr, numbers = expected
        encoded = encode("PV", value, code, DBR_DOUBLE, 5)
        assert encoded[0] == dbr
        assert sent(value, DBR_DOUBLE, count=5, datatype=datatype) == numbers


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("kind", [list, np.array], ids=["list", "array"])
def test_integers_that_a_double_cannot_hold_are_not_bent(kind: Any, count: int) -> None:
    """A PV of 64-bit integers looks like a PV of doubles.

    A number must arrive exactly or be refused, also in an array.
    """
    try:
        (arrived,) = sent(kind([2**60 + 1]), DBR_DOUBLE, count=count)
    except CAValueError:
        return
    assert int(arrived) == 2**60 + 1


@pytest.mark.parametrize("code", [DBR_PUT_ACKT, DBR_PUT_ACKS])
@pytest.mark.parametrize("value", [None, "x", -1, 65536, math.nan, [1, 2]])
def test_acknowledgement_refused(value: Any, code: int) -> None:
    with pytest.raises(CAValueError, match="PV: "):
        encode("PV", value, code, DBR_DOUBLE, 1)


# -- Arbitrary values ------------------------------------------------------------------------------

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**6000), 10**6000),
    st.floats(),
    st.text(max_size=50),
    st.binary(max_size=50),
    st.complex_numbers(),
    st.decimals(),
    st.fractions(),
    st.dates(),
    hnp.from_dtype(np.dtype("f4")),
    hnp.from_dtype(np.dtype("i8")),
)
arrays = hnp.arrays(
    st.one_of(
        hnp.integer_dtypes(),
        hnp.unsigned_integer_dtypes(),
        hnp.floating_dtypes(),
        hnp.boolean_dtypes(),
        hnp.unicode_string_dtypes(max_len=45),
        hnp.byte_string_dtypes(max_len=45),
        hnp.complex_number_dtypes(),
        hnp.datetime64_dtypes(),
    ),
    hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=6),
)
values = st.one_of(
    scalars, arrays, st.lists(scalars, max_size=6), st.tuples(scalars, scalars),
    st.sets(st.integers(), max_size=3), st.dictionaries(st.text(), st.integers(), max_size=2),
    st.lists(st.lists(st.integers(), max_size=2), max_size=2),
    st.binary(max_size=20).map(bytearray),
)  # fmt: skip
write_codes = st.sampled_from(
    [None, *BASE_TYPES, DBR_ENUM_STR, DBR_CHAR_BYTES, DBR_CHAR_UNICODE, DBR_CHAR_STR,
     datatype_code(str), datatype_code(bytes), DBR_PUT_ACKT, DBR_PUT_ACKS]
)  # fmt: skip


@given(
    value=values,
    code=write_codes,
    native_type=st.sampled_from(BASE_TYPES),
    native_count=st.sampled_from([1, 4, 200]),
    name=st.sampled_from(["PV", "PV.DESC$"]),
)
@example(value=10**400, code=None, native_type=DBR_DOUBLE, native_count=1, name="PV")
def test_any_value_is_encoded_or_refused(
    value: Any, code: int | None, native_type: int, native_count: int, name: str
) -> None:
    try:
        dbr, count, data = encode(name, value, code, native_type, native_count)
    except CAValueError as error:
        assert error.name == name
        assert str(error).startswith(f"{name}: ")
        return
    assert dbr in (*BASE_TYPES, DBR_PUT_ACKT, DBR_PUT_ACKS)
    assert 0 <= count <= native_count
    size = 2 if dbr in (DBR_PUT_ACKT, DBR_PUT_ACKS) else VALUE_SIZE[dbr]
    assert memoryview(data).nbytes == count * size
    if dbr == DBR_STRING:
        assert bytes(data)[39::40] == bytes(count)  # the last of 40 bytes is NUL


@given(hnp.arrays(np.float64, st.integers(0, 20)))
def test_doubles_are_exact(array: Any) -> None:
    dbr, count, data = encode("PV", array, None, DBR_DOUBLE, 20)
    assert (dbr, count, bytes(data)) == (DBR_DOUBLE, len(array), array.tobytes())


@given(st.integers() | st.integers(0, 1000).map(lambda n: 2**n))
def test_integers_are_exact(number: int) -> None:
    """For a double: sent as an equal double, or as digits; refused if there are too many digits."""
    try:
        (arrived,) = sent(number, DBR_DOUBLE)
    except CAValueError:
        assert len(str(abs(number))) >= 39
        assert int(float(number)) != number
    else:
        assert int(arrived) == number


@given(st.text().filter(lambda text: "\0" not in text and len(text.encode()) < 40))
def test_text_comes_back(text: str) -> None:
    _, count, data = encode("PV", text, None, DBR_STRING, 1)
    assert count == 1
    assert make_reader("PV", DBR_STRING, 1, None, FORMAT_RAW).decode(bytes(data)) == text


# -- Arbitrary replies -----------------------------------------------------------------------------

UNDERSTOOD = (ValueError, IndexError, struct.error, ArithmeticError, TypeError)
ATTRIBUTES = (
    "name", "ok", "datatype", "element_count", "status", "severity", "alarm", "raw_stamp",
    "timestamp", "timestamp_ns", "datetime", "datetime_utc", "units", "precision", "enums",
    "upper_disp_limit", "lower_disp_limit", "upper_alarm_limit", "upper_warning_limit",
    "lower_warning_limit", "lower_alarm_limit", "upper_ctrl_limit", "lower_ctrl_limit",
    "ackt", "acks",
)  # fmt: skip
read_codes = st.sampled_from(
    [None, *BASE_TYPES, DBR_STSACK_STRING, DBR_CLASS_NAME, DBR_ENUM_STR, DBR_CHAR_BYTES,
     DBR_CHAR_UNICODE, DBR_CHAR_STR, datatype_code(str), datatype_code(bytes)]
)  # fmt: skip
formats = st.sampled_from([FORMAT_RAW, FORMAT_TIME, FORMAT_CTRL])


@given(
    native_type=st.sampled_from(BASE_TYPES),
    native_count=st.sampled_from([1, 3, 1000]),
    code=read_codes,
    format=formats,
    raw=st.binary(max_size=600),
    writable=st.booleans(),
)
@example(DBR_ENUM, 1, None, FORMAT_CTRL, b"\0" * 4 + b"\xff\x7f" + b"x" * 418, False)
@example(DBR_ENUM, 1, None, FORMAT_CTRL, b"\0" * 4 + b"\xff\xff" + b"x" * 418, False)
@example(DBR_DOUBLE, 1, None, FORMAT_TIME, b"\xff" * 24, False)
def test_any_bytes_are_decoded_or_refused(
    native_type: int, native_count: int, code: int | None, format: int, raw: bytes, writable: bool
) -> None:
    """Attributes are decoded when they are read, so reading one may raise an error too."""
    reader = make_reader("PV", native_type, native_count, code, format)
    try:
        value = reader.decode(bytearray(raw) if writable else raw)
    except UNDERSTOOD:
        return
    assert value.name == "PV"
    for attribute in ATTRIBUTES:
        try:
            found = getattr(value, attribute)
        except (AttributeError, *UNDERSTOOD):
            continue
        if attribute == "enums":
            assert len(found) <= 16
            assert all(isinstance(label, str) for label in found)
        if attribute == "units":
            assert isinstance(found, str)
            assert len(found) <= 8


@given(
    native_type=st.sampled_from(BASE_TYPES),
    native_count=st.sampled_from([1, 3]),
    format=formats,
    data=st.data(),
)
def test_whole_replies_are_always_understood(
    native_type: int, native_count: int, format: int, data: st.DataObject
) -> None:
    """Any bytes of the right length give a value and all its attributes."""
    reader = make_reader("PV", native_type, native_count, None, format)
    size = VALUE_OFFSET[reader.shape.dbr] + native_count * VALUE_SIZE[reader.shape.dbr]
    raw = data.draw(st.binary(min_size=size, max_size=size))
    value = reader.decode(raw)
    assert isinstance(value, ca_array) == (native_count != 1)
    if native_count != 1:
        assert len(value) == native_count
    for attribute in (*reader.constants(), *reader.shape.fields):
        getattr(value, attribute)


def test_value_from_a_reply_that_stops_short_does_not_read_on() -> None:
    reader = make_reader("PV", DBR_DOUBLE, 5, None, FORMAT_RAW)
    assert reader.decode(struct.pack("=2d", 1, 2)).tolist() == [1, 2]
    assert reader.decode(b"").tolist() == []
    with pytest.raises(ValueError):
        reader.decode(b"123")
