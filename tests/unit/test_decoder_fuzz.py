"""The decoder alone, with whatever bytes: a value or an ordinary error, and nothing beyond them.

What a reply brings is as long as its DBR type and count say (`_trampolines.copied` sees to it). Of
such bytes every attribute must be there, whatever is in them. Of bytes of any other length there is
a value or an error, too; where not even what comes before the value is whole, an attribute may say
that there are too few bytes.
"""

from __future__ import annotations

import copy
import ctypes
import math
import pickle
import struct
import subprocess
import sys
import textwrap
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aioca import (
    DBR_CHAR,
    DBR_CHAR_BYTES,
    DBR_CHAR_STR,
    DBR_CHAR_UNICODE,
    DBR_CLASS_NAME,
    DBR_DOUBLE,
    DBR_ENUM,
    DBR_ENUM_STR,
    DBR_SHORT,
    DBR_STRING,
    DBR_STSACK_STRING,
    FORMAT_CTRL,
    FORMAT_RAW,
    FORMAT_TIME,
)
from aioca._ca import callbacks, tokens
from aioca._ca.libca import ECA_BADTYPE, ECA_NORMAL, VALUE_OFFSET, VALUE_SIZE
from aioca._ca.tokens import INDEX_ONE
from aioca._monitors.every import Every
from aioca._monitors.latest import Latest
from aioca._monitors.policy import new_key
from aioca._values.dbr import AS_BYTES_TO_MATCH, AS_TEXT_TO_MATCH, DTYPES, datatype_code
from aioca._values.decode import make_reader
from aioca._values.number_types import Misfit
from aioca.types import Alarm, ca_array, ca_bytes, ca_float, ca_int, ca_str
from tests.support.fake_loop import FakeLoop

UNIT = True

# A deadline for each example would be one for the garbage collector, too
bounded = settings(max_examples=200, deadline=None)

NATIVE_TYPES = range(DBR_STRING, DBR_DOUBLE + 1)
native_types = st.sampled_from(NATIVE_TYPES)
# What a server says of itself goes up to 32 bits
native_counts = st.one_of(st.sampled_from([0, 1, 2, 5]), st.integers(0, 2**32 - 1))
codes = st.sampled_from(
    [None, *NATIVE_TYPES, DBR_STSACK_STRING, DBR_CLASS_NAME, DBR_ENUM_STR, DBR_CHAR_BYTES,
     DBR_CHAR_UNICODE, DBR_CHAR_STR, datatype_code(str), datatype_code(bytes),
     *map(datatype_code, (int, bool, "i1", "u2", "u4", "u8")), AS_TEXT_TO_MATCH, AS_BYTES_TO_MATCH]
)  # fmt: skip
formats = st.sampled_from([FORMAT_RAW, FORMAT_TIME, FORMAT_CTRL])
names = st.sampled_from(["PV", "PV.DESC$", 'PV.VAL${"dbnd":{"d":1}}'])
KINDS = {ca_int, ca_float, ca_str, ca_bytes, ca_array}
# What a decoder may find wrong, and only then
REFUSED = (ValueError, IndexError, struct.error, ArithmeticError, TypeError)

FIELD_TYPES: dict[str, Any] = {
    "status": int, "severity": int, "alarm": Alarm, "raw_stamp": tuple, "timestamp": float,
    "timestamp_ns": int, "datetime": datetime, "datetime_utc": datetime, "units": str,
    "precision": int, "enums": list, "label": (str, list), "ackt": int, "acks": int,
    **{f"{side}_{what}_limit": (int, float) for side in ("upper", "lower")
       for what in ("disp", "alarm", "warning", "ctrl")},
    "name": str, "ok": bool, "datatype": int, "element_count": int,
}  # fmt: skip


def same(one: Any, other: Any) -> bool:
    """Equal, where NaN is equal to NaN."""
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    nans = [isinstance(number, float) and math.isnan(number) for number in (one, other)]
    return all(nans) or bool(one == other)


def check_whole(value: Any, reader: Any, raw: bytes | bytearray) -> None:
    """A value whose bytes were whole: everything that can be done with it works."""
    assert type(value) in KINDS
    assert not isinstance(value, (Exception, bool))
    expected = {"name", "ok", "datatype", "element_count", *reader.shape.fields}
    for attribute in expected:
        found = getattr(value, attribute)
        assert isinstance(found, FIELD_TYPES[attribute]), attribute
        # Not a view of the bytes, which would keep all of them
        assert type(found).__module__ != "numpy", attribute
    for attribute in FIELD_TYPES.keys() - expected:
        assert not hasattr(value, attribute)
    assert expected <= set(dir(value))
    if "enums" in expected:
        assert len(value.enums) <= 16
        assert all(len(label.encode("utf-8", "replace")) <= 3 * 26 for label in value.enums)
    if "units" in expected:
        assert len(value.units) <= 8
    if "raw_stamp" in expected:
        seconds, nanoseconds = value.raw_stamp
        assert value.timestamp_ns == seconds * 10**9 + nanoseconds
        assert abs(value.timestamp - value.timestamp_ns / 1e9) < 1e-5
        moment = datetime.fromtimestamp(value.timestamp, timezone.utc)
        assert value.datetime_utc == value.datetime.astimezone(timezone.utc) == moment
        str(value.datetime), str(value.datetime_utc), repr(value.datetime)
    assert str(value) is not None
    assert repr(value) is not None
    assert f"{value}" is not None
    for other in (pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value)):
        assert type(other) is type(value)
        assert same(+other, +value)
        for attribute in expected:
            assert same(getattr(other, attribute), getattr(value, attribute)), attribute
    check_size(value, raw)


def check_size(value: Any, raw: bytes | bytearray) -> None:
    """No more comes out than went in. A byte that is no UTF-8 becomes one character."""
    plain = +value
    if isinstance(plain, np.ndarray):
        # Of numbers their count: they may be asked for in a wider type than they came in
        size = sum(map(len, plain.tolist())) if plain.dtype.kind in "SU" else plain.size
        assert size <= len(raw)
    elif isinstance(plain, (str, bytes)):
        assert len(plain) <= len(raw)


@bounded
@given(
    name=names,
    native_type=native_types,
    native_count=native_counts,
    code=codes,
    format=formats,
    monitor=st.booleans(),
    count=st.integers(0, 4),
    writable=st.booleans(),
    data=st.data(),
)
def test_whole_replies(
    name: str,
    native_type: int,
    native_count: int,
    code: int | None,
    format: int,
    monitor: bool,
    count: int,
    writable: bool,
    data: st.DataObject,
) -> None:
    """Any bytes, of the length that their type and count say: a value with all its attributes, 0
    where there is no element; an error only for numbers that the datatype cannot hold."""
    reader = make_reader(name, native_type, native_count, code, format, monitor=monitor)
    dbr = reader.shape.dbr
    size = VALUE_OFFSET[dbr] + count * VALUE_SIZE[dbr]
    raw: bytes | bytearray = data.draw(st.binary(min_size=size, max_size=size))
    if writable:
        raw = bytearray(raw)
    try:
        value = reader.decode(raw)
    except Misfit:
        assert code is not None and count
        return
    if count == 0 and type(value) is not ca_array:
        assert +value in (0, "", b"")
    check_whole(value, reader, raw)
    if type(value) is ca_array:
        assert len(value) == count
        assert value.ndim == 1


@bounded
@given(
    name=names,
    native_type=native_types,
    native_count=native_counts,
    code=codes,
    format=formats,
    monitor=st.booleans(),
    raw=st.binary(max_size=600),
    writable=st.booleans(),
)
@example("PV", DBR_DOUBLE, 1, None, FORMAT_RAW, False, b"", False)
@example("PV", DBR_DOUBLE, 5, None, FORMAT_RAW, False, b"123", True)
@example("PV", DBR_STRING, 1, None, FORMAT_TIME, True, b"12", False)
def test_any_length(
    name: str,
    native_type: int,
    native_count: int,
    code: int | None,
    format: int,
    monitor: bool,
    raw: bytes,
    writable: bool,
) -> None:
    reader = make_reader(name, native_type, native_count, code, format, monitor=monitor)
    given_raw = bytearray(raw) if writable else raw
    try:
        value = reader.decode(given_raw)
    except REFUSED:
        assert given_raw == raw
        return
    assert type(value) in KINDS
    check_size(value, raw)
    assert str(value) is not None
    assert repr(value) is not None
    if len(raw) >= VALUE_OFFSET[reader.shape.dbr]:
        check_whole(value, reader, given_raw)
        return
    for attribute in reader.shape.fields:
        try:
            getattr(value, attribute)
        except REFUSED:
            continue


@bounded
@given(
    seconds=st.integers(0, 2**32 - 1), nanoseconds=st.integers(0, 2**32 - 1),
    status=st.integers(-(2**15), 2**15 - 1), severity=st.integers(-(2**15), 2**15 - 1),
)  # fmt: skip
@example(0, 0, 0, 0)
@example(2**32 - 1, 2**32 - 1, -1, -1)
@example(0, 10**9, 22, 4)
@example(1_000_000_000, 110_776_899, 0, 0)
def test_stamps_and_alarms(seconds: int, nanoseconds: int, status: int, severity: int) -> None:
    """As sent, however far out of range: what has no name stays a number."""
    reader = make_reader("PV", DBR_DOUBLE, 1, None, FORMAT_TIME)
    value = reader.decode(struct.pack("=hhII4xd", status, severity, seconds, nanoseconds, 1.5))
    assert value == 1.5
    assert (value.status, value.severity) == (status, severity)
    assert value.raw_stamp == (seconds + 631152000, nanoseconds)
    assert (str(status) == value.alarm.status) == (not 0 <= status < 22)
    assert (str(severity) == value.alarm.severity) == (not 0 <= severity < 4)
    check_whole(value, reader, value._raw)


@bounded
@given(
    states=st.integers(-(2**15), 2**15 - 1),
    labels=st.binary(min_size=16 * 26, max_size=16 * 26),
    index=st.integers(0, 2**16 - 1),
)
@example(16, b"\xff" * 416, 65535)
@example(17, b"x" * 416, 0)
@example(-1, bytes(416), 16)
@example(32767, b"x" * 416, 0)
def test_labels(states: int, labels: bytes, index: int) -> None:
    """Never more than the 16 that there is room for, nor more than 26 bytes of each."""
    reader = make_reader("PV", DBR_ENUM, 1, None, FORMAT_CTRL)
    value = reader.decode(struct.pack("=hhh", 0, 0, states) + labels + struct.pack("=H", index))
    assert value == index
    assert len(value.enums) == min(max(states, 0), 16)
    named = index < len(value.enums) and value.enums[index]
    assert value.label == (value.enums[index] if named else str(index))
    for i, label in enumerate(value.enums):
        cell = labels[26 * i : 26 * i + 26].split(b"\0", 1)[0]
        assert label == cell.decode("utf-8", "replace")
    check_whole(value, reader, value._raw)


@bounded
@given(cells=st.lists(st.binary(min_size=40, max_size=40), max_size=4), format=formats)
@example([b"x" * 40] * 2, FORMAT_RAW)
@example([b"\xc3" * 40], FORMAT_TIME)
def test_strings(cells: list[bytes], format: int) -> None:
    """A string ends at its NUL or with its 40 bytes, and never takes from the next one."""
    reader = make_reader("PV", DBR_STRING, 5, None, format)
    value = reader.decode(bytes(VALUE_OFFSET[reader.shape.dbr]) + b"".join(cells))
    expected = [cell.split(b"\0", 1)[0].decode("utf-8", "replace") for cell in cells]
    assert value.tolist() == expected
    for cell, text in zip(cells, expected, strict=True):
        one = make_reader("PV", DBR_STRING, 1, None, FORMAT_RAW).decode(cell + b"beyond")
        assert one == text


@bounded
@given(
    native_type=st.sampled_from([DBR_STRING, DBR_CHAR, DBR_DOUBLE]),
    native_count=st.integers(2, 9),
    there=st.integers(0, 12),
    count=st.integers(-1, 12),
    code=st.sampled_from([None, datatype_code(int), datatype_code(bytes)]),
    format=formats,
    writable=st.booleans(),
)
def test_counts_of_monitors(
    native_type: int,
    native_count: int,
    there: int,
    count: int,
    code: int | None,
    format: int,
    writable: bool,
) -> None:
    """However many elements an update has: cut, or filled with zeros, to the count asked for."""
    reader = make_reader("PV", native_type, native_count, code, format, monitor=True, count=count)
    dbr = reader.shape.dbr
    cell = b"1".ljust(40, b"\0")
    one = cell if dbr % 7 == DBR_STRING else np.ones(1, DTYPES[dbr % 7]).tobytes()
    raw = bytes(VALUE_OFFSET[dbr]) + one * there
    value = reader.decode(bytearray(raw) if writable else raw)
    length = native_count if count < 0 else min(count, native_count) if count else there
    ones = min(there, length)
    if type(value) is ca_array:
        assert [int(element or 0) for element in value.tolist()] == [1] * ones + [0] * (
            length - ones
        )
    else:
        assert value == b"\1" * ones
    if writable or count:
        check_whole(value, reader, raw + bytes(length * 40))


# -- Out of C --------------------------------------------------------------------------------------

longs = st.one_of(st.integers(-3, 45), st.integers(-(2**63), 2**63 - 1))
statuses = st.one_of(st.just(ECA_NORMAL), st.integers(-(2**31), 2**31 - 1))


@bounded
@given(
    dbr=st.integers(0, 38), count=st.integers(0, 1200), filler=st.binary(min_size=1, max_size=64)
)
@example(DBR_CHAR, 4096, b"a")
@example(DBR_CHAR, 4097, b"a")
@example(DBR_DOUBLE, 512, b"a")
@example(DBR_DOUBLE, 513, b"a")
def test_copied_is_what_the_type_and_count_say(dbr: int, count: int, filler: bytes) -> None:
    size = VALUE_OFFSET[dbr] + VALUE_SIZE[dbr] * count
    content = (filler * (size // len(filler) + 1))[:size]
    buffer = ctypes.create_string_buffer(content + b"beyond", size + 6)
    copy = callbacks.copied(dbr, dbr, count, ctypes.addressof(buffer), ECA_NORMAL)
    assert isinstance(copy, (bytes, bytearray))
    assert copy == content
    ctypes.memset(buffer, 0, size)
    assert copy == content


@bounded
@given(expected=st.integers(0, 38), dbr=longs, count=longs, status=statuses)
def test_what_was_not_asked_for_is_not_copied(
    expected: int, dbr: int, count: int, status: int
) -> None:
    """The address is one that cannot be read: that it is not is what is tried here."""
    if dbr == expected and count >= 0 and status == ECA_NORMAL:
        count = -1 - count
    outcome = callbacks.copied(expected, dbr, count, 1, status)
    assert outcome == (ECA_BADTYPE if status == ECA_NORMAL else status)
    assert callbacks.copied(expected, dbr, count, 0, ECA_NORMAL) == b""


class Owner:
    def __init__(self) -> None:
        self.arrived: list[tuple[int, Any]] = []

    def arrive(self, index: int, raw: Any) -> None:
        self.arrived.append((index, raw))


@bounded
@given(
    asked=st.integers(0, 38), dbr=longs, count=longs, status=statuses, null=st.booleans(),
    index=st.integers(0, tokens.MAX_INDEX),
)  # fmt: skip
@example(DBR_DOUBLE, DBR_DOUBLE, 1, ECA_NORMAL, False, 0)
@example(DBR_SHORT, DBR_SHORT, 3, ECA_NORMAL, False, 7)
@example(DBR_STRING, DBR_STRING, 1, ECA_NORMAL, True, 0)
@example(DBR_STRING, DBR_STRING + 64, 1, ECA_NORMAL, False, 0)
@example(DBR_STRING, DBR_STRING + 256, 1, ECA_NORMAL, False, 0)
def test_trampolines(asked: int, dbr: int, count: int, status: int, null: bool, index: int) -> None:
    """Whatever C says of an event, who asked gets bytes of the right size, or a status."""
    if dbr == asked:
        count %= 100  # libca vouches for the count; see docs/explanations/security.md
    size = 100 * 1024
    buffer = ctypes.create_string_buffer(size)
    start = 0 if null else ctypes.addressof(buffer)
    owner, loop = Owner(), FakeLoop()
    every, latest = Every(loop), Latest(loop)  # type: ignore[arg-type]
    token = tokens.register(owner)
    key = new_key(asked)
    try:
        for trampoline, usr in (
            (callbacks.reply_trampoline, token + index * INDEX_ONE + asked),
            (every.trampoline, key),
            (latest.trampoline, key),
        ):
            event = callbacks._EventArgs(usr, 0, dbr, count, start, status)
            ctypes.cast(trampoline, callbacks._EVENT)(event)
    finally:
        tokens.unregister(token)
        waiting = latest.take(key)
        every.close()
        latest.close()
    ((heard_index, raw),) = owner.arrived
    assert heard_index == index
    assert loop.taken()[0] == (key, raw)
    assert waiting == raw
    if status != ECA_NORMAL:
        assert raw == status
    elif null:
        assert raw == b""
    elif dbr == asked:
        assert len(raw) == VALUE_OFFSET[dbr] + VALUE_SIZE[dbr] * count
    else:
        assert raw == ECA_BADTYPE


GUARDED = """
    import ctypes, mmap
    from aioca._ca import libca as _libca
    from aioca._ca import tokens as _tokens
    from aioca._ca import callbacks as _trampolines

    PAGE = mmap.PAGESIZE
    pages = mmap.mmap(-1, 40 * PAGE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    end = base + 39 * PAGE
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(end), ctypes.c_size_t(PAGE), 0) == 0
    tried = 0
    for dbr in range(39):
        for count in (0, 1, 2, 3, 5, 40, 100, 101, 511, 512, 513, 1000):
            size = _libca.VALUE_OFFSET[dbr] + _libca.VALUE_SIZE[dbr] * count
            if size <= 39 * PAGE:
                assert len(_trampolines.copied(dbr, dbr, count, end - size, 1)) == size
                tried += 1
        usr = _tokens.register(type("Owner", (), {"arrive": lambda self, index, raw: None})())
        event = _trampolines._EventArgs(usr + dbr, 0, dbr, 1, end - _libca.SCALAR_SIZE[dbr], 1)
        ctypes.cast(_trampolines.reply_trampoline, _trampolines._EVENT)(event)
        _tokens.unregister(usr)
    print(tried)
"""


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="memory is protected in another way there")
def test_nothing_is_read_beyond_the_end() -> None:
    """Right behind the bytes comes a page that cannot be read: one byte too many ends the process,
    which is therefore one of its own."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(GUARDED)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 39 * 9
    assert done.stderr == ""
