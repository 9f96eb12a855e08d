"""What an IOC does with what it is sent: each statement of ``docs/reference/servers.md``.

These are facts about softIoc of EPICS 7.0.10, and how the calls of this package show them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from aioca import (
    DBR_ENUM,
    ECA,
    FORMAT_CTRL,
    FORMAT_TIME,
    CARequestError,
    CATimeout,
    caget,
    cainfo,
    camonitor,
    caput,
    wait_for_value,
)
from aioca.testing import SoftIoc
from tests.support.iocs import PORTS

pytestmark = pytest.mark.anyio
EPICS_EPOCH = 631152000  # 1990-01-01, in seconds since 1970

DATABASE = """
record(longout, "$(P)long") { field(VAL, "7") field(FLNK, "$(P)long:count") }
record(calc, "$(P)long:count") { field(CALC, "VAL+1") }
record(ai, "$(P)ai") { }
record(ai, "$(P)never") { }
record(ao, "$(P)ao") { }
record(int64out, "$(P)int64") { }
record(waveform, "$(P)array") { field(FTVL, "DOUBLE") field(NELM, "20") }
record(mbbo, "$(P)mbbo") { field(ZRST, "Off") field(ONST, "On") }
record(bo, "$(P)bo") { field(ZNAM, "Off") field(ONAM, "On") }

record(ao, "$(P)slow") { field(OUT, "$(P)delay.A PP") field(FLNK, "$(P)slow:count") }
record(calc, "$(P)slow:count") { field(CALC, "VAL+1") }
record(calcout, "$(P)delay") { field(CALC, "A") field(ODLY, "0.5") field(OOPT, "Every Time") }
record(ao, "$(P)by:scan") { field(SCAN, "10 second") field(FLNK, "$(P)by:scan:count") }
record(calc, "$(P)by:scan:count") { field(CALC, "VAL+1") }
record(ao, "$(P)disabled") {
    field(DISV, "1") field(DISA, "1") field(FLNK, "$(P)disabled:count")
}
record(calc, "$(P)disabled:count") { field(CALC, "VAL+1") }
record(compress, "$(P)collects") {
    field(ALG, "N to 1 Low Value") field(INP, "$(P)ao") field(N, "5")
}
record(calc, "$(P)ticks") { field(SCAN, ".1 second") field(CALC, "VAL+1") }
record(ao, "$(P)no:time") { field(TSE, "-2") field(PINI, "YES") }
record(ai, "$(P)tse") { field(TSE, "-1") field(PINI, "YES") }
"""


DECIMALS_ONLY = {"010": 10, "08": 8, "0x1F": 0, "1e3": 1}


@pytest.fixture(scope="module")
def p() -> Iterator[str]:
    """The prefix of the records of an IOC for this module."""
    prefix = "W:"
    with SoftIoc(DATABASE, {"P": prefix}, port=PORTS[5]):
        yield prefix


async def read(pv: str, *args: Any, **options: Any) -> Any:
    """`caget`, where the test knows what comes and mypy does not."""
    return await caget(pv, *args, **options)


# -- Texts and numbers that are written ------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "integer", "real"),
    [
        ("12", 12, 12), ("010", 8, 10), ("08", 0, 8), ("1e3", 1, 1000), ("1.9", 1, 1.9),
        ("0x1F", 31, 31), ("12abc", 12, 12),
    ],
)  # fmt: skip
async def test_text_to_a_number(p: str, text: str, integer: int, real: float) -> None:
    """Records of integers read it like C, octal and up to the first other character."""
    for name in ("long", "int64"):
        await caput(p + name, 5, wait=True)
        await caput(p + name, text, wait=True)
        assert await caget(p + name) == integer
    for name in ("ai", "ao"):
        await caput(p + name, text, wait=True)
        assert await caget(p + name) == real


async def test_text_where_the_ioc_reads_decimals_only(
    own_ioc: Callable[..., SoftIoc], unique: str
) -> None:
    """With a variable in its environment, an IOC reads integers like those of EPICS 7.0.8."""
    ioc = own_ioc(f'record(longout, "{unique}long") {{ }}')
    ioc.environment = {"EPICS_DB_CONVERT_DECIMAL_ONLY": "YES"}
    ioc.start()
    for text, number in DECIMALS_ONLY.items():
        await caput(unique + "long", text, wait=True)
        assert await caget(unique + "long") == number


async def test_a_number_is_written_as_it_is(p: str) -> None:
    """So ``float(text)`` is the safe way to write a text."""
    for name in ("long", "int64", "ao"):
        await caput(p + name, float("1e3"), wait=True)
        assert await caget(p + name) == 1000
        await caput(p + name, int("08"), wait=True)
        assert await caget(p + name) == 8


async def test_text_to_an_enum(p: str) -> None:
    for text, state in [("1x", 1), ("1.9", 1), ("On", 1)]:
        await caput(p + "mbbo", "Off", wait=True)
        try:
            await caput(p + "mbbo", text, wait=True)
        except CARequestError:
            assert text != "On"
            continue
        assert await caget(p + "mbbo") == state
    with pytest.raises(CARequestError):
        await caput(p + "bo", "1x", wait=True)


async def test_number_beyond_a_menu(p: str) -> None:
    """It is taken, also by SCAN: the record is then not scanned any more."""
    pv = p + "ticks"
    with pytest.raises(CARequestError):
        await caput(pv + ".SCAN", "every hour", wait=True)
    await wait_for_value(pv, lambda value: value > 2, timeout=5)
    try:
        await caput(pv + ".SCAN", 50, datatype=DBR_ENUM, wait=True)
        assert await caget(pv + ".SCAN") == 50
        last = await caget(pv)
        await anyio.sleep(0.5)  # nothing must happen: five scans
        assert await caget(pv) == last
    finally:
        await caput(pv + ".SCAN", ".1 second", wait=True)
    await wait_for_value(pv, lambda value: value > last, timeout=5)


# -- What a put-callback means ---------------------------------------------------------------------


async def test_refused_put_callback_processes(p: str) -> None:
    """The record and its forward link process all the same; not so without wait, or with DISP."""
    pv, count = p + "long", p + "long:count"
    before = await read(count)
    with pytest.raises(CARequestError):
        await caput(pv, "no number", wait=True)
    assert await caget(count) == before + 1
    await caput(pv, "no number")
    assert await caget(pv + ".DISP") == 0  # behind it, on the same circuit
    assert await caget(count) == before + 1
    await caput(pv + ".DISP", 1, wait=True)
    with pytest.raises(CARequestError):
        await caput(pv, 3, wait=True)
    assert await caget(count) == before + 1
    await caput(pv + ".DISP", 0, wait=True)


@pytest.mark.parametrize("name", ["by:scan", "disabled"])
async def test_completed_at_once_and_not_processed(p: str, name: str) -> None:
    pv, count = p + name, p + name + ":count"
    before = await read(count)
    await caput(pv, 3, wait=True, timeout=1)
    assert await caget(pv) == 3
    assert await caget(count) == before


async def test_fields_that_process_nothing(p: str) -> None:
    """``.DESC`` of any record, and ``VAL`` of calcout."""
    before = await read(p + "long:count")
    await caput(p + "long.DESC", "text", wait=True)
    assert await caget(p + "long:count") == before
    await caput(p + "delay", 5, wait=True, timeout=0.9)  # the delay takes 1 s
    await caput(p + "delay.A", 6, wait=True)
    assert await caget(p + "delay") == 6


async def test_collecting_compress_never_completes(p: str) -> None:
    """The write is carried out; only its completion never comes."""
    with pytest.raises(CATimeout):
        await caput(p + "collects.PROC", 1, wait=True, timeout=0.5)


async def test_second_put_while_records_behind_are_busy(p: str) -> None:
    """It completes at once; the record behind processes once more, later."""
    await caput(p + "delay.A", 0, wait=True)  # whatever was under way has then ended
    ended: list[int] = []
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:

            async def put(number: int) -> None:
                await caput(p + "slow", number, wait=True)
                ended.append(number)

            group.start_soon(put, 2)
            await wait_for_value(p + "slow", 2)  # it was processed, and its delay runs
            group.start_soon(put, 3)
    assert ended == [3, 2]
    assert await wait_for_value(p + "delay", 3, timeout=5) == 3


async def test_empty_text_to_a_number(p: str) -> None:
    """It is 0; a space is refused, as other text that is no number."""
    for pv in (p + "ao", p + "long"):
        await caput(pv, 7, wait=True)
        with pytest.raises(CARequestError):
            await caput(pv, " ", wait=True)
        assert await read(pv) == 7
        await caput(pv, "", wait=True)
        assert await read(pv) == 0


async def test_no_elements(p: str) -> None:
    """An array is emptied."""
    pv = p + "array"
    await caput(pv, [1, 2], wait=True)
    await caput(pv, [], wait=True)
    assert len(await read(pv)) == 0
    await caput(pv, [1, 2, 3, 4, 5], wait=True)


# -- Filters ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("array.[1:3]", [2, 3, 4]), ("array.VAL[1:3]", [2, 3, 4]), ("array.[-1]", 5),
        ('array.{"arr":{"s":0,"i":2,"e":4}}', [1, 3, 5]),
    ],
)  # fmt: skip
async def test_filters(p: str, name: str, expected: object) -> None:
    await caput(p + "array", [1, 2, 3, 4, 5], wait=True)
    value = await read(p + name)
    assert (value.tolist() if value.element_count > 1 else value) == expected


@pytest.mark.parametrize("name", ["array.[3]", 'array.{"arr":{"s":3,"e":3}}'])
async def test_write_through_a_filter(p: str, name: str) -> None:
    """It is a write to the whole array."""
    await caput(p + "array", [1, 2, 3, 4, 5], wait=True)
    await caput(p + name, 99, wait=True)
    assert (await read(p + "array")).tolist() == [99]
    await caput(p + "array", [1, 2, 3, 4, 5], wait=True)


async def test_filter_needs_a_dot_or_a_field(p: str) -> None:
    with pytest.raises(CATimeout, match="no server has answered"):
        await caget(p + "array[3]", timeout=0.5)
    assert await caget(p + "array.[3]") == 4
    assert await caget(p + "array.VAL[3]") == 4


async def test_filter_that_is_refused(p: str) -> None:
    """The search is answered, the channel is refused, and the message says so."""
    for name in ("array.[", 'ao.{"dbnd":{"q":1}}', "ao.VAL$", "ao.TIME"):
        with pytest.raises(CATimeout, match="refuses the channel"):
            await caget(p + name, timeout=1)


async def test_filter_beyond_the_array(p: str) -> None:
    info = await cainfo(p + "array.VAL[20]")
    assert info.count == 0


async def test_time_stamp_as_a_value(p: str) -> None:
    """Two elements, of which a request of the current number gives one."""
    pv = p + 'ao.{"ts":{"num":"ts"}}'
    await caput(p + "ao", 1, wait=True)
    assert (await cainfo(pv)).count == 2
    stamp = (await read(p + "ao", format=FORMAT_TIME)).raw_stamp
    seconds, nanoseconds = stamp[0] - EPICS_EPOCH, stamp[1]
    assert (await read(pv)).tolist() == [seconds]
    assert (await read(pv, count=2)).tolist() == [seconds, nanoseconds]


# -- Values and times ------------------------------------------------------------------------------


async def test_value_without_a_label(p: str) -> None:
    """`enums[value]` fails, `label` does not."""
    value = await read(p + "never.STAT", format=FORMAT_CTRL)
    assert value == 17 and len(value.enums) == 16
    with pytest.raises(IndexError):
        value.enums[value]
    assert value.label == "17"
    assert await caget(p + "never.STAT", str) == "UDF"


@pytest.mark.parametrize(("name", "severity"), [("tse", "NO_ALARM"), ("no:time", "NO_ALARM")])
async def test_no_time_of_an_event(p: str, name: str, severity: str) -> None:
    """With TSE -1 the time comes from a provider of events, and softIoc has none."""
    await caput(p + name + ".PROC", 1, wait=True)
    value = await read(p + name, format=FORMAT_TIME)
    assert value.raw_stamp == (EPICS_EPOCH, 0)
    assert value.alarm.severity == severity


async def test_as_init_takes_rights_away_for_a_moment(
    own_ioc: Callable[..., SoftIoc], tmp_path: Path, unique: str
) -> None:
    """A PV with rights that are calculated: access denied, then the value again."""
    rules = tmp_path / "rules.acf"
    rules.write_text(
        f'ASG(DEFAULT) {{ INPA("{unique}allow") RULE(1, READ) {{ CALC("A=1") }}'
        f' RULE(1, WRITE) {{ CALC("A=1") }} }} ASG(OPEN) {{ RULE(1, WRITE) }}'
    )
    database = f"""
    record(ao, "{unique}allow") {{ field(VAL, "1") field(PINI, "YES") field(ASG, "OPEN") }}
    record(ao, "{unique}a") {{ field(VAL, "3") field(PINI, "YES") }}
    """
    ioc = own_ioc(database)
    ioc.access_security = rules
    ioc.environment = {"EPICS_CA_SERVER_PORT": str(ioc.port)}  # for INPA
    ioc.start()
    seen: list[Any] = []
    denied, again = anyio.Event(), anyio.Event()

    def callback(value: Any) -> None:
        seen.append(value)
        if not value.ok:
            denied.set()
        elif denied.is_set():
            again.set()

    with anyio.fail_after(60):
        async with camonitor(unique + "a", callback, notify_disconnect=True, all_updates=True):
            await wait_for_value(unique + "a", 3)
            while not denied.is_set():
                # The moment may be too short for the server to look at the rights of the monitor
                await anyio.to_thread.run_sync(ioc.command, "asInit")
                with anyio.move_on_after(1):
                    await denied.wait()
            await again.wait()
    nothing = next(value for value in seen if not value.ok)
    assert nothing.errorcode == ECA.NORDACCESS
    assert seen[-1] == 3
