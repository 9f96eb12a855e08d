"""What type checkers make of the public functions; checked by mypy and pyright, never run.

A call that is marked to be ignored has to be an error, to both (pyrightconfig.json).
"""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

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
)
from aioca.testing import SoftIoc, free_port, loopback_environment
from aioca.types import Alarm, AugmentedValue, Datatype, Format, Timeout

NAMES = ["A", "B"]
PAIR = ("A", "B")


async def reading(either: str | list[str], timeout: Timeout) -> None:
    assert_type(await caget("A"), AugmentedValue)
    assert_type(await caget("A", float, FORMAT_TIME, 1, 2.0, False), AugmentedValue)
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


async def callbacks(queue: asyncio.Queue[AugmentedValue], maybe: bool) -> None:
    assert_type(camonitor("A", plain), Subscription)
    assert_type(camonitor("A", asynchronous, all_updates=True), Subscription)
    assert_type(camonitor("A", queue.put, max_pending=5), Subscription)
    assert_type(camonitor("A", print, notify_disconnect=True, connect_timeout=1.0), Subscription)
    assert_type(camonitor("A", callback=lambda value: print(value.name)), Subscription)
    assert_type(camonitor(NAMES, indexed), Subscriptions)
    assert_type(camonitor(PAIR, callback=indexed, datatype=str), Subscriptions)
    monitor: Subscription = camonitor("A", plain if maybe else None)
    assert_type(monitor.name, str)
    assert_type(monitor.state == Subscription.OPEN, bool)
    assert_type(monitor.dropped_callbacks, int)
    async with monitor, camonitor(NAMES, indexed):
        monitor.close()
    async with anyio.create_task_group() as tasks, trio.open_nursery() as nursery:
        assert_type(camonitor("A", plain, task_group=tasks), Subscription)
        assert_type(camonitor(NAMES, indexed, task_group=nursery), Subscriptions)

    camonitor("A", 1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    camonitor("A", plain, 1, 1, 1, 1, True, True, 1.0, tasks)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


async def waiting() -> None:
    assert_type(await wait_for_value("A", 1), AugmentedValue)
    assert_type(await wait_for_value("A", lambda value: value > 1, 5.0), AugmentedValue)
    assert_type(await wait_for_value("A", "open", timeout=None, count=1), AugmentedValue)

    await wait_for_value(NAMES, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await wait_for_value("A", 1, throw=False)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


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
