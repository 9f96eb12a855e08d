"""caget, caput, connect, cainfo and wait_for_value, blocking.

Each runs the async function of the same name on the loop of `_loop_thread`. The overloads are those
of the async functions. Iterators are read here, on the thread that calls: they may be generators of
the user.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, cast, overload

from .._api import connect as _connect
from .._api import read as _read
from .._api import wait_for_value as _wait_for_value
from .._api import write as _write
from .._api.arguments import PVs, names_of
from .._api.info import CAInfo
from .._errors import CANothing
from .._values.dbr import FORMAT_RAW
from ..types import (
    AugmentedValue,
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
from ._loop_thread import loop_thread

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .._api.arguments import Bytes, Floats, Ints, Strs
    from .._monitors.options import MonitorOptions


@overload
def caget(  # type: ignore[overload-overlap]
    pv: str, datatype: type[int], format: Format = ..., count: Count = ...,
    timeout: Timeout = ..., throw: bool = ...,
) -> ca_int: ...  # fmt: skip
@overload
def caget(  # type: ignore[overload-overlap]
    pv: str, datatype: type[float], format: Format = ..., count: Count = ...,
    timeout: Timeout = ..., throw: bool = ...,
) -> ca_float: ...  # fmt: skip
@overload
def caget(  # type: ignore[overload-overlap]
    pv: str, datatype: type[str], format: Format = ..., count: Count = ...,
    timeout: Timeout = ..., throw: bool = ...,
) -> ca_str: ...  # fmt: skip
@overload
def caget(  # type: ignore[overload-overlap]
    pv: str, datatype: type[bytes], format: Format = ..., count: Count = ...,
    timeout: Timeout = ..., throw: bool = ...,
) -> ca_bytes: ...  # fmt: skip
@overload
def caget(  # type: ignore[overload-overlap]
    pv: str, datatype: Datatype = ..., format: Format = ..., count: Count = ...,
    timeout: Timeout = ..., throw: bool = ...,
) -> AugmentedValue: ...  # fmt: skip
@overload
def caget(  # type: ignore[overload-overlap]
    pv: PVs, datatype: type[int], format: Format = ..., count: Count = ...,
    timeout: Timeout = ..., throw: bool = ...,
) -> list[Ints]: ...  # fmt: skip
@overload
def caget(  # type: ignore[overload-overlap]
    pv: PVs, datatype: type[float], format: Format = ..., count: Count = ...,
    timeout: Timeout = ..., throw: bool = ...,
) -> list[Floats]: ...  # fmt: skip
@overload
def caget(  # type: ignore[overload-overlap]
    pv: PVs, datatype: type[str], format: Format = ..., count: Count = ...,
    timeout: Timeout = ..., throw: bool = ...,
) -> list[Strs]: ...  # fmt: skip
@overload
def caget(  # type: ignore[overload-overlap]
    pv: PVs, datatype: type[bytes], format: Format = ..., count: Count = ...,
    timeout: Timeout = ..., throw: bool = ...,
) -> list[Bytes]: ...  # fmt: skip
@overload
def caget(
    pv: PVs, datatype: Datatype = ..., format: Format = ..., count: Count = ...,
    timeout: Timeout = ..., throw: bool = ...,
) -> list[AugmentedValue]: ...  # fmt: skip
@overload
def caget(  # type: ignore[overload-overlap]
    pv: str | PVs, datatype: Datatype = ..., format: Format = ..., count: Count = ...,
    timeout: Timeout = ..., throw: bool = ...,
) -> AugmentedValue | list[AugmentedValue]: ...  # fmt: skip
@overload
def caget(
    pv: Iterable[str], datatype: Datatype = ..., format: Format = ..., count: Count = ...,
    timeout: Timeout = ..., throw: bool = ...,
) -> list[AugmentedValue]: ...  # fmt: skip
def caget(
    pv: str | Iterable[str],
    datatype: Datatype = None,
    format: Format = FORMAT_RAW,
    count: Count = 0,
    timeout: Timeout = 5.0,
    throw: bool = True,
) -> AugmentedValue | list[Any]:
    """Read one PV, or many at once: `aioca.caget` for programs without an event loop.

    Arguments, values and errors are those of `aioca.caget`. On the thread of the event loop of
    aioca.blocking it raises RuntimeError.
    """
    return loop_thread().call(  # type: ignore[no-any-return]
        partial(_read.caget, _names(pv), datatype, format, count, timeout, throw)
    )


@overload
def caput(
    pv: str, value: Any, datatype: Datatype = ..., wait: bool = ..., timeout: Timeout = ...,
    throw: bool = ...,
) -> CANothing: ...  # fmt: skip
@overload
def caput(
    pvs: PVs, values: Any, repeat_value: bool = ..., datatype: Datatype = ...,
    wait: bool = ..., timeout: Timeout = ..., throw: bool = ...,
) -> list[CANothing]: ...  # fmt: skip
@overload
def caput(  # pyright: ignore[reportOverlappingOverload]
    pv: str | PVs, value: Any, /, *, datatype: Datatype = ..., wait: bool = ...,
    timeout: Timeout = ..., throw: bool = ...,
) -> CANothing | list[CANothing]: ...  # fmt: skip
@overload
def caput(
    pvs: Iterable[str], values: Any, *, datatype: Datatype = ..., wait: bool = ...,
    timeout: Timeout = ..., throw: bool = ...,
) -> list[CANothing]: ...  # fmt: skip
def caput(*args: Any, **kwargs: Any) -> CANothing | list[CANothing]:
    """Write to one PV, or to many at once: `aioca.caput` for programs without an event loop.

    The two forms, their arguments, values and errors are those of `aioca.caput`. At interpreter
    exit, servers get one second to confirm that they have received what was written without
    ``wait``.
    """
    arguments = [_listed(argument) for argument in args]
    options = {name: _listed(argument) for name, argument in kwargs.items()}
    call = cast(Any, _write.caput)
    return loop_thread().call(partial(call, *arguments, **options))  # type: ignore[no-any-return]


@overload
def connect(  # type: ignore[overload-overlap]
    pv: str, wait: bool = True, timeout: Timeout = 5.0, throw: bool = True
) -> CANothing: ...
@overload
def connect(
    pv: PVs, wait: bool = True, timeout: Timeout = 5.0, throw: bool = True
) -> list[CANothing]: ...
@overload
def connect(  # type: ignore[overload-overlap]
    pv: str | PVs, wait: bool = True, timeout: Timeout = 5.0, throw: bool = True
) -> CANothing | list[CANothing]: ...
@overload
def connect(
    pv: Iterable[str], wait: bool = True, timeout: Timeout = 5.0, throw: bool = True
) -> list[CANothing]: ...
def connect(
    pv: str | Iterable[str], wait: bool = True, timeout: Timeout = 5.0, throw: bool = True
) -> CANothing | list[CANothing]:
    """Connect to one PV, or to many at once: `aioca.connect` for programs without an event loop.

    Arguments, values and errors are those of `aioca.connect`.
    """
    return loop_thread().call(  # type: ignore[no-any-return]
        partial(_connect.connect, _names(pv), wait, timeout, throw)
    )


@overload
def cainfo(  # type: ignore[overload-overlap]
    pv: str, wait: bool = True, timeout: Timeout = 5.0, throw: bool = True
) -> CAInfo: ...
@overload
def cainfo(
    pv: PVs, wait: bool = True, timeout: Timeout = 5.0, throw: bool = True
) -> list[CAInfo]: ...
@overload
def cainfo(  # type: ignore[overload-overlap]
    pv: str | PVs, wait: bool = True, timeout: Timeout = 5.0, throw: bool = True
) -> CAInfo | list[CAInfo]: ...
@overload
def cainfo(
    pv: Iterable[str], wait: bool = True, timeout: Timeout = 5.0, throw: bool = True
) -> list[CAInfo]: ...
def cainfo(
    pv: str | Iterable[str], wait: bool = True, timeout: Timeout = 5.0, throw: bool = True
) -> CAInfo | list[CAInfo]:
    """Return the state of the channel of one PV, or of many: `aioca.cainfo`, blocking.

    Arguments, values and errors are those of `aioca.cainfo`.
    """
    return loop_thread().call(  # type: ignore[no-any-return]
        partial(_connect.cainfo, _names(pv), wait, timeout, throw)
    )


@overload
def wait_for_value(  # pyright: ignore[reportOverlappingOverload]
    pv: str, match: Any, timeout: Timeout = ..., *, datatype: type[int],
    **options: Unpack[MonitorOptions],
) -> ca_int: ...  # fmt: skip
@overload
def wait_for_value(
    pv: str, match: Any, timeout: Timeout = ..., *, datatype: type[float],
    **options: Unpack[MonitorOptions],
) -> ca_float: ...  # fmt: skip
@overload
def wait_for_value(
    pv: str, match: Any, timeout: Timeout = ..., *, datatype: type[str],
    **options: Unpack[MonitorOptions],
) -> ca_str: ...  # fmt: skip
@overload
def wait_for_value(
    pv: str, match: Any, timeout: Timeout = ..., *, datatype: type[bytes],
    **options: Unpack[MonitorOptions],
) -> ca_bytes: ...  # fmt: skip
@overload
def wait_for_value(
    pv: str, match: Any, timeout: Timeout = ..., *, datatype: Datatype = ...,
    **options: Unpack[MonitorOptions],
) -> AugmentedValue: ...  # fmt: skip
def wait_for_value(
    pv: str,
    match: Any,
    timeout: Timeout = None,
    *,
    events: Dbe = None,
    datatype: Datatype = None,
    format: Format = FORMAT_RAW,
    count: Count = 0,
    all_updates: bool = True,
    notify_disconnect: bool = False,
    connect_timeout: Timeout = None,
    max_pending: int | None = None,
) -> AugmentedValue:
    """Wait until a PV has a value: `aioca.wait_for_value` for programs without an event loop.

    Arguments, values and errors are those of `aioca.wait_for_value`. A function ``match`` is called
    on the thread of the event loop, so it has to be quick, and it must not call functions of
    aioca.blocking (RuntimeError).
    """
    return loop_thread().call(  # type: ignore[no-any-return]
        partial(
            cast(Any, _wait_for_value.wait_for_value), pv, match, timeout, events=events,
            datatype=datatype, format=format, count=count, all_updates=all_updates,
            notify_disconnect=notify_disconnect, connect_timeout=connect_timeout,
            max_pending=max_pending,
        )
    )  # fmt: skip


def _names(pv: Any) -> Any:
    if isinstance(pv, (str, list, tuple)):
        return cast(Any, pv)
    return names_of(pv)


def _listed(argument: object) -> object:
    return list(cast("Iterator[object]", argument)) if isinstance(argument, Iterator) else argument
