"""A server that sends anything in reply to a read: every call ends in time."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from aioca import (
    DBR_CHAR,
    DBR_CHAR_STR,
    DBR_DOUBLE,
    DBR_ENUM,
    DBR_LONG,
    DBR_STRING,
    FORMAT_CTRL,
    FORMAT_RAW,
    FORMAT_TIME,
    CAAccessDenied,
    CADisconnected,
    CARequestError,
    CATimeout,
    caget,
    camonitor,
    connect,
)
from aioca._ca.libca import ECA_BADTYPE, ECA_DISCONN, VALUE_OFFSET, VALUE_SIZE
from tests.support import hostile
from tests.support.hostile import (
    ACCESS_RIGHTS,
    CREATE_CH_FAIL,
    CREATE_CHAN,
    ECHO,
    EVENT_ADD,
    READ_NOTIFY,
    SEARCH,
    SERVER_DISCONN,
    VERSION,
    WRITE_NOTIFY,
    HostileServer,
    Request,
    message,
    payload,
    reply,
    stamp,
)
from tests.support.hostile_calls import GOOD, NOWHERE, SOON, outcome, refusal

pytestmark = pytest.mark.anyio

EPOCH = 631152000


def signed(status: int) -> int:
    return status - (1 << 32) if status >= 1 << 31 else status


# No answer within the time, an answer, or a status of an error
READS: dict[str, tuple[Callable[[Request], bytes], Any]] = {
    "nothing": (lambda r: b"", CATimeout),
    "other type": (lambda r: reply(r, payload(DBR_LONG, 7), type=DBR_LONG), ECA_BADTYPE),
    "type with time": (lambda r: reply(r, payload(20, 7.0), type=20), ECA_BADTYPE),
    "type 39": (lambda r: reply(r, GOOD, type=39), ECA_BADTYPE),
    "type 65535": (lambda r: reply(r, GOOD, type=65535), ECA_BADTYPE),
    "no elements": (lambda r: reply(r, b"", count=0), 0.0),
    "no elements but bytes": (lambda r: reply(r, GOOD, count=0), 0.0),
    "two of one": (lambda r: reply(r, GOOD * 2, count=2), 2.5),
    "a thousand of one": (lambda r: reply(r, GOOD * 1000, count=1000), 2.5),
    "more bytes than elements": (lambda r: reply(r, GOOD * 100, count=1), 2.5),
    "extended header": (lambda r: reply(r, GOOD, count=1, extended=True), 2.5),
    "status 0": (lambda r: reply(r, GOOD, status=0), 0),
    "status 2": (lambda r: reply(r, GOOD, status=2), 2),
    "status 65535": (lambda r: reply(r, GOOD, status=65535), 65535),
    "status -1": (lambda r: reply(r, GOOD, status=0xFFFFFFFF), -1),
    "status -2**31": (lambda r: reply(r, GOOD, status=1 << 31), -(1 << 31)),
    "disconnected, it says": (lambda r: reply(r, status=ECA_DISCONN), CADisconnected),
    "timed out, it says": (lambda r: reply(r, status=80), CATimeout),
    "no read access, it says": (lambda r: reply(r, status=368), CAAccessDenied),
    "channel destroyed, it says": (lambda r: reply(r, status=440), CATimeout),
    "to nobody": (lambda r: reply(r, GOOD, available=NOWHERE), CATimeout),
    "twice": (lambda r: reply(r, GOOD) * 2, 2.5),
    "a thousand times": (lambda r: reply(r, GOOD) * 1000, 2.5),
    "as the end of a put": (lambda r: reply(r, command=WRITE_NOTIFY), CATimeout),
    "among what nobody asked for": (
        lambda r: reply(r, GOOD, available=NOWHERE)
        + reply(r, GOOD, available=NOWHERE + 1, command=EVENT_ADD)
        + reply(r, command=WRITE_NOTIFY, available=NOWHERE + 2)
        + message(ACCESS_RIGHTS, cid=NOWHERE, available=3)
        + message(CREATE_CHAN, type=6, count=1, cid=NOWHERE, available=NOWHERE)
        + message(CREATE_CH_FAIL, cid=NOWHERE)
        + message(SERVER_DISCONN, cid=NOWHERE)
        + message(SEARCH, type=1, cid=NOWHERE, available=NOWHERE)
        + message(VERSION, count=hostile.MINOR_VERSION)
        + message(ECHO) * 3
        + reply(r, GOOD),
        2.5,
    ),
    "refused": (lambda r: refusal(r, READ_NOTIFY, 152, b"no reason\0"), 152),
    "refused with status 0": (lambda r: refusal(r, READ_NOTIFY, 0), 0),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "expected"), READS.values(), ids=READS)
async def test_reading(
    server: HostileServer, unique: str, answer: Callable[[Request], bytes], expected: Any
) -> None:
    pv = server.add(unique + "X", DBR_DOUBLE, 1, 1.5)
    await connect(pv)
    server.on[READ_NOTIFY] = answer
    timeout = SOON if answer is not READS["timed out, it says"][0] and expected is CATimeout else 5
    found = await outcome(pv, caget(pv, timeout=timeout), timeout + 3)
    if isinstance(expected, float):
        assert found == expected
    elif isinstance(expected, int):
        assert type(found) is CARequestError
        assert found.errorcode == expected
    else:
        assert type(found) is expected
    server.behave()
    assert await outcome(pv, caget(pv)) == 1.5


async def test_formats_and_sizes(server: HostileServer, unique: str) -> None:
    """Of each type in each format: with no element, one, and more than there are, in too few
    bytes, just enough, and too many. The rest of libca's buffer, which has 16 kB, may be seen."""

    def answer(count: int, size: int | None, request: Request) -> bytes:
        body = bytes(VALUE_OFFSET[request.type] + VALUE_SIZE[request.type] * count)
        return reply(request, body[:size] if size is not None else body + bytes(80), count=count)

    pvs = [server.add(f"{unique}{t}:{n}", t, n) for t in range(7) for n in (1, 5)]
    await connect(pvs)
    for count, size in [(0, 0), (0, None), (1, 0), (1, 8), (1, None), (40, 8), (40, None)]:
        server.on[READ_NOTIFY] = partial(answer, count, size)
        for format in (FORMAT_RAW, FORMAT_TIME, FORMAT_CTRL):
            for value in await caget(pvs, format=format, throw=False):
                assert value.name in pvs
                if value.ok:
                    assert getattr(value, "size", count) in (count, 1)
                    for attribute in value._reader.shape.fields:
                        getattr(value, attribute)
                else:
                    assert (count, value.errorcode) == (0, ECA_BADTYPE)
    server.behave()
    assert all(value.ok for value in await caget(pvs))


@pytest.mark.parametrize("pieces", [1, 3, 17])
async def test_trickled(server: HostileServer, unique: str, pieces: int) -> None:
    """Headers and bodies that come in pieces are put together."""

    def answer(request: Request) -> bytes:
        request.circuit.send(server.answer(request), pieces)
        return b""

    pv = server.add(unique + "X", DBR_DOUBLE, 40, [float(i) for i in range(40)])
    for command in (CREATE_CHAN, READ_NOTIFY, EVENT_ADD):
        server.on[command] = answer
    assert list(await caget(pv, format=FORMAT_TIME)) == list(range(40))
    async with camonitor(pv) as updates:
        assert list(await anext(updates)) == list(range(40))


STAMPS = [
    (0, 0), (0, 10**9), (0, 2**32 - 1), (2**31, 5), (2**32 - 1, 0), (2**32 - 1, 2**32 - 1),
    (1000, 999_999_999),
]  # fmt: skip
ALARMS = [(0, 0), (21, 3), (22, 4), (2**15, 2**15), (2**16 - 1, 2**16 - 1)]


async def test_stamps_and_alarms(server: HostileServer, unique: str) -> None:
    """Seconds, nanoseconds, status and severity come as sent, and are never an error."""
    pv = server.add(unique + "X", DBR_DOUBLE, 1, 1.5)
    await connect(pv)
    for seconds, nanoseconds in STAMPS:
        for status, severity in ALARMS:
            before = stamp(seconds, nanoseconds, status, severity)
            server.on[READ_NOTIFY] = lambda r, before=before: reply(r, payload(20, 1.5, before))
            value = await caget(pv, format=FORMAT_TIME)
            assert value == 1.5
            assert value.raw_stamp == (seconds + EPOCH, nanoseconds)
            assert value.timestamp_ns == (seconds + EPOCH) * 10**9 + nanoseconds
            assert value.timestamp == pytest.approx(value.timestamp_ns / 1e9, abs=1e-5)
            assert value.datetime_utc.timestamp() == pytest.approx(value.timestamp, abs=1e-5)
            assert value.datetime.timestamp() == pytest.approx(value.timestamp, abs=1e-5)
            as_signed = [n - 2**16 if n >= 2**15 else n for n in (status, severity)]
            assert [value.status, value.severity] == as_signed
            assert value.alarm.status
            assert value.alarm.severity


async def test_labels(server: HostileServer, unique: str) -> None:
    """Sixteen labels at most, each of 26 bytes at most, whatever number the server gives."""
    cells = [b"plain\0rest", b"", b"\xff\xfe", b"x" * 26, "é".encode() * 13] + [b"y" * 26] * 11
    expected = ["plain", "", "\N{REPLACEMENT CHARACTER}" * 2, "x" * 26, "é" * 13] + ["y" * 26] * 11
    pv = server.add(unique + "X", DBR_ENUM, 1, 70)
    for states in (0, 1, 16, 17, 255, 2**15 - 1, 2**15, 2**16 - 1):
        before = struct.pack(">HHH", 0, 0, states) + b"".join(c.ljust(26, b"\0") for c in cells)
        server.on[READ_NOTIFY] = lambda r, before=before: reply(r, payload(31, 65535, before))
        value = await caget(pv, format=FORMAT_CTRL)
        assert value == 65535
        assert value.enums == expected[: states if states < 2**15 else 0]


async def test_strings(server: HostileServer, unique: str) -> None:
    """Without NUL they end where there is no more room; what is no UTF-8 is replaced."""
    scalar = server.add(unique + "S", DBR_STRING)
    array = server.add(unique + "A", DBR_STRING, 3)
    chars = server.add(unique + "C", DBR_CHAR, 50)
    cells = [b"x" * 40, b"\xff" * 40, b"a\0" + b"b" * 38]
    texts = ["x" * 40, "\N{REPLACEMENT CHARACTER}" * 40, "a"]
    await connect([scalar, array, chars])
    for cell, text in zip(cells, texts, strict=True):
        server.on[READ_NOTIFY] = lambda r, cell=cell: reply(r, payload(r.type, cell), count=1)
        for format in (FORMAT_RAW, FORMAT_TIME, FORMAT_CTRL):
            assert await caget(scalar, format=format) == text
    server.on[READ_NOTIFY] = lambda r: reply(r, payload(r.type, cells), count=3)
    assert list(await caget(array)) == texts
    assert list(await caget(array, bytes)) == [cells[0], cells[1], b"a"]
    server.on[READ_NOTIFY] = lambda r: reply(r, payload(r.type, list(b"\xffy" * 25)), count=50)
    assert await caget(chars, DBR_CHAR_STR) == "\N{REPLACEMENT CHARACTER}y" * 25


async def test_units_and_limits(server: HostileServer, unique: str) -> None:
    """Units without NUL, limits that are no numbers, a precision of -1."""
    pv = server.add(unique + "X", DBR_DOUBLE, 1, 1.5)
    before = struct.pack(">HHh2x8s8d", 9, 9, -1, b"\xe9" * 8, *[float("nan")] * 8)
    server.on[READ_NOTIFY] = lambda r: reply(r, payload(34, float("inf"), before))
    value = await caget(pv, format=FORMAT_CTRL)
    assert value == float("inf")
    assert value.precision == -1
    assert value.units == "\N{REPLACEMENT CHARACTER}" * 8
    assert value.upper_ctrl_limit != value.upper_ctrl_limit
