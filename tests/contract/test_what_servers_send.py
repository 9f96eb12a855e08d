"""What an IOC sends, and when: more statements of ``docs/reference/servers.md``.

Filters in names, conversions, completion through links, and property events. Like
`test_what_servers_do`, these are facts about softIoc, and how the calls of this package show them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from aioca import (
    DBE_ALARM,
    DBE_LOG,
    DBE_PROPERTY,
    DBE_VALUE,
    DBR_CHAR,
    DBR_DOUBLE,
    DBR_LONG,
    FORMAT_CTRL,
    FORMAT_TIME,
    CARequestError,
    CAValueError,
    caget,
    cainfo,
    camonitor,
    caput,
)
from aioca.testing import SoftIoc
from tests.support.iocs import PORTS

pytestmark = pytest.mark.anyio
EPICS_EPOCH = 631152000  # 1990-01-01, in seconds since 1970

DATABASE = """
record(ao, "$(P)ao") { field(HIGH, "100") field(HSV, "MINOR") field(PINI, "YES") }
record(ao, "$(P)bands") { field(MDEL, "2") field(ADEL, "3") field(PINI, "YES") }
record(waveform, "$(P)array") { field(FTVL, "DOUBLE") field(NELM, "20") }
record(longout, "$(P)long") { }
record(int64out, "$(P)int64") { }
record(mbbo, "$(P)mbbo") { field(ZRST, "Off") field(ONST, "On") }
record(stringin, "$(P)string") { field(VAL, "hello") }
record(lsi, "$(P)lsi") { field(SIZV, "100") }

record(bo, "$(P)pulse") { field(HIGH, "0.5") }
record(seq, "$(P)seq") { field(DLY1, "0.5") field(DOL1, "1") field(LNK1, "$(P)target.A PP") }
record(calc, "$(P)target") { field(CALC, "A") }
record(ao, "$(P)over:CA") { field(OUT, "$(P)delay.A CA") }
record(calcout, "$(P)delay") { field(CALC, "A") field(ODLY, "0.5") field(OOPT, "Every Time") }
"""


@pytest.fixture(scope="module")
def p() -> Iterator[str]:
    """The prefix of the records of an IOC for this module."""
    prefix = "V:"
    with SoftIoc(DATABASE, {"P": prefix}, port=PORTS[5]):
        yield prefix


async def read(pv: str, *args: Any, **options: Any) -> Any:
    """`caget`, where the test knows what comes and mypy does not."""
    return await caget(pv, *args, **options)


async def updates_of(
    pv: str, record: str, puts: list[float], count: int, events: int = DBE_VALUE | DBE_ALARM
) -> list[Any]:
    """Write 0, then these values; return so many updates of a monitor that began at 0."""
    await caput(record, 0, wait=True)
    seen: list[Any] = []
    with anyio.fail_after(10):
        async with camonitor(pv, format=FORMAT_TIME, all_updates=True, events=events) as updates:
            seen.append(await anext(updates))
            for number in puts:
                await caput(record, number, wait=True)
            while len(seen) < count:
                seen.append(await anext(updates))
    return seen


# -- Filters ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "native", "elements"),
    [
        ("array.[1:3]", 3, [2, 3, 4]), ("array.[2:2:-3]", 8, [3]), ("array.[-3:-1]", 3, [3, 4, 5]),
        ('array.{"arr":{"s":1}}', 19, [2, 3, 4, 5]), ("array.[10:12]", 3, []),
    ],
)  # fmt: skip
async def test_native_count_of_a_filter(
    p: str, name: str, native: int, elements: list[float]
) -> None:
    """The native count is that of the filtered NELM (20), the elements are those that there are."""
    await caput(p + "array", [1, 2, 3, 4, 5], wait=True)
    assert (await cainfo(p + name)).count == native
    assert (await read(p + name)).tolist() == elements


async def test_deadband_filter(p: str) -> None:
    """The first update always comes; a change of the alarm passes within the deadband."""
    pv = p + 'ao.{"dbnd":{"d":5}}'
    seen = await updates_of(pv, p + "ao", [1, 4, 6, 8, 100, 99, 98, 0], 5)
    assert seen == [0, 6, 100, 99, 0]
    assert [value.severity for value in seen] == [0, 0, 1, 0, 0]


async def test_decimation_filter(p: str) -> None:
    """The first update, then each third one. A read passes by the filter."""
    pv = p + 'ao.{"dec":{"n":3}}'
    seen = await updates_of(pv, p + "ao", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 4)
    assert seen == [0, 3, 6, 9]
    assert await caget(pv) == 10


async def test_filter_of_the_user_tag(p: str) -> None:
    """Where the tag does not match, only the first update comes; reads work."""
    pv = p + 'ao.{"utag":{"M":255,"V":7}}'
    await caput(p + "ao", 3, wait=True)
    with anyio.fail_after(10):
        async with (
            camonitor(pv, all_updates=True) as tagged,
            camonitor(p + "ao", all_updates=True) as plain,
        ):
            for updates in (tagged, plain):
                assert await anext(updates) == 3
            for number in (4, 5):
                await caput(p + "ao", number, wait=True)
                assert await anext(plain) == number
            # Both monitors are on one circuit: an update of the other one would have come first
            with anyio.move_on_after(0.2):
                pytest.fail(f"the filter has let {await anext(tagged)} pass")
    assert await caget(pv) == 5


async def test_time_stamp_as_a_double(p: str) -> None:
    """It is that of the record, in seconds since 1990."""
    await caput(p + "ao", 1, wait=True)
    stamp = (await read(p + "ao", format=FORMAT_TIME)).raw_stamp
    seconds = await read(p + 'ao.{"ts":{"num":"dbl"}}')
    assert seconds == pytest.approx(stamp[0] - EPICS_EPOCH + stamp[1] / 1e9, abs=1e-6)


# -- Conversions -----------------------------------------------------------------------------------


async def test_long_string_of_a_field(p: str) -> None:
    """A stringin sends its NUL, too, an empty lsi no element; `caget` returns the text alone."""
    assert (await read(p + "string.VAL$", DBR_CHAR)).tolist() == [*b"hello\0"]
    assert await caget(p + "string.VAL$") == "hello"
    assert (await cainfo(p + "lsi.VAL$")).count == 100
    assert len(await read(p + "lsi.VAL$", DBR_CHAR)) == 0
    assert await caget(p + "lsi.VAL$") == ""


async def test_integers_of_64_bits(p: str) -> None:
    """Doubles in Channel Access; as text they are exact both ways."""
    assert (await cainfo(p + "int64")).datatype == DBR_DOUBLE
    await caput(p + "int64", "9007199254740993", wait=True)
    assert await caget(p + "int64", str) == "9007199254740993"
    assert await caget(p + "int64") == 2.0**53
    with pytest.raises(CARequestError):
        await caget(p + "int64", DBR_LONG)


@pytest.mark.parametrize("number", [1e10, -1e10, math.nan, 2**40])
@pytest.mark.parametrize(("name", "becomes"), [("long", -(2**31)), ("mbbo", 0)])
async def test_number_that_does_not_fit(p: str, name: str, becomes: int, number: float) -> None:
    """An IOC takes it for another number, so `caput` refuses to send it, unless as a double."""
    await caput(p + name, 1, wait=True)
    with pytest.raises(CAValueError):
        await caput(p + name, number, wait=True)
    assert await caget(p + name) == 1
    await caput(p + name, number, datatype=DBR_DOUBLE, wait=True)
    assert await caget(p + name) == becomes


async def test_empty_text_to_an_array_of_numbers(p: str) -> None:
    await caput(p + "array", [1, 2], wait=True)
    with pytest.raises(CARequestError):
        await caput(p + "array", "", wait=True)
    assert (await read(p + "array")).tolist() == [1, 2]


# -- Completion ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("put", "waits"), [("seq.PROC", True), ("delay.A", True), ("pulse", False), ("over:CA", False)]
)
async def test_what_completion_waits_for(p: str, put: str, waits: bool) -> None:
    """For delays of seq and calcout; not for HIGH of a bo, and not over CA links."""
    await caput(p + "delay.A", 0, wait=True)  # whatever was under way has then ended
    await caget(p + put)
    start = time.monotonic()
    await caput(p + put, 1, wait=True)
    assert (time.monotonic() - start > 0.4) == waits


# -- Events ----------------------------------------------------------------------------------------


async def properties(pv: str, again: bool) -> list[tuple[str, float]]:
    """Write units and limits; return those of the updates.

    ``again`` says whether an update is awaited where the same units are written again.
    """
    await caput([pv + ".EGU", pv + ".HOPR", pv + ".DESC"], ["mm", 1, "text"], wait=True)
    seen: list[tuple[str, float]] = []
    with anyio.fail_after(10):
        async with camonitor(
            pv, format=FORMAT_CTRL, events=DBE_PROPERTY, all_updates=True
        ) as updates:
            await caput(pv, 5, wait=True)
            for field, text in (("EGU", "mA"), ("EGU", "mA"), ("DESC", "other"), ("HOPR", 10)):
                await caput(f"{pv}.{field}", text, wait=True)
            while len(seen) < (4 if again else 3):
                value: Any = await anext(updates)
                seen.append((value.units, value.upper_disp_limit))
    return seen


async def test_property_events(p: str) -> None:
    """One when a property changes; none when it is written again, or for another field."""
    assert await properties(p + "ao", False) == [("mm", 1), ("mA", 1), ("mA", 10)]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (DBE_VALUE, [0, 3, 6, 9, 0]), (DBE_LOG, [0, 4, 8, 0]),
        (DBE_VALUE | DBE_LOG, [0, 3, 4, 6, 8, 9, 0]),
    ],
)  # fmt: skip
async def test_value_and_log_events(p: str, events: int, expected: list[float]) -> None:
    """Each has its deadband (MDEL 2, ADEL 3); a monitor of both gets the union, each value once."""
    puts = [1.0, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert await updates_of(p + "bands", p + "bands", puts, len(expected), events) == expected
