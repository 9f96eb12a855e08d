"""camonitor: checks the arguments, makes the subscriptions, and gives them their owner."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, overload

from .._channels.context import LoopContext
from .._channels.registry import current
from .._monitors.callbacks import Callback, CallbackMonitor, Callee
from .._monitors.handles import Subscription, Subscriptions, expect_entry, own
from .._monitors.monitor import Monitor
from .._monitors.options import MonitorOptions, Options, check_options
from .._monitors.owners import GroupOwner, LoopOwner
from .._monitors.start import start_all
from .._monitors.stream import Stream, StreamMonitor, Updates
from .._values.dbr import FORMAT_RAW
from ..types import (
    Count,
    Datatype,
    Dbe,
    Format,
    TaskGroup,
    Timeout,
    ca_bytes,
    ca_float,
    ca_int,
    ca_str,
)
from .arguments import PVs, check_format_and_count, deadline_of, names_of

if TYPE_CHECKING:
    from typing_extensions import Unpack


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
    task_group: TaskGroup | None = ..., max_pending: int | None = ...,
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
    task_group: TaskGroup | None = ..., max_pending: int | None = ...,
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
    task_group: TaskGroup | None = ..., max_pending: int | None = ...,
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
    task_group: TaskGroup | None = ..., max_pending: int | None = ...,
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
    task_group: TaskGroup | None = None,
    max_pending: int | None = None,
) -> Subscription | Subscriptions:
    """Monitor one PV, or several.

    It returns at once, and can be called from any code that runs on the event loop's thread.
    There are four forms, which differ in how long the monitor lasts::

        async with camonitor(pv) as updates:        # the block
            async for value in updates: ...
        async with camonitor(pv, callback): ...     # the block; an error in the callback ends it
        camonitor(pv, callback, task_group=tg)      # the task group; likewise
        camonitor(pv, callback)                     # until close() or the end of the loop's run

    Args:
        pv: the PV, or a list of PVs.
        callback: called with each `aioca.types.AugmentedValue`, and for a list of PVs with
            ``(value, index)``. It is a function, an async function, or a function that returns an
            awaitable; the next update is delivered when the awaitable has ended. Without a
            callback nothing happens until the subscription is entered with ``async with``; if it
            is never entered, there is a ResourceWarning.
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
        task_group: an anyio ``TaskGroup``, a ``trio.Nursery`` or an ``asyncio.TaskGroup`` to
            own the monitor: the monitor ends with the group, and an error in the callback is
            raised in the group.
        max_pending: keep the newest n updates until they are delivered, and count the others.

    Returns:
        Subscription: for a list of PVs, a list of subscriptions, which can be entered like one.

    Raises:
        CAValueError: libca cannot search for the name of a PV.
        TypeError, ValueError: an argument is wrong.
        RuntimeError: no event loop is running in this thread.
    """
    check_format_and_count(format, count)
    check_callback(callback, task_group)
    context = current()
    options = check_options(
        datatype, format, count, events, all_updates, max_pending, notify_disconnect,
        _seconds(connect_timeout, context),
    )  # fmt: skip
    single = isinstance(pv, str)
    names = names_of(pv)
    make = _maker(context, options, callback, single)
    subscriptions = subscribe(context, names, make, callback, task_group)
    return subscriptions[0] if single else subscriptions


def subscribe(
    context: LoopContext,
    names: list[str],
    make: Callable[[int, str], Monitor],
    callback: Callback | None,
    task_group: TaskGroup | None,
) -> Subscriptions:
    """Make the monitors of one call; start them if they have a callback."""
    subscriptions: Subscriptions = Subscriptions(
        Subscription(make(*item)) for item in enumerate(names)
    )
    if callback is None:
        expect_entry(subscriptions)
    else:
        if task_group is not None:
            owner = GroupOwner(context.portal, subscriptions)
            own(subscriptions, owner)
            context.portal.spawn_in(task_group, owner.live, subscriptions.close)
        start_all(context, [subscription._monitor for subscription in subscriptions])
    return subscriptions


def check_callback(callback: object, task_group: object) -> None:
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable, not {callback!r}")
    if task_group is not None and callback is None:
        raise ValueError("a monitor in a task group needs a callback")
    if not (
        task_group is None
        or hasattr(task_group, "start_soon")
        or hasattr(task_group, "create_task")
    ):
        raise TypeError(
            "task_group must be an anyio TaskGroup, an asyncio.TaskGroup or a trio.Nursery, not"
            f" {task_group!r}"
        )


def _maker(
    context: LoopContext, options: Options, callback: Callback | None, single: bool
) -> Callable[[int, str], Monitor]:
    """Return a function that makes the monitor of each PV, with what all of them share."""
    if callback is None:
        stream = Stream(context)
        return lambda _, name: StreamMonitor(context, name, options, stream)
    callee = called_here(context, callback)
    return lambda index, name: CallbackMonitor(
        context, name, options, callee, None if single else index
    )


def called_here(context: LoopContext, callback: Callback) -> Callee:
    """Return how to call a callback: with the context variables of this call of camonitor."""
    variables = contextvars.copy_context()
    return Callee(callback, variables, variables.run, LoopOwner(context.portal))


def _seconds(timeout: Timeout, context: LoopContext) -> float | None:
    if timeout is None:
        return None
    return max(0.0, deadline_of(timeout, context.portal) - context.portal.now())
