"""What type checkers make of the public functions; checked by mypy and pyright, never run.

A call that is marked to be ignored has to be an error, to both (pyrightconfig.json).
"""

from __future__ import annotations

import asyncio
import datetime
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import anyio
import numpy as np
import trio
from typing_extensions import assert_type

from aioca import (
    DBR_CHAR_STR,
    FORMAT_CTRL,
    FORMAT_TIME,
    CAError,
    CAInfo,
    CANothing,
    CATimeout,
    CAValueError,
    ChannelInfo,
    Subscription,
    Subscriptions,
    Updates,
    ca_extra_fields,
    caget,
    cainfo,
    camonitor,
    caput,
    configure,
    connect,
    get_channel_infos,
    purge_channel_caches,
    run,
    wait_for_value,
    watch_connection,
)
from aioca.testing import SoftIoc, free_port, loopback_environment
from aioca.types import (
    Alarm,
    AugmentedValue,
    Datatype,
    Dbr,
    Format,
    TaskGroup,
    Timeout,
    ca_array,
    ca_bytes,
    ca_float,
    ca_int,
    ca_str,
)

NAMES = ["A", "B"]
PAIR = ("A", "B")


async def reading(either: str | list[str], timeout: Timeout) -> None:
    assert_type(await caget("A"), AugmentedValue)
    assert_type(await caget("A", None, FORMAT_TIME, 1, 2.0, False), AugmentedValue)
    assert_type(await caget("A", DBR_CHAR_STR, timeout=timeout, throw=False), AugmentedValue)
    assert_type(await caget("A", datatype="f4", timeout=(1e9,)), AugmentedValue)
    assert_type(await caget(NAMES), list[AugmentedValue])
    assert_type(await caget(PAIR), list[AugmentedValue])
    assert_type(await caget(NAMES, format=FORMAT_CTRL, throw=False), list[AugmentedValue])
    assert_type(await caget([f"PV{i}" for i in range(3)]), list[AugmentedValue])
    assert_type(await caget(either), AugmentedValue | list[AugmentedValue])

    await caget(1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await caget(["A", 1])  # type: ignore[list-item]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await caget("A", format=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await caget("A", timeout="1")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await caget("A", nonsense=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


async def many_pvs(
    sequence: Sequence[str],
    iterable: Iterable[str],
    iterator: Iterator[str],
    either: str | list[str],
    literals: list[Literal["A", "B"]],
    table: dict[str, float],
) -> None:
    """Whatever can be iterated over is many PVs, only a str is one."""
    assert_type(await caget(set(NAMES)), list[AugmentedValue])
    assert_type(await caget(frozenset(NAMES)), list[AugmentedValue])
    assert_type(await caget(f"PV{i}" for i in range(3)), list[AugmentedValue])
    assert_type(await caget(map(str.upper, NAMES)), list[AugmentedValue])
    assert_type(await caget(sequence), list[AugmentedValue])
    assert_type(await caget(iterable), list[AugmentedValue])
    assert_type(await caget(iterator), list[AugmentedValue])
    assert_type(await caget(literals), list[AugmentedValue])
    assert_type(await caget(table), list[AugmentedValue])
    assert_type(await caget(table.keys()), list[AugmentedValue])
    await caget(np.array(NAMES))
    assert_type(await caget(either), AugmentedValue | list[AugmentedValue])
    assert_type(await caput(set(NAMES), 1), list[CANothing])
    assert_type(await caput(iterable, 1, wait=True), list[CANothing])
    assert_type(await caput((f"PV{i}" for i in range(3)), [1, 2, 3]), list[CANothing])
    assert_type(await connect(set(NAMES)), list[CANothing])
    assert_type(await connect(iterable), list[CANothing])
    assert_type(await cainfo(iterator), list[CAInfo])
    assert_type(await cainfo(either), CAInfo | list[CAInfo])
    assert_type(camonitor(set(NAMES)), Subscriptions[Updates])
    assert_type(camonitor(iterable), Subscriptions[Updates])
    assert_type(camonitor(iterator, indexed), Subscriptions)
    assert_type(camonitor(either), Subscription[Updates] | Subscriptions[Updates])

    await caget({1, 2})  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await caget(b"A")  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]


def takes_float(number: float) -> None: ...


async def by_datatype(dbr: Dbr, dtype: np.dtype[np.float64], either: str | list[str]) -> None:
    number = await caget("A", datatype=float)
    assert_type(number, ca_float)
    takes_float(number)
    assert_type(number + 1, float)
    assert_type(number > 3, bool)
    assert_type((number.name, number.severity, number.timestamp), tuple[str, int, float])
    assert_type(number.upper_ctrl_limit, float)
    assert_type(+number, float)
    general: AugmentedValue = number
    number.no_such_field  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]  # noqa: B018
    # The PV may be an array
    assert_type(len(number), int)
    assert_type(number[0], Any)
    assert_type(list(number), list[Any])
    print(np.asarray(number), np.mean(number))

    assert_type(await caget("A", int), ca_int)
    assert_type(await caget("A", bool, FORMAT_TIME), ca_int)
    assert_type((await caget("A", int)) // 2, int)
    assert_type(await caget("A", str, FORMAT_CTRL), ca_str)
    assert_type((await caget("A", str)).upper(), str)
    assert_type(await caget("A", datatype=bytes, throw=False), ca_bytes)
    assert_type((await caget("A", bytes)).decode(), str)
    assert_type(await caget("A", dbr), AugmentedValue)
    assert_type(await caget("A", "f8"), AugmentedValue)
    assert_type(await caget("A", np.float32), AugmentedValue)
    assert_type(await caget("A", np.dtype("f8")), AugmentedValue)
    assert_type(await caget("A", dtype), AugmentedValue)
    assert_type(await caget(either, float), AugmentedValue | list[AugmentedValue])

    assert_type(await caget(NAMES, int), list[ca_int])
    assert_type(await caget(NAMES, float), list[ca_float])
    assert_type(await caget(set(NAMES), str), list[ca_str])
    assert_type(await caget(NAMES, datatype=bytes), list[ca_bytes])
    assert_type(await caget(NAMES, np.dtype("i4")), list[AugmentedValue])
    for each in await caget(NAMES, float):
        takes_float(each)
    # As programs for aioca 2.x have it, and as it is
    generals: list[AugmentedValue] = await caget(NAMES, datatype=float)
    floats: list[float] = await caget(NAMES, datatype=float)
    strings: list[str] = await caget(NAMES, datatype=float)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(general, generals, floats, strings)

    assert_type(await wait_for_value("A", 1.5, datatype=float), ca_float)
    assert_type(await wait_for_value("A", "open", 5.0, datatype=str, count=1), ca_str)
    async with camonitor("A", datatype=float, format=FORMAT_TIME) as updates:
        async for update in updates:
            assert_type(update, ca_float)
    async with camonitor(NAMES, datatype=str, all_updates=True) as texts:
        async for text in texts:
            assert_type(text.upper(), str)


async def what_values_can_do(value: AugmentedValue, other: AugmentedValue) -> None:
    assert_type(float(value), float)
    assert_type(int(value), int)
    assert_type(math.sin(value), float)
    assert_type(f"{value:.3f}", str)
    assert_type(hex(value), str)
    assert_type(range(value), range)
    assert_type(round(value), Any)
    assert_type(round(value, 2), Any)
    assert_type((value + 1, 1 + value, value + other), tuple[Any, Any, Any])
    assert_type((value - 1, 1 - value, value * 2, 2 * value), tuple[Any, Any, Any, Any])
    assert_type((value / 2, 2 / value, value // 2, value % 2), tuple[Any, Any, Any, Any])
    assert_type((value**2, 2**value, value @ other, divmod(value, 2)), tuple[Any, Any, Any, Any])
    assert_type((value & 1, 1 | value, value ^ 1, value << 1), tuple[Any, Any, Any, Any])
    assert_type((-value, ~value, abs(value)), tuple[Any, Any, Any])
    assert_type((value > 3, value <= other, value == "open", value != 1), tuple[Any, Any, Any, Any])
    assert_type((value[0], value[1:3], value[:, 0]), tuple[Any, Any, Any])
    for element in value:
        assert_type(element, Any)
    assert_type((len(value), 3 in value), tuple[int, bool])
    print(
        np.asarray(value),
        np.mean(value),
        np.sin(value),
        max(value, other),
        sum([value, other]),
        {value: 1},
    )
    if isinstance(value, ca_array):
        assert_type(value.ndim, int)
        assert_type(value.timestamp, float)
    if isinstance(value, ca_str):
        assert_type(value.upper(), str)


async def values(datatype: Datatype, format: Format) -> None:
    value = await caget("A", datatype, format)
    assert_type(value.name, str)
    assert_type(value.ok, bool)
    assert_type(value.errorcode, int)
    assert_type(value.element_count, int)
    assert_type(value.timestamp, float)
    assert_type(value.timestamp_ns, int)
    assert_type(value.datetime, datetime.datetime)
    assert_type(value.severity, int)
    assert_type(value.alarm, Alarm)
    assert_type(value.units, str)
    assert_type(value.enums, list[str])
    assert_type(value.upper_ctrl_limit, float)
    assert_type(+value, Any)
    number: float = +value  # a value is an AugmentedValue; the plain object is what it is
    assert number
    value.no_such_field  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]  # noqa: B018


async def writing(either: str | list[str]) -> None:
    assert_type(await caput("A", 1), CANothing)
    assert_type(await caput("A", [1, 2], "i4", True, 1.0, False), CANothing)
    assert_type(await caput("A", np.zeros(3), wait=True, throw=False), CANothing)
    assert_type(await caput(pv="A", value="text"), CANothing)
    assert_type(await caput(NAMES, [1, 2]), list[CANothing])
    assert_type(await caput(PAIR, 0, wait=True, throw=False), list[CANothing])
    assert_type(await caput(NAMES, [1, 2], True), list[CANothing])
    assert_type(await caput(NAMES, [1, 2], repeat_value=True, datatype=int), list[CANothing])
    assert_type(await caput(pvs=NAMES, values=1), list[CANothing])
    assert_type(await caput(either, 1), CANothing | list[CANothing])

    await caput("A")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await caput("A", 1, repeat_value=True)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


async def channels(either: str | list[str]) -> None:
    assert_type(await connect("A"), CANothing)
    assert_type(await connect("A", False, 1.0, False), CANothing)
    assert_type(await connect(NAMES), list[CANothing])
    assert_type(await connect(PAIR, wait=False, throw=False), list[CANothing])
    assert_type(await connect(either), CANothing | list[CANothing])
    assert_type(await cainfo("A"), CAInfo)
    assert_type(await cainfo("A", wait=False), CAInfo)
    assert_type(await cainfo(NAMES, throw=False), list[CAInfo])
    assert_type(await cainfo(either), CAInfo | list[CAInfo])
    info = await cainfo("A")
    assert_type((info.ok, info.name, info.host), tuple[bool, str, str])
    assert_type((info.state, info.count, info.datatype), tuple[int, int, int])
    assert_type(info.state_strings[info.state], str)


def plain(value: AugmentedValue) -> None: ...


def indexed(value: AugmentedValue, index: int) -> None: ...


async def asynchronous(value: AugmentedValue) -> None: ...


def indexed_float(value: float, index: int) -> None: ...


async def asynchronous_float(value: float) -> None: ...


def as_before(value: AugmentedValue | CANothing) -> None: ...


async def updates_of_a_block() -> None:
    async with camonitor("A") as updates:
        assert_type(updates, Updates)
        assert_type(updates.subscriptions, list[Subscription])
        async for value in updates:
            assert_type(value, AugmentedValue)
    async with camonitor(NAMES, format=FORMAT_TIME, all_updates=True) as updates:
        assert_type(updates, Updates)
    monitor: Subscription = camonitor("A")
    monitors: list[Subscription] = camonitor(PAIR)
    monitors.append(monitor)
    # What is entered later, with its whole type
    one: Subscription[Updates] = camonitor("A")
    many: Subscriptions[Updates] = camonitor(PAIR)
    floats: Subscription[Updates[ca_float]] = camonitor("A", datatype=float)
    async with one as updates, many as merged, floats as numbers:
        assert_type(updates, Updates)
        assert_type(merged, Updates[AugmentedValue])
        assert_type(await anext(updates), AugmentedValue)
        assert_type(await anext(numbers), ca_float)
    for subscription in many:
        assert_type(subscription, Subscription[Updates])


async def callbacks(
    queue: asyncio.Queue[AugmentedValue], floats: asyncio.Queue[float], maybe: bool
) -> None:
    assert_type(camonitor("A", plain), Subscription)
    assert_type(camonitor("A", asynchronous, all_updates=True), Subscription)
    assert_type(camonitor("A", queue.put, max_pending=5), Subscription)
    assert_type(camonitor("A", print, notify_disconnect=True, connect_timeout=1.0), Subscription)
    assert_type(camonitor("A", callback=lambda value: print(value.name)), Subscription)
    assert_type(camonitor("A", takes_float), Subscription)
    assert_type(camonitor("A", asynchronous_float, datatype=float), Subscription)
    assert_type(camonitor("A", floats.put), Subscription)
    assert_type(camonitor("A", as_before, notify_disconnect=True), Subscription)
    assert_type(camonitor(NAMES, indexed_float), Subscriptions)
    assert_type(camonitor(NAMES, lambda value, index: print(index, value)), Subscriptions)
    assert_type(camonitor(NAMES, indexed), Subscriptions)
    assert_type(camonitor(PAIR, callback=indexed, datatype=str), Subscriptions)
    monitor: Subscription = camonitor("A", plain if maybe else None)
    monitor.callback = takes_float
    assert_type(monitor.name, str)
    assert_type(monitor.state == Subscription.OPEN, bool)
    assert_type(monitor.dropped_callbacks, int)
    async with monitor, camonitor(NAMES, indexed):
        monitor.close()
    async with anyio.create_task_group() as tasks, trio.open_nursery() as nursery:
        assert_type(camonitor("A", plain, task_group=tasks), Subscription)
        assert_type(camonitor(NAMES, indexed, task_group=nursery), Subscriptions)
        group: TaskGroup = nursery if maybe else tasks
        assert_type(camonitor("A", plain, task_group=group), Subscription)

    loop = asyncio.get_running_loop()
    camonitor("A", plain, task_group=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    camonitor("A", plain, task_group=loop)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    monitor.callback = 1  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    camonitor("A", 1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    camonitor("A", plain, 1, 1, 1, 1, True, True, 1.0, tasks)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


async def waiting() -> None:
    assert_type(await wait_for_value("A", 1), AugmentedValue)
    assert_type(await wait_for_value("A", lambda value: value > 1, 5.0), AugmentedValue)
    assert_type(await wait_for_value("A", "open", timeout=None, count=1), AugmentedValue)

    await wait_for_value(NAMES, 1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await wait_for_value("A", 1, throw=False)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


async def errors() -> None:
    try:
        await caget("A")
    except CATimeout as error:
        assert_type((error.name, error.errorcode, error.ok), tuple[str, int, bool])
        as_timeout: TimeoutError = error
        as_ours: CAError = error
        as_nothing: CANothing = as_ours
        print(as_timeout, as_nothing)
    except CAValueError as error:
        as_value_error: ValueError = error
        print(as_value_error)


async def number() -> int:
    return 1


def the_process() -> None:
    assert_type(run(number()), int | None)
    assert_type(run(number(), True, backend="trio"), int | None)
    assert_type(get_channel_infos(), list[ChannelInfo])
    info = get_channel_infos()[0]
    assert_type((info.name, info.connected, info.subscriber_count), tuple[str, bool, int])
    assert_type(ca_extra_fields, list[str])
    configure(addr_list=["127.0.0.1"], auto_addr_list=False, server_port=6000)
    purge_channel_caches()

    run(number)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    configure(auto_addr_list="NO")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    configure(["127.0.0.1"])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def testing() -> None:
    assert_type(loopback_environment(free_port()), dict[str, str])
    with SoftIoc("", {"P": "X:"}) as ioc:
        assert_type(ioc, SoftIoc)
        assert_type(ioc.port, int)
        assert_type(ioc.prefix, str)
        assert_type(ioc.command("dbl"), str)


async def watching(either: str | list[str]) -> None:
    async with watch_connection("A") as infos, watch_connection(NAMES) as many:
        async for info in infos:
            assert_type(info, CAInfo)
        assert_type((await anext(many)).write, bool)
    assert_type(watch_connection("A", print), Subscription)
    assert_type(watch_connection(PAIR, print), Subscriptions)
    assert_type(
        watch_connection(either), Subscription[Updates[CAInfo]] | Subscriptions[Updates[CAInfo]]
    )
    async with anyio.create_task_group() as tasks:
        assert_type(watch_connection("A", print, task_group=tasks), Subscription)

    watch_connection("A", datatype=int)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
