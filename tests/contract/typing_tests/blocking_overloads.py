"""What type checkers make of aioca.blocking; checked by mypy and pyright, never run.

A call that is marked to be ignored has to be an error, to both (pyrightconfig.json).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from typing_extensions import assert_type

from aioca import FORMAT_TIME, CAInfo, CANothing
from aioca.blocking import (
    Subscription,
    Subscriptions,
    Updates,
    caget,
    cainfo,
    camonitor,
    caput,
    connect,
    wait_for_value,
    watch_connection,
)
from aioca.types import AugmentedValue, Datatype, ca_bytes, ca_float, ca_int, ca_str

NAMES = ["A", "B"]
PAIR = ("A", "B")


def reading(either: str | list[str], some: Iterable[str], datatype: Datatype) -> None:
    assert_type(caget("A"), AugmentedValue)
    assert_type(caget("A", None, FORMAT_TIME, 1, 2.0, False), AugmentedValue)
    assert_type(caget("A", int), ca_int)
    assert_type(caget("A", float), ca_float)
    assert_type(caget("A", str), ca_str)
    assert_type(caget("A", datatype=bytes, throw=False), ca_bytes)
    assert_type(caget("A", np.dtype("f8")), AugmentedValue)
    assert_type(caget("A", datatype), AugmentedValue)
    assert_type(caget(NAMES), list[AugmentedValue])
    assert_type(caget(PAIR, int), list[ca_int])
    assert_type(caget(set(NAMES), str), list[ca_str])
    assert_type(caget(name for name in NAMES), list[AugmentedValue])
    assert_type(caget(some), list[AugmentedValue])
    assert_type(caget(either), AugmentedValue | list[AugmentedValue])
    floats: list[float] = caget(NAMES, datatype=float)
    print(floats)

    caget(1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    caget("A", nonsense=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


def writing(either: str | list[str], some: Iterable[str]) -> None:
    assert_type(caput("A", 1), CANothing)
    assert_type(caput("A", [1, 2], "i4", True, 1.0, False), CANothing)
    assert_type(caput(NAMES, [1, 2], True), list[CANothing])
    assert_type(caput(pvs=NAMES, values=1, wait=True), list[CANothing])
    assert_type(caput(some, 1), list[CANothing])
    assert_type(caput(either, 1), CANothing | list[CANothing])

    caput("A")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


def channels(either: str | list[str]) -> None:
    assert_type(connect("A", False, 1.0, False), CANothing)
    assert_type(connect(NAMES), list[CANothing])
    assert_type(connect(either), CANothing | list[CANothing])
    assert_type(cainfo("A", wait=False), CAInfo)
    assert_type(cainfo(PAIR), list[CAInfo])
    assert_type(cainfo(either), CAInfo | list[CAInfo])


def waiting() -> None:
    assert_type(wait_for_value("A", 1.5, datatype=float), ca_float)
    assert_type(wait_for_value("A", "open", 5.0, datatype=str, count=1), ca_str)
    assert_type(wait_for_value("A", lambda value: value > 1), AugmentedValue)


def plain(value: AugmentedValue) -> None: ...


def indexed(value: AugmentedValue, index: int) -> None: ...


def monitoring(either: str | list[str]) -> None:
    with camonitor("A") as updates:
        assert_type(updates, Updates)
        assert_type(next(updates), AugmentedValue)
    with camonitor("A", datatype=float, format=FORMAT_TIME) as numbers:
        for number in numbers:
            assert_type(number, ca_float)
    with camonitor(NAMES, datatype=str, all_updates=True) as texts:
        for text in texts:
            assert_type(text.upper(), str)
    many: Subscriptions[Updates[ca_int]] = camonitor(PAIR, datatype=int)
    with many as integers:
        assert_type(next(integers), ca_int)
    assert_type(camonitor(either), Subscription[Updates] | Subscriptions[Updates])
    monitor: Subscription = camonitor("A", plain, max_pending=5)
    monitor.callback = plain
    assert_type(monitor.wait(1.0), bool)
    assert_type(camonitor(NAMES, indexed), Subscriptions)
    with monitor, camonitor(NAMES, indexed, connect_timeout=1.0) as others:
        others.close()

    camonitor("A", plain, task_group=None)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


def watching(either: str | list[str]) -> None:
    with watch_connection("A") as infos, watch_connection(NAMES) as many:
        assert_type(next(infos), CAInfo)
        assert_type(next(many).write, bool)
    assert_type(watch_connection("A", print), Subscription)
    assert_type(watch_connection(PAIR, print), Subscriptions)
    assert_type(
        watch_connection(either), Subscription[Updates[CAInfo]] | Subscriptions[Updates[CAInfo]]
    )

    watch_connection("A", datatype=int)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
