"""camonitor, blocking: checks the arguments, makes the subscriptions, and starts the monitors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, overload

from .._api.arguments import PVs, check_format_and_count, deadline_of, names_of
from .._monitors.options import MonitorOptions, check_options
from .._values.dbr import FORMAT_RAW
from ..types import (
    Count,
    Datatype,
    Dbe,
    Format,
    Timeout,
    ca_bytes,
    ca_float,
    ca_int,
    ca_str,
)
from ._callbacks import callbacks_of
from ._delivery import Group, HandedMonitor, Handover
from ._handles import Subscription, Subscriptions, Updates, start
from ._loop_thread import LoopThread, loop_thread

if TYPE_CHECKING:
    from typing_extensions import Unpack

Callback = Callable[..., Any]


@overload
def camonitor(  # type: ignore[overload-overlap]
    pv: str, callback: None = ..., *, datatype: type[int], **options: Unpack[MonitorOptions]
) -> Subscription[Updates[ca_int]]: ...
@overload
def camonitor(  # type: ignore[overload-overlap]
    pv: str, callback: None = ..., *, datatype: type[float], **options: Unpack[MonitorOptions]
) -> Subscription[Updates[ca_float]]: ...
@overload
def camonitor(  # type: ignore[overload-overlap]
    pv: str, callback: None = ..., *, datatype: type[str], **options: Unpack[MonitorOptions]
) -> Subscription[Updates[ca_str]]: ...
@overload
def camonitor(  # type: ignore[overload-overlap]
    pv: str, callback: None = ..., *, datatype: type[bytes], **options: Unpack[MonitorOptions]
) -> Subscription[Updates[ca_bytes]]: ...
@overload
def camonitor(  # type: ignore[overload-overlap]
    pv: str, callback: None = ..., events: Dbe = ...,
    datatype: Datatype = ..., format: Format = ..., count: Count = ..., all_updates: bool = ...,
    notify_disconnect: bool = ..., connect_timeout: Timeout = ..., *,
    max_pending: int | None = ...,
) -> Subscription[Updates]: ...  # fmt: skip
@overload
def camonitor(  # type: ignore[overload-overlap]
    pv: str, callback: Callback, events: Dbe = ...,
    datatype: Datatype = ..., format: Format = ..., count: Count = ..., all_updates: bool = ...,
    notify_disconnect: bool = ..., connect_timeout: Timeout = ..., *,
    max_pending: int | None = ...,
) -> Subscription: ...  # fmt: skip
@overload
def camonitor(  # pyright: ignore[reportOverlappingOverload]
    pv: PVs, callback: None = ..., *, datatype: type[int], **options: Unpack[MonitorOptions]
) -> Subscriptions[Updates[ca_int]]: ...
@overload
def camonitor(
    pv: PVs, callback: None = ..., *, datatype: type[float], **options: Unpack[MonitorOptions]
) -> Subscriptions[Updates[ca_float]]: ...
@overload
def camonitor(
    pv: PVs, callback: None = ..., *, datatype: type[str], **options: Unpack[MonitorOptions]
) -> Subscriptions[Updates[ca_str]]: ...
@overload
def camonitor(
    pv: PVs, callback: None = ..., *, datatype: type[bytes], **options: Unpack[MonitorOptions]
) -> Subscriptions[Updates[ca_bytes]]: ...
@overload
def camonitor(
    pv: PVs, callback: None = ..., events: Dbe = ...,
    datatype: Datatype = ..., format: Format = ..., count: Count = ..., all_updates: bool = ...,
    notify_disconnect: bool = ..., connect_timeout: Timeout = ..., *,
    max_pending: int | None = ...,
) -> Subscriptions[Updates]: ...  # fmt: skip
@overload
def camonitor(
    pv: PVs, callback: Callback, events: Dbe = ...,
    datatype: Datatype = ..., format: Format = ..., count: Count = ..., all_updates: bool = ...,
    notify_disconnect: bool = ..., connect_timeout: Timeout = ..., *,
    max_pending: int | None = ...,
) -> Subscriptions: ...  # fmt: skip
@overload
def camonitor(  # type: ignore[overload-overlap]
    pv: str | PVs, callback: None = ..., events: Dbe = ...,
    datatype: Datatype = ..., format: Format = ..., count: Count = ..., all_updates: bool = ...,
    notify_disconnect: bool = ..., connect_timeout: Timeout = ..., *,
    max_pending: int | None = ...,
) -> Subscription[Updates] | Subscriptions[Updates]: ...  # fmt: skip
@overload
def camonitor(  # type: ignore[overload-overlap]
    pv: str | PVs, callback: Callback, events: Dbe = ...,
    datatype: Datatype = ..., format: Format = ..., count: Count = ..., all_updates: bool = ...,
    notify_disconnect: bool = ..., connect_timeout: Timeout = ..., *,
    max_pending: int | None = ...,
) -> Subscription | Subscriptions: ...  # fmt: skip
@overload
def camonitor(
    pv: Iterable[str], callback: None = ..., events: Dbe = ...,
    datatype: Datatype = ..., format: Format = ..., count: Count = ..., all_updates: bool = ...,
    notify_disconnect: bool = ..., connect_timeout: Timeout = ..., *,
    max_pending: int | None = ...,
) -> Subscriptions[Updates]: ...  # fmt: skip
@overload
def camonitor(
    pv: Iterable[str], callback: Callback, events: Dbe = ...,
    datatype: Datatype = ..., format: Format = ..., count: Count = ..., all_updates: bool = ...,
    notify_disconnect: bool = ..., connect_timeout: Timeout = ..., *,
    max_pending: int | None = ...,
) -> Subscriptions: ...  # fmt: skip
def camonitor(
    pv: str | Iterable[str],
    callback: Callback | None = None,
    events: Dbe = None,
    datatype: Datatype = None,
    format: Format = FORMAT_RAW,
    count: Count = 0,
    all_updates: bool = False,
    notify_disconnect: bool = False,
    connect_timeout: Timeout = None,
    *,
    max_pending: int | None = None,
) -> Subscription | Subscriptions:
    """Monitor one PV, or several: `aioca.camonitor` for programs without an event loop.

    There are three forms, which differ in how long the monitor lasts::

        with camonitor(pv) as updates:              # the block
            for value in updates: ...
        with camonitor(pv, callback): ...           # the block; an error in the callback ends it
        camonitor(pv, callback)                     # until close() or the end of the program

    One thread, which is not the caller's, calls the callbacks of the whole program, one after the
    other. They may call the functions of aioca.blocking; until such a call returns, other callbacks
    wait.

    An error in a callback closes the monitors. Where there is a block, the error is raised in the
    thread that has entered it: by the function of aioca.blocking in which the thread waits, or by
    the next one in the block, and at the latest at the end of the block. Without a block, the error
    is logged with its traceback (logger ``aioca``). `Subscription.wait` raises it, too.

    Args:
        pv: the PV, or a list of PVs.
        callback: a function that is called with each `aioca.types.AugmentedValue`, and for a list
            of PVs with ``(value, index)``. Without a callback nothing happens until the
            subscription is entered with ``with``; if it is never entered, there is a
            ResourceWarning.
        events: which events to ask for; see `aioca.types.Dbe`.
        datatype: the type to read as; see `aioca.types.Datatype`.
        format: what comes with the value; see `aioca.types.Format`.
        count: how many elements; see `aioca.types.Count`.
        all_updates: keep every update until it is delivered. By default, only the latest is kept;
            `Subscription.dropped_callbacks` counts the others.
        notify_disconnect: deliver a falsy `CANothing` (ECA_DISCONN) when the PV disconnects, and
            one with its status for any other failure. By default, other failures are logged.
        connect_timeout: deliver a falsy `CANothing` (ECA_TIMEOUT) if the PV is not connected in
            time; see `aioca.types.Timeout`. The monitor keeps waiting.
        max_pending: keep the newest n updates until they are delivered, and count the others.

    Returns:
        Subscription: for a list of PVs, a list of subscriptions, which can be entered like one.

    Raises:
        CAValueError: libca cannot search for the name of a PV.
        TypeError, ValueError: an argument is wrong.
        RuntimeError: called on the thread of the event loop of aioca.blocking.
    """
    check_format_and_count(format, count)
    check_callback(callback)
    single, names = isinstance(pv, str), names_of(pv)
    home = loop_thread()
    options = check_options(
        datatype, format, count, events, all_updates, max_pending, notify_disconnect,
        _seconds(connect_timeout, home),
    )  # fmt: skip

    def make(name: str, group: Group, index: int | None) -> HandedMonitor:
        return HandedMonitor(home, name, options, group, callback, index)

    subscriptions = subscribe(home, names, make, callback, single, call="camonitor")
    return subscriptions[0] if single else subscriptions


def check_callback(callback: object) -> None:
    if callback is None:
        return
    if not callable(callback):
        raise TypeError(f"callback must be callable, not {callback!r}")
    if inspect.iscoroutinefunction(callback):
        raise TypeError(
            f"callback must not be an async function, such as {callback!r}: use aioca.camonitor in"
            " an async program"
        )


def subscribe(
    home: LoopThread,
    names: list[str],
    make: Callable[[str, Group, int | None], HandedMonitor],
    callback: Callback | None,
    single: bool,
    *,
    call: str,
) -> Subscriptions:
    """Make the monitors of one call; start them if they have a callback."""
    handover = Handover(home) if callback is None else callbacks_of(home).handover
    group = Group(handover, call, calls_back=callback is not None)
    subscriptions: Subscriptions = Subscriptions(
        Subscription(home, make(name, group, None if single else index))
        for index, name in enumerate(names)
    )
    if callback is None:
        group.unentered = names
    else:
        start(home, subscriptions)
    return subscriptions


def _seconds(timeout: Timeout, home: LoopThread) -> float | None:
    if timeout is None:
        return None
    portal = home.context.portal
    return max(0.0, deadline_of(timeout, portal) - portal.now())
