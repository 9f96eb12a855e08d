"""What has to work with every server: one set of checks, whatever serves the records.

`python -m tests.long.servers` runs it against each kind of server (see `kinds`), under each
backend, in a process of its own. The server is started here, since it is also killed here. The name
of this file keeps it out of the normal test run.
"""

from __future__ import annotations

import time
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
    caget,
    cainfo,
    camonitor,
    caput,
    connect,
    wait_for_value,
)
from tests.long.servers import core_support
from tests.long.servers.core_support import (
    LONG_TEXT,
    NO_TIME,
    PORT,
    TYPES,
    VALUES,
    check,
    every_type,
    read,
    until,
)
from tests.long.servers.kinds import (
    CODES,
    DIFFERENT,
    EMPTY_TEXT,
    KIND,
    LIMITS,
    NO_ELEMENT,
    NUMBERS,
    PADDING,
    READS_ON,
    REFUSES,
    STAMPS,
    TIMES,
    does,
)

pytestmark = pytest.mark.anyio

p = core_support.p

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
