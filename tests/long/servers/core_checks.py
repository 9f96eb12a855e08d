"""What has to work with every server: one set of checks, whatever serves the records.

`python -m tests.long.servers` runs it against each kind of server (see `kinds`), under each
backend, in a process of its own. The server is started here, since it is also killed here. The name
of this file keeps it out of the normal test run.
"""

from __future__ import annotations

import itertools
import os
import secrets
import time
from collections.abc import Iterator
from typing import Any

import anyio
import numpy as np
import pytest

from aioca import (
    DBR_CHAR_BYTES,
    DBR_CHAR_STR,
    DBR_ENUM_STR,
    FORMAT_CTRL,
    FORMAT_RAW,
    FORMAT_TIME,
    CAError,
    CANothing,
    CARequestError,
    CATimeout,
    CAValueError,
    Subscription,
    caget,
    cainfo,
    camonitor,
    caput,
    connect,
    wait_for_value,
)
from aioca.testing import free_port, loopback_environment
from tests.long.servers.kinds import (
    CODES,
    DIFFERENT,
    EMPTY_TEXT,
    FIXED,
    KIND,
    LIMITS,
    NO_ELEMENT,
    NUMBERS,
    PADDING,
    READS_ON,
    REFUSES,
    STAMPS,
    TIMES,
    Server,
    does,
    make_server,
)

pytestmark = pytest.mark.anyio

PORT, OWN_PORT = free_port(), free_port()
os.environ.update(
    loopback_environment([PORT, OWN_PORT])
)  # in place of those that conftest has chosen

# -- The server ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def p() -> Iterator[str]:
    """The prefix of the records of the server that the checks share."""
    prefix = f"S{secrets.token_hex(3)}:"
    server = make_server(prefix, PORT)
    server.start()
    yield prefix
    server.kill()


@pytest.fixture
def own_server() -> Iterator[tuple[Server, str]]:
    """A server to be killed, and the prefix of its records."""
    prefix = f"S{secrets.token_hex(3)}:"
    server = make_server(prefix, OWN_PORT)
    server.start()
    yield server, prefix
    server.kill()


# -- Values ----------------------------------------------------------------------------------------

LONG_TEXT = "a string that is longer than forty characters"
TYPES = {  # name: (DBR type, native count)
    "double": (6, 1), "long": (5, 1), "string": (0, 1), "enum": (3, 1), "text": (4, 100),
    "doubles": (6, 10), "longs": (5, 10),
}  # fmt: skip
VALUES: dict[str, Any] = {
    "double": 1.5, "long": 42, "string": "hello", "enum": 1, "text": list(LONG_TEXT.encode()),
    "doubles": [1.5, -2.5, 3.0], "longs": [1, -2, 3],
}  # fmt: skip
if not does(FIXED):
    TYPES |= {name: (TYPES[name][0], len(VALUES[name])) for name in ("text", "doubles", "longs")}
KINDS: dict[str, Any] = {
    "double": float, "long": int, "string": str, "enum": int, "text": np.uint8,
    "doubles": np.float64, "longs": np.int32,
}  # fmt: skip
NO_TIME = (631152000, 0)  # 0 in EPICS, which counts from 1990
every_type = pytest.mark.parametrize("name", TYPES)


def check(name: str, value: Any, expected: Any) -> None:
    """It is this value, and of the type that the record has."""
    kind = KINDS[name.removeprefix("put:")]
    if issubclass(kind, np.generic):
        assert isinstance(value, np.ndarray)
        assert value.dtype == kind
        if name.endswith("text"):  # how much of it is told beyond its end is the server's choice
            assert bytes(value).rstrip(b"\0") == bytes(expected)
        else:
            np.testing.assert_array_equal(value, expected)
    else:
        assert isinstance(value, kind)
        assert value == expected


async def read(pv: str, *args: Any, **options: Any) -> Any:
    """`caget`, where the check knows what comes and mypy does not."""
    return await caget(pv, *args, **options)


# -- Connecting ------------------------------------------------------------------------------------


async def test_connect(p: str) -> None:
    assert await connect(p + "double")
    assert all(await connect([p + name for name in TYPES]))


@every_type
async def test_cainfo(p: str, name: str) -> None:
    info = await cainfo(p + name)
    assert (info.datatype, info.count) == TYPES[name]
    assert info.ok and info.state == 2
    assert info.read and info.write
    # libca gives the name of the host where it knows it
    assert info.host.endswith(f":{PORT}")


async def test_absent(p: str) -> None:
    with pytest.raises(CATimeout):
        await caget(p + "absent", timeout=0.2)
    found, absent = await caget([p + "double", p + "absent"], timeout=1.0, throw=False)
    assert found == 1.5
    assert isinstance(absent, CANothing) and not absent and absent.name == p + "absent"


# -- Reading ---------------------------------------------------------------------------------------


@every_type
async def test_raw(p: str, name: str) -> None:
    value = await caget(p + name)
    check(name, value, VALUES[name])
    assert value.ok and value.name == p + name
    assert (value.datatype, value.element_count) == TYPES[name]
    assert not hasattr(value, "timestamp")
    assert not hasattr(value, "severity")


@every_type
async def test_time(p: str, name: str) -> None:
    value = await caget(p + name, format=FORMAT_TIME)
    check(name, value, VALUES[name])
    assert isinstance(value.severity, int)
    if value.element_count == 1 or does(STAMPS):
        assert value.severity == 0
        if value.raw_stamp == NO_TIME and not does(TIMES):
            return
        assert abs(value.timestamp - time.time()) < 3600
        assert value.datetime_utc.timestamp() == pytest.approx(value.timestamp, abs=1e-5)


@every_type
async def test_ctrl(p: str, name: str) -> None:
    value = await caget(p + name, format=FORMAT_CTRL)
    check(name, value, VALUES[name])
    if name == "enum":
        assert value.enums == ["Off", "Manual", "Automatic"]
    if name == "double":
        assert (value.units, value.precision) == ("mm", 3)
    if name == "long":
        assert value.units == "cnt"


async def test_list_of_all(p: str) -> None:
    """In one request, in order, with repetitions."""
    names = [*TYPES, *reversed(TYPES)] * 10
    for format in (FORMAT_RAW, FORMAT_TIME, FORMAT_CTRL):
        values = await caget([p + name for name in names], format=format)
        for name, value in zip(names, values, strict=True):
            check(name, value, VALUES[name])


async def test_limits(p: str) -> None:
    value = await caget(p + "limits", format=FORMAT_CTRL)
    assert value == 0.25
    assert (value.units, value.precision) == ("V", 2)
    assert (value.lower_disp_limit, value.upper_disp_limit) == (-20, 20)
    limit = 10 if does(LIMITS) else 20
    assert (value.lower_ctrl_limit, value.upper_ctrl_limit) == (-limit, limit)


async def test_alarms(p: str) -> None:
    pv = p + "alarms"
    value = await caget(pv, format=FORMAT_CTRL)
    assert (value.lower_alarm_limit, value.upper_alarm_limit) == (-10, 10)
    assert (value.lower_warning_limit, value.upper_warning_limit) == (-5, 5)
    found = []
    for number in (0, 7, 11, -7, -11, 0):
        await caput(pv, number, wait=True)
        found.append(str((await caget(pv, format=FORMAT_TIME)).alarm))
    assert found == [
        "NO_ALARM NO_ALARM", "HIGH MINOR", "HIHI MAJOR", "LOW MINOR", "LOLO MAJOR",
        "NO_ALARM NO_ALARM",
    ]  # fmt: skip


# -- Conversions -----------------------------------------------------------------------------------


async def test_converted_by_the_server(p: str) -> None:
    assert await caget(p + "double", int) == 1  # of 1.5 the fraction is cut off here
    assert await caget(p + "double", "f4") == 1.5
    assert float(await read(p + "double", str)) == 1.5
    value = await caget(p + "long", float)
    assert isinstance(value, float) and value == 42.0
    assert await caget(p + "long", str) == ("42" if does(NUMBERS) else "42.0000")
    assert await caget(p + "enum", str) == "Manual"
    assert await caget(p + "enum", DBR_ENUM_STR) == "Manual"
    assert await caget(p + "enum", int) == 1
    assert await caget(p + "enum", float) == 1.0


async def test_arrays_converted_by_the_server(p: str) -> None:
    value = await read(p + "longs", float)
    assert value.dtype == np.float64 and list(value) == [1.0, -2.0, 3.0]
    value = await read(p + "doubles", int)
    assert value.dtype == np.int64 and list(value) == [1, -2, 3]
    value = await read(p + "doubles", "i2")
    assert value.dtype == np.int16 and list(value) == [1, -2, 3]
    tail = "" if does(NUMBERS) else ".0000"
    assert list(await read(p + "longs", str)) == ["1" + tail, "-2" + tail, "3" + tail]


async def test_long_string(p: str) -> None:
    assert await caget(p + "text", str) == LONG_TEXT
    assert await caget(p + "text", DBR_CHAR_STR) == LONG_TEXT
    assert await caget(p + "text", DBR_CHAR_BYTES) == LONG_TEXT.encode()
    assert await caget(p + "text", bytes) == LONG_TEXT.encode()


async def test_count(p: str) -> None:
    assert list(await read(p + "doubles", count=2)) == [1.5, -2.5]
    assert list(await read(p + "doubles", count=1)) == [1.5]
    whole = await read(p + "doubles", count=-1)
    assert list(whole[:3]) == [1.5, -2.5, 3.0]
    assert len(whole) == (10 if does(PADDING) else 3)
    assert not whole[3:].any()


@pytest.mark.parametrize("format", [FORMAT_RAW, FORMAT_TIME, FORMAT_CTRL])
@pytest.mark.parametrize(("count", "length"), [(0, 3), (-1, 10), (1, 1), (2, 2), (5, 5), (99, 10)])
async def test_count_of_a_monitor(p: str, count: int, length: int, format: int) -> None:
    """Cut or filled with zeros, whatever the server puts into the header of an update."""
    for name in ("doubles", "longs"):
        with anyio.fail_after(5):
            async with camonitor(p + name, count=count, format=format) as updates:
                value: Any = await anext(updates)
        assert value.tolist() == (VALUES[name] + [0] * 7)[:length]


async def test_no_element_of_a_scalar(p: str) -> None:
    if not does(NO_ELEMENT):
        pytest.skip(DIFFERENT[KIND][NO_ELEMENT])
    for format in (FORMAT_RAW, FORMAT_TIME, FORMAT_CTRL):
        for datatype, nothing in ((None, 0), (int, 0), (float, 0.0), (str, ""), (bytes, b"")):
            assert await read(p + "nothing", datatype, format) == nothing
            with anyio.fail_after(5):
                async with camonitor(p + "nothing", datatype=datatype, format=format) as updates:
                    assert await anext(updates) == nothing


@every_type
async def test_wait_for_what_was_written(p: str, name: str) -> None:
    pv = f"{p}put:{name}"
    for value in WRITTEN[name]:
        await caput(pv, value)
        if name != "text" or isinstance(value, (str, bytes)) or does(CODES):
            await wait_for_value(pv, value, timeout=5)
    if name == "text":
        for text in (LONG_TEXT, LONG_TEXT.encode()):
            await caput(pv, text)
            assert await wait_for_value(pv, text, timeout=5) == text


# -- Writing ---------------------------------------------------------------------------------------

WRITTEN: dict[str, list[Any]] = {
    "double": [2.5, -1e300, 0],
    "long": [-7, 2**31 - 1, 0],
    "string": ["good bye", "", "µ and 37 more characters, which are X"],
    "enum": [2, 1, 0],
    "text": [list(b"short"), list(LONG_TEXT.encode() * 2), list(b"x")],
    "doubles": [[1.0], list(np.linspace(0, 1, 10)), [5.0, 6.0]],
    "longs": [[1], list(range(10)), [5, 6, 7]],
}


@pytest.mark.parametrize("wait", [False, True], ids=["plain", "callback"])
@every_type
async def test_put(p: str, name: str, wait: bool) -> None:
    """What was written is read back, arrays of every length included."""
    pv = f"{p}put:{name}"
    for value in WRITTEN[name]:
        assert await caput(pv, value, wait=wait)
        if wait:
            check(f"put:{name}", await caget(pv), value)
        else:  # a server need not have done it when it is asked for the next thing
            await until(pv, name, value)


async def until(pv: str, name: str, value: Any) -> None:
    """Wait until the PV has this value."""

    def matches(found: Any) -> bool:
        try:
            check(f"put:{name}", found, value)
        except AssertionError:
            return False
        return True

    await wait_for_value(pv, matches, timeout=5)


async def test_put_converts(p: str) -> None:
    """Written as another type than the record has."""
    await caput(p + "put:double", "3.25", wait=True)
    assert await caget(p + "put:double") == 3.25
    await caput(p + "put:double", 4, datatype=int, wait=True)
    assert await caget(p + "put:double") == 4.0
    await caput(p + "put:long", "17", wait=True)
    assert await caget(p + "put:long") == 17
    await caput(p + "put:enum", "Automatic", wait=True)
    assert await caget(p + "put:enum") == 2
    await caput(p + "put:enum", "Off", wait=True)
    assert await caget(p + "put:enum") == 0
    await caput(p + "put:longs", np.array([1.0, 2.0]), wait=True)
    assert list(await read(p + "put:longs")) == [1, 2]


async def test_put_long_string(p: str) -> None:
    await caput(p + "put:text", LONG_TEXT, datatype=DBR_CHAR_STR, wait=True)
    assert await caget(p + "put:text", str) == LONG_TEXT
    if does(EMPTY_TEXT):
        await caput(p + "put:text", "", datatype=DBR_CHAR_STR, wait=True)
        assert await caget(p + "put:text", str) == ""
    else:
        with pytest.raises(CARequestError):
            await caput(p + "put:text", "", datatype=DBR_CHAR_STR, wait=True)
        assert await caget(p + "put:text", str) == LONG_TEXT


async def test_put_list(p: str) -> None:
    names = [p + "put:double", p + "put:long", p + "put:enum"]
    for wait in (False, True):
        results = await caput(names, [1, 2, 1], wait=wait)
        assert [result.name for result in results] == names
    assert list(await caget(names)) == [1, 2, 1]
    await caput(names, 0, wait=True)
    assert list(await caget(names)) == [0, 0, 0]


async def test_put_too_long(p: str) -> None:
    """Found here: nothing is sent."""
    await caput(p + "put:longs", [1, 2], wait=True)
    with pytest.raises(CAValueError):
        await caput(p + "put:longs", list(range(11)))
    assert list(await read(p + "put:longs")) == [1, 2]


async def test_put_refused(p: str) -> None:
    """A record that refuses to be written to: the error says so, and nothing is written."""
    if not does(REFUSES):
        assert await caput(p + "refuses", 1, wait=True)
        assert await caget(p + "refuses") == 7
        return
    with pytest.raises(CAError) as caught:
        await caput(p + "refuses", 1, wait=True)
    assert caught.value.failures[0].name == p + "refuses"
    assert not isinstance(caught.value, CATimeout)
    result = await caput(p + "refuses", 1, wait=True, throw=False)
    assert isinstance(result, CANothing) and not result
    assert await caget(p + "refuses") == 7


async def test_put_of_no_label(p: str) -> None:
    """A string that is no state of the enum is refused."""
    await caput(p + "put:enum", 1, wait=True)
    with pytest.raises(CAError):
        await caput(p + "put:enum", "no such label", wait=True, timeout=3)
    assert await caget(p + "put:enum") == 1


async def test_put_waits_for_processing(p: str) -> None:
    pv = p + "slow"
    await connect(pv)
    start = time.monotonic()
    await caput(pv, 1, wait=True)
    assert time.monotonic() - start > 0.4
    start = time.monotonic()
    await caput(pv, 2)
    assert time.monotonic() - start < 0.3
    await wait_for_value(pv, 2, timeout=5)


async def test_overlapping_puts_that_wait(p: str) -> None:
    """The second one neither fails nor blocks others, and both end."""
    pv = p + "slow"
    await connect([pv, p + "double"])
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            for number in (1, 2, 3):

                async def put(number: int = number) -> None:
                    await caput(pv, number, wait=True)

                group.start_soon(put)
            start = time.monotonic()
            assert await caget(p + "double") == 1.5
            assert time.monotonic() - start < 0.4


async def test_reading_beside_overlapping_puts(p: str) -> None:
    """A server may serve nothing meanwhile: the error then names the write that is the reason."""
    pv, done = p + "slow", list[Any]()
    await connect([pv, p + "double"])

    async def put(number: int) -> None:
        done.append(await caput(pv, number, wait=True))

    reasons: list[str] = []
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            for number in (1, 2):
                group.start_soon(put, number)
            while len(done) < 2:
                try:
                    assert await caget(p + "double", timeout=0.2) == 1.5
                except CATimeout as error:
                    reasons.append(str(error))
                await anyio.sleep(0.01)  # no flood of reads
    assert all(done)
    assert bool(reasons) != does(READS_ON), reasons
    for reason in reasons:
        assert f"a caput(wait=True) of {pv} on the same server" in reason


# -- Monitors --------------------------------------------------------------------------------------


@every_type
async def test_monitor_first_update(p: str, name: str) -> None:
    for format in (FORMAT_RAW, FORMAT_TIME, FORMAT_CTRL):
        with anyio.fail_after(5):
            async with camonitor(p + name, format=format) as updates:
                value = await anext(updates)
        check(name, value, VALUES[name])
        assert hasattr(value, "severity") == (format != FORMAT_RAW)
    with anyio.fail_after(5):
        async with camonitor(p + "enum", datatype=DBR_ENUM_STR) as updates:
            assert await anext(updates) == "Manual"


async def test_monitor_order_and_last_value(p: str) -> None:
    """Every write that is waited for is seen, in order; the first update is the present value."""
    pv, seen, last = p + "put:double", list[float](), anyio.Event()
    await caput(pv, 0, wait=True)

    def callback(value: float) -> None:
        seen.append(value)
        if value == 20:
            last.set()

    with anyio.fail_after(10):
        async with camonitor(pv, callback, all_updates=True):
            while not seen:
                await anyio.sleep(0.01)  # the callback has no event for the first one
            for number in range(1, 21):
                await caput(pv, number, wait=True)
            await last.wait()
    assert seen == list(range(21))


async def test_monitor_of_an_array(p: str) -> None:
    """Updates have the length that the array has then."""
    pv = p + "put:doubles"
    await caput(pv, [1.0], wait=True)
    with anyio.fail_after(10):
        async with camonitor(pv, all_updates=True) as updates:
            assert list(await anext(updates)) == [1.0]
            for length in (10, 1, 5):
                await caput(pv, [float(length)] * length, wait=True)
                assert list(await anext(updates)) == [float(length)] * length


async def test_monitor_by_iteration_of_many(p: str) -> None:
    names = [p + name for name in TYPES]
    seen: set[str] = set()
    with anyio.fail_after(10):
        async with camonitor(names) as updates:
            async for value in updates:
                check(value.name.removeprefix(p), value, VALUES[value.name.removeprefix(p)])
                seen.add(value.name)
                if seen == set(names):
                    break


async def test_monitor_of_what_moves_by_itself(p: str) -> None:
    """At 10 Hz: each update one more than the one before, and none missing."""
    values: list[float] = []
    start = time.monotonic()
    with anyio.fail_after(10):
        async with camonitor(p + "ticks", all_updates=True) as updates:
            async for value in updates:
                values.append(value)
                if len(values) == 15:
                    break
    assert [b - a for a, b in itertools.pairwise(values)] == [1] * 14
    assert 1.0 < time.monotonic() - start < 5


async def test_monitor_merges_under_load(p: str) -> None:
    """By default only the latest is kept for a slow consumer; and it is the last."""
    pv = p + "put:long"
    await caput(pv, 0, wait=True)
    with anyio.fail_after(20):
        async with camonitor(pv) as updates:
            assert await anext(updates) == 0
            for number in range(1, 301):
                await caput(pv, number)
            await until(pv, "long", 300)  # through a monitor of its own
            value, taken = await anext(updates), 1
            while value != 300:
                assert value < 300
                value, taken = await anext(updates), taken + 1
    assert taken < 20


async def test_monitor_keeps_all_if_asked(p: str) -> None:
    """In order, up to the last; what the server itself has merged, nobody can have."""
    pv, seen = p + "put:long", list[int]()
    await caput(pv, 0, wait=True)
    with anyio.fail_after(20):
        async with camonitor(pv, all_updates=True) as updates:
            assert await anext(updates) == 0
            for number in range(1, 301):
                await caput(pv, number)
            async for value in updates:
                seen.append(value)
                if value == 300:
                    break
    assert seen == sorted(set(seen))


async def test_monitor_of_alarms(p: str) -> None:
    """A change of the alarm comes with the value, in FORMAT_TIME."""
    pv = p + "alarms"
    await caput(pv, 0, wait=True)
    with anyio.fail_after(10):
        async with camonitor(pv, format=FORMAT_TIME, all_updates=True) as updates:
            assert (await anext(updates)).severity == 0
            await caput(pv, 7, wait=True)
            async for value in updates:  # a server may tell of the value and of the alarm apart
                if (value, value.severity) == (7, 1):
                    break
            await caput(pv, 0, wait=True)
            async for value in updates:
                if (value, value.severity) == (0, 0):
                    break


async def test_close(p: str) -> None:
    """After it no callback is called, though the PV goes on."""
    seen: list[Any] = []
    subscription = camonitor(p + "ticks", seen.append)
    with anyio.fail_after(5):
        while len(seen) < 2:
            await anyio.sleep(0.01)  # a plain callback has no event
    subscription.close()
    assert subscription.state == Subscription.CLOSED
    count = len(seen)
    await anyio.sleep(0.35)  # nothing must happen: three more would come
    assert len(seen) == count


async def test_cancellation(p: str) -> None:
    """A get, a put and a monitor that are cancelled leave the PVs usable at once."""
    await connect([p + "slow", p + "double"])
    with anyio.fail_after(10):
        for seconds in (0.0, 0.0001, 0.001, 0.01, 0.1):
            with anyio.move_on_after(seconds):
                await caput(p + "slow", 5, wait=True)
            with anyio.move_on_after(seconds):
                await caget(p + "double")
            with anyio.move_on_after(seconds):
                async with camonitor(p + "ticks") as updates:
                    async for _ in updates:
                        pass
            assert await caget(p + "double") == 1.5
        await caput(p + "slow", 6, wait=True)
        assert await caget(p + "slow") == 6


# -- The server dies -------------------------------------------------------------------------------


async def test_killed_and_restarted(own_server: tuple[Server, str]) -> None:
    """The monitor is told, gets fail with what happened; then all goes on by itself."""
    server, p = own_server
    pv = p + "put:double"
    await caput(pv, 5, wait=True)
    with anyio.fail_after(90):
        async with camonitor(pv, notify_disconnect=True, all_updates=True) as updates:
            assert await anext(updates) == 5
            await anyio.to_thread.run_sync(server.kill)
            value: Any = await anext(updates)
            assert isinstance(value, CANothing) and not value
            with pytest.raises(CAError):
                await caget(pv, timeout=0.2)
            await anyio.to_thread.run_sync(server.start)
            assert await anext(updates) == 0  # as it is in the beginning
            await caput(pv, 6, wait=True)
            assert await anext(updates) == 6
            assert await caget(pv) == 6


async def test_killed_while_requests_wait(own_server: tuple[Server, str]) -> None:
    """They end at once, with an error that says that the server was lost."""
    server, p = own_server
    await connect(p + "slow")
    errors: list[BaseException] = []

    async def put() -> None:
        try:
            await caput(p + "slow", 1, wait=True, timeout=30)
        except CAError as error:
            errors.append(error)

    with anyio.fail_after(90):
        async with anyio.create_task_group() as group:
            group.start_soon(put)
            await caget(p + "double")  # behind the put, on the same circuit
            start = time.monotonic()
            await anyio.to_thread.run_sync(server.kill)
        assert time.monotonic() - start < 5
        assert [type(error).__name__ for error in errors] == ["CADisconnected"]
        await anyio.to_thread.run_sync(server.start)
        await connect([p + name for name in TYPES], timeout=60)
        assert await caget(p + "double") == 1.5
