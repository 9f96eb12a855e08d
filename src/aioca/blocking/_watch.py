"""watch_connection, blocking."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

from .._api.arguments import PVs, names_of
from .._api.info import CAInfo
from .._api.watch_connection import state_of
from .._monitors.connection import States, Watching, latest_only
from ._delivery import Group, HandedMonitor
from ._handles import Subscription, Subscriptions, Updates
from ._loop_thread import LoopThread, loop_thread
from ._monitor import check_callback, subscribe

Callback = Callable[..., Any]


class _HandedWatch(Watching, HandedMonitor):
    """A watch whose states other threads take."""

    __slots__ = ("_states",)

    def __init__(
        self,
        home: LoopThread,
        name: str,
        group: Group,
        callback: Callback | None,
        index: int | None,
    ) -> None:
        super().__init__(home, name, latest_only(), group, callback, index)
        self._states = States(state_of)


@overload
def watch_connection(  # type: ignore[overload-overlap]
    pv: str, callback: None = ...
) -> Subscription[Updates[CAInfo]]: ...
@overload
def watch_connection(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    pv: str, callback: Callback
) -> Subscription: ...
@overload
def watch_connection(pv: PVs, callback: None = ...) -> Subscriptions[Updates[CAInfo]]: ...
@overload
def watch_connection(pv: PVs, callback: Callback) -> Subscriptions: ...
@overload
def watch_connection(  # type: ignore[overload-overlap]
    pv: str | PVs, callback: None = ...
) -> Subscription[Updates[CAInfo]] | Subscriptions[Updates[CAInfo]]: ...
@overload
def watch_connection(  # type: ignore[overload-overlap]
    pv: str | PVs, callback: Callback
) -> Subscription | Subscriptions: ...
@overload
def watch_connection(pv: Iterable[str], callback: None = ...) -> Subscriptions[Updates[CAInfo]]: ...
@overload
def watch_connection(pv: Iterable[str], callback: Callback) -> Subscriptions: ...
def watch_connection(
    pv: str | Iterable[str], callback: Callback | None = None
) -> Subscription | Subscriptions:
    """Watch the connection and the access rights of PVs: `aioca.watch_connection`, blocking.

    What it delivers is the same. The forms and lifetimes, and the thread that calls the callback,
    are those of `camonitor`::

        with watch_connection(pv) as infos:            # the block
            for info in infos: ...
        with watch_connection(pv, callback): ...       # the block; an error in the callback ends it
        watch_connection(pv, callback)                 # until close() or the end of the program

    Args:
        pv: the PV, or a list of PVs.
        callback: a function that is called with each `aioca.CAInfo`, and for a list of PVs with
            ``(info, index)``.

    Returns:
        Subscription: for a list of PVs, a list of subscriptions, which can be entered like one.

    Raises:
        CAValueError: libca cannot search for the name of a PV.
        TypeError: an argument is wrong.
        RuntimeError: called on the thread of the event loop of aioca.blocking.
    """
    check_callback(callback)
    single, names = isinstance(pv, str), names_of(pv)
    home = loop_thread()

    def make(name: str, group: Group, index: int | None) -> HandedMonitor:
        return _HandedWatch(home, name, group, callback, index)

    subscriptions = subscribe(home, names, make, callback, single, call="watch_connection")
    return subscriptions[0] if single else subscriptions
