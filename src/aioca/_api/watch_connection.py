"""watch_connection: the connection and the access rights of PVs, as a stream of their states."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import overload

from .._ca import libca
from .._channels.channel import Channel
from .._channels.context import LoopContext
from .._channels.registry import current
from .._monitors.callbacks import Callback
from .._monitors.connection import CallbackWatch, StreamWatch, WatchStream
from .._monitors.handles import Subscription, Subscriptions
from .._monitors.monitor import Monitor
from .._monitors.stream import Updates
from ..types import TaskGroup
from .arguments import PVs, names_of
from .info import CAInfo
from .monitor import called_here, check_callback, subscribe


@overload
def watch_connection(  # type: ignore[overload-overlap]
    pv: str, callback: None = ...
) -> Subscription[Updates[CAInfo]]: ...
@overload
def watch_connection(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    pv: str, callback: Callback, *, task_group: TaskGroup | None = ...
) -> Subscription: ...
@overload
def watch_connection(pv: PVs, callback: None = ...) -> Subscriptions[Updates[CAInfo]]: ...
@overload
def watch_connection(
    pv: PVs, callback: Callback, *, task_group: TaskGroup | None = ...
) -> Subscriptions: ...
@overload
def watch_connection(  # type: ignore[overload-overlap]
    pv: str | PVs, callback: None = ...
) -> Subscription[Updates[CAInfo]] | Subscriptions[Updates[CAInfo]]: ...
@overload
def watch_connection(  # type: ignore[overload-overlap]
    pv: str | PVs, callback: Callback, *, task_group: TaskGroup | None = ...
) -> Subscription | Subscriptions: ...
@overload
def watch_connection(pv: Iterable[str], callback: None = ...) -> Subscriptions[Updates[CAInfo]]: ...
@overload
def watch_connection(
    pv: Iterable[str], callback: Callback, *, task_group: TaskGroup | None = ...
) -> Subscriptions: ...
def watch_connection(
    pv: str | Iterable[str],
    callback: Callback | None = None,
    *,
    task_group: TaskGroup | None = None,
) -> Subscription | Subscriptions:
    """Watch the connection and the access rights of one PV, or of several.

    For each PV it delivers a `CAInfo` with the present state, connected or not, and then one for
    each change: connected, lost, connected to another server or with another type, and access
    rights that have changed while the PV is connected. No value is read.

    It keeps the latest state of each PV only: a consumer that is slow does not get each change, but
    always the last. `Subscription.dropped_callbacks` counts the others.

    The forms and lifetimes are those of `camonitor`::

        async with watch_connection(pv) as infos:          # the block
            async for info in infos: ...
        async with watch_connection(pv, callback): ...     # the block; an error ends it
        watch_connection(pv, callback, task_group=tg)      # the task group; likewise
        watch_connection(pv, callback)                     # until close() or the end of the run

    Args:
        pv: the PV, or a list of PVs.
        callback: as for `camonitor`: called with each `CAInfo`, and for a list of PVs with
            ``(info, index)``.
        task_group: as for `camonitor`.

    Returns:
        Subscription: for a list of PVs, a list of subscriptions, which can be entered like one.

    Raises:
        CAValueError: libca cannot search for the name of a PV.
        TypeError, ValueError: an argument is wrong.
        RuntimeError: no event loop is running in this thread.
    """
    check_callback(callback, task_group)
    context = current()
    single = isinstance(pv, str)
    names = names_of(pv)
    make = _maker(context, callback, single)
    subscriptions = subscribe(context, names, make, callback, task_group)
    return subscriptions[0] if single else subscriptions


def state_of(channel: Channel) -> CAInfo | None:
    """Return the state of a channel; None if it is being lost, which will be reported next."""
    info = CAInfo(channel)
    if not info.ok:  # its host may be a server that does not respond or is not connected yet
        info.host, info.read, info.write = libca.NO_HOST, False, False
    elif info.host == libca.NO_HOST:
        return None
    return info


def _maker(
    context: LoopContext, callback: Callback | None, single: bool
) -> Callable[[int, str], Monitor]:
    """Return a function that makes the watch of each PV, with what all of them share."""
    if callback is None:
        stream = WatchStream(context)
        return lambda _, name: StreamWatch(context, name, state_of, stream)
    callee = called_here(context, callback)
    return lambda index, name: CallbackWatch(
        context, name, state_of, callee, None if single else index
    )
