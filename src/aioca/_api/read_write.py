"""caget, caput, connect, cainfo: check the arguments, run one `Request`, return the results.

- The public functions compute the deadline.
- Wrong arguments raise before a channel is made or anything is sent.

Each function has overloads for one PV; for many; for an argument that may be either; and for an
argument declared as Iterable[str]. A str matches the first of these before the last. (The last
overload of `caput` has no ``repeat_value``: with it, a str would match that overload only.)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast, overload

from .._channels.channel import Channel
from .._channels.context import LoopContext, current
from .._errors import CAError, CANothing, CAValueError, Failure, error_for
from .._portal.interface import TURN
from .._requests.get import Get
from .._requests.put import Put
from .._requests.request import PART, Request
from .._values.dbr import FORMAT_RAW, datatype_code
from ..types import (
    AugmentedValue,
    Count,
    Datatype,
    Format,
    Timeout,
    ca_bytes,
    ca_float,
    ca_int,
    ca_str,
)
from .arguments import PVs, check_count, check_format, deadline_of, names_of
from .info import CAInfo

if TYPE_CHECKING:
    from .arguments import Bytes, Floats, Ints, Strs

# Channels whose state is read between two checks of the clock. Each needs three calls to libca, and
# after a call libca's threads may have taken the GIL.
_INFOS_PER_CLOCK_CHECK = 25

# -- caget -----------------------------------------------------------------------------------------


@overload
async def caget(  # type: ignore[overload-overlap]
    pv: str, datatype: type[int], format: Format = ..., count: Count = ...,
    timeout: Timeout = ..., throw: bool = ...,
) -> ca_int: ...  # fmt: skip
@overload
async def caget(  # type: ignore[overload-overlap]
    pv: str, datatype: type[float], format: Format = ..., count: Count = ...,
    timeout: Timeout = ..., throw: bool = ...,
) -> ca_float: ...  # fmt: skip
@overload
async def caget(  # type: ignore[overload-overlap]
    pv: str, datatype: type[str], format: Format = ..., count: Count = ...,
    timeout: Timeout = ..., throw: bool = ...,
) -> ca_str: ...  # fmt: skip
@overload
async def caget(  # type: ignore[overload-overlap]
    pv: str, datatype: type[bytes], format: Format = ..., count: Count = ...,
    timeout: Timeout = ..., throw: bool = ...,
) -> ca_bytes: ...  # fmt: skip
@overload
async def caget(  # type: ignore[overload-overlap]
    pv: str, datatype: Datatype = ..., format: Format = ..., count: Count = ...,
    timeout: Timeout = ..., throw: bool = ...,
) -> AugmentedValue: ...  # fmt: skip
@overload
async def caget(  # type: ignore[overload-overlap]
    pv: PVs, datatype: type[int], format: Format = ..., count: Count = ...,
    timeout: Timeout = ..., throw: bool = ...,
) -> list[Ints]: ...  # fmt: skip
@overload
async def caget(  # type: ignore[overload-overlap]
    pv: PVs, datatype: type[float], format: Format = ..., count: Count = ...,
    timeout: Timeout = ..., throw: bool = ...,
) -> list[Floats]: ...  # fmt: skip
@overload
async def caget(  # type: ignore[overload-overlap]
    pv: PVs, datatype: type[str], format: Format = ..., count: Count = ...,
    timeout: Timeout = ..., throw: bool = ...,
) -> list[Strs]: ...  # fmt: skip
@overload
async def caget(  # type: ignore[overload-overlap]
    pv: PVs, datatype: type[bytes], format: Format = ..., count: Count = ...,
    timeout: Timeout = ..., throw: bool = ...,
) -> list[Bytes]: ...  # fmt: skip
@overload
async def caget(
    pv: PVs, datatype: Datatype = ..., format: Format = ..., count: Count = ...,
    timeout: Timeout = ..., throw: bool = ...,
) -> list[AugmentedValue]: ...  # fmt: skip
@overload
async def caget(  # type: ignore[overload-overlap]
    pv: str | PVs, datatype: Datatype = ..., format: Format = ..., count: Count = ...,
    timeout: Timeout = ..., throw: bool = ...,
) -> AugmentedValue | list[AugmentedValue]: ...  # fmt: skip
@overload
async def caget(
    pv: Iterable[str], datatype: Datatype = ..., format: Format = ..., count: Count = ...,
    timeout: Timeout = ..., throw: bool = ...,
) -> list[AugmentedValue]: ...  # fmt: skip
async def caget(
    pv: str | Iterable[str],
    datatype: Datatype = None,
    format: Format = FORMAT_RAW,
    count: Count = 0,
    timeout: Timeout = 5.0,
    throw: bool = True,
) -> AugmentedValue | list[Any]:
    """Read one PV, or many at once.

    Args:
        pv: the PV, or a list of PVs.
        datatype: the type to read as; see `aioca.types.Datatype`. ``None`` is the native one.
        format: what comes with the value; see `aioca.types.Format`.
        count: how many elements; see `aioca.types.Count`.
        timeout: seconds for the whole call, connecting included; see `aioca.types.Timeout`.
        throw: whether to raise. If not, a falsy `CANothing` stands for each PV that failed.

    Returns:
        `aioca.types.AugmentedValue`: a scalar if the native count of the PV is 1, else a numpy
        array of shape (n,). For a list of PVs, a list in the same order.

    Raises:
        CATimeout: the PV did not connect, or the server did not reply, by the deadline.
        CADisconnected: the server was lost while it had the request.
        CAAccessDenied: the server does not let this client read the PV.
        CARequestError: any other ECA status, such as for a number that does not fit into the
            datatype. For a list, the first PV that failed decides the class; the error names all.
        TypeError, ValueError: an argument is wrong; nothing was sent.
    """
    code = datatype_code(datatype)
    check_format(format)
    check_count(count)
    context, names = current(), names_of(pv)
    deadline = deadline_of(timeout, context.portal)
    channels, refused = await _channels(context, names)
    if refused and throw:
        await context.portal.checkpoint()
        raise error_for([*refused.values()])
    get = Get(context, channels, code, format, count)
    await get.run(deadline)
    if not get.suspended:  # no server was asked
        await context.portal.checkpoint()
    return _outcome(pv, names, refused, await get.values(), throw)  # type: ignore[no-any-return]


# -- caput -----------------------------------------------------------------------------------------


@overload
async def caput(
    pv: str, value: Any, datatype: Datatype = ..., wait: bool = ..., timeout: Timeout = ...,
    throw: bool = ...,
) -> CANothing: ...  # fmt: skip
@overload
async def caput(
    pvs: PVs, values: Any, repeat_value: bool = ..., datatype: Datatype = ...,
    wait: bool = ..., timeout: Timeout = ..., throw: bool = ...,
) -> list[CANothing]: ...  # fmt: skip
@overload
async def caput(
    pv: str | PVs, value: Any, /, *, datatype: Datatype = ..., wait: bool = ...,
    timeout: Timeout = ..., throw: bool = ...,
) -> CANothing | list[CANothing]: ...  # fmt: skip
@overload
async def caput(
    pvs: Iterable[str], values: Any, *, datatype: Datatype = ..., wait: bool = ...,
    timeout: Timeout = ..., throw: bool = ...,
) -> list[CANothing]: ...  # fmt: skip
async def caput(  # noqa: D417
    *args: Any, **kwargs: Any
) -> CANothing | list[CANothing]:
    """Write to one PV, or to many at once.

    The two forms are ``caput(pv, value, datatype=None, wait=False, timeout=5.0, throw=True)``
    and ``caput(pvs, values, repeat_value=False, datatype=None, wait=False, timeout=5.0,
    throw=True)``.

    Args:
        pv, pvs: the PV, or a list of PVs.
        value, values: what to write: a number, str, bytes, or a sequence or array of shape (n,).
            For a list of PVs, one value for each; a scalar or a string is written to all of them.
        repeat_value: for a list of PVs, write the whole of ``values`` to each of them.
        datatype: the type to send as; see `aioca.types.Datatype`. ``None`` is the native one,
            except that a str is sent as a string, which the server converts.
        wait: whether to wait until the server has processed the write (put-callback).
        timeout: seconds for the whole call, connecting included; see `aioca.types.Timeout`.
        throw: whether to raise. If not, a falsy `CANothing` stands for each PV that failed.

    Returns:
        `CANothing`: truthy, with ``ok`` true. For a list of PVs, a list in the same order.
        Without ``wait`` it means that the value was sent. It is not known whether the server
        accepts the value; a refusal is logged (logger ``aioca``).

    Raises:
        CATimeout: the PV did not connect, or the processing did not end, by the deadline. In the
            second case the outcome of the write is unknown; the time-out does not cancel it.
        CADisconnected: the server was lost while it had the request; the outcome is unknown.
        CAAccessDenied: the server does not let this client write to the PV.
        CAValueError: the value cannot be sent (it does not fit, it has masked elements, or it has
            no element for a PV of one element); nothing was sent.
        CARequestError: any other ECA status, such as ECA_PUTFAIL for a value that the server
            refuses. For a list, the first PV that failed decides the class; the error names all.
        TypeError, ValueError: an argument is wrong; nothing was sent.
    """
    first = args[0] if args else kwargs.get("pv", kwargs.get("pvs"))
    if isinstance(first, str):
        return await _caput_one(*args, **kwargs)
    return await _caput_many(*args, **kwargs)


async def _caput_one(
    pv: str,
    value: Any,
    datatype: Datatype = None,
    wait: bool = False,
    timeout: Timeout = 5.0,
    throw: bool = True,
) -> CANothing:
    return await _caput(pv, [pv], [value], datatype, wait, timeout, throw)  # type: ignore[no-any-return]


async def _caput_many(
    pvs: Iterable[str],
    values: Any,
    repeat_value: bool = False,
    datatype: Datatype = None,
    wait: bool = False,
    timeout: Timeout = 5.0,
    throw: bool = True,
) -> list[CANothing]:
    names = names_of(pvs)
    if isinstance(values, Iterator):
        values = list(cast(Any, values))
    if repeat_value or _is_one(values):
        values = [values] * len(names)
    elif len(values) != len(names):
        raise ValueError(
            f"{len(names)} PVs but {len(values)} values ({', '.join(map(str, names[:5]))}"
            f"{', ...' if len(names) > 5 else ''}); nothing was written"
        )
    return await _caput(names, names, list(values), datatype, wait, timeout, throw)  # type: ignore[no-any-return]


def _is_one(values: Any) -> bool:
    """Whether ``values`` is one value for all PVs, not one for each."""
    dimensions: Any = getattr(values, "ndim", 1)
    scalar = isinstance(values, (str, bytes)) or not isinstance(values, Collection)
    return bool(scalar or dimensions == 0)


async def _caput(
    pv: str | list[str],
    names: list[str],
    values: list[Any],
    datatype: Datatype,
    wait: bool,
    timeout: Timeout,
    throw: bool,
) -> Any:
    code = datatype_code(datatype, writing=True)
    context = current()
    deadline = deadline_of(timeout, context.portal)
    await context.portal.checkpoint(suspends=wait)  # from here on, values may be sent
    channels, refused = await _channels(context, names)
    if refused:
        values = [value for i, value in enumerate(values) if i not in refused]
    put = Put(context, channels, values, code, bool(wait))
    failures = [*refused.values(), *await put.check()]
    if not (failures and throw):
        await put.run(deadline)
    if wait and not put.suspended:  # nothing was waited for after all
        await context.portal.checkpoint()
    if failures and throw:
        raise error_for(failures)
    return _outcome(pv, names, refused, await put.values(), throw)


# -- connect and cainfo ----------------------------------------------------------------------------


@overload
async def connect(  # type: ignore[overload-overlap]
    pv: str, wait: bool = True, timeout: Timeout = 5.0, throw: bool = True
) -> CANothing: ...
@overload
async def connect(
    pv: PVs, wait: bool = True, timeout: Timeout = 5.0, throw: bool = True
) -> list[CANothing]: ...
@overload
async def connect(  # type: ignore[overload-overlap]
    pv: str | PVs, wait: bool = True, timeout: Timeout = 5.0, throw: bool = True
) -> CANothing | list[CANothing]: ...
@overload
async def connect(
    pv: Iterable[str], wait: bool = True, timeout: Timeout = 5.0, throw: bool = True
) -> list[CANothing]: ...
async def connect(
    pv: str | Iterable[str], wait: bool = True, timeout: Timeout = 5.0, throw: bool = True
) -> CANothing | list[CANothing]:
    """Connect to one PV, or to many at once.

    This is not necessary, because every function connects. After it, a `caput` without ``wait`` is
    sent at once (and under asyncio without suspending).

    Args:
        pv: the PV, or a list of PVs.
        wait: whether to wait for the connection. If not, the search is only begun, and ``ok``
            is true whether or not there is such a PV, as in aioca 2.x. ``cainfo(pv, wait=False)``
            tells whether the PV is connected.
        timeout: seconds for the whole call; see `aioca.types.Timeout`.
        throw: whether to raise. If not, a falsy `CANothing` stands for each PV that failed.

    Returns:
        `CANothing`: truthy, with ``ok`` true. For a list of PVs, a list in the same order.

    Raises:
        CATimeout: not connected by the deadline.
        CADisconnected: this program closed the channel during the call.
        TypeError, ValueError: an argument is wrong.
    """
    names, refused, request = await _connect(pv, wait, timeout, throw)
    return _outcome(pv, names, refused, await request.values(), throw)  # type: ignore[no-any-return]


@overload
async def cainfo(  # type: ignore[overload-overlap]
    pv: str, wait: bool = True, timeout: Timeout = 5.0, throw: bool = True
) -> CAInfo: ...
@overload
async def cainfo(
    pv: PVs, wait: bool = True, timeout: Timeout = 5.0, throw: bool = True
) -> list[CAInfo]: ...
@overload
async def cainfo(  # type: ignore[overload-overlap]
    pv: str | PVs, wait: bool = True, timeout: Timeout = 5.0, throw: bool = True
) -> CAInfo | list[CAInfo]: ...
@overload
async def cainfo(
    pv: Iterable[str], wait: bool = True, timeout: Timeout = 5.0, throw: bool = True
) -> list[CAInfo]: ...
async def cainfo(
    pv: str | Iterable[str], wait: bool = True, timeout: Timeout = 5.0, throw: bool = True
) -> CAInfo | list[CAInfo]:
    """Return the state of the channel of one PV, or of many.

    Args:
        pv: the PV, or a list of PVs.
        wait: whether to wait for the connection. If not, the present state is returned.
        timeout: seconds for the whole call; see `aioca.types.Timeout`.
        throw: whether to raise. If not, a falsy `CANothing` stands for each PV that failed.

    Returns:
        `CAInfo`: for a list of PVs, a list in the same order.

    Raises:
        CATimeout: not connected by the deadline.
        CADisconnected: this program closed the channel during the call.
        TypeError, ValueError: an argument is wrong.
    """
    names, refused, request = await _connect(pv, wait, timeout, throw)
    infos = await request.values()
    for index, channel in enumerate(request.channels):
        if not index % _INFOS_PER_CLOCK_CHECK:
            await request.yield_turn()
        if type(infos[index]) is not Failure:
            infos[index] = CAInfo(channel)
    return _outcome(pv, names, refused, infos, throw)  # type: ignore[no-any-return]


async def _connect(
    pv: str | Iterable[str], wait: bool, timeout: Timeout, throw: bool
) -> tuple[list[str], dict[int, Failure], Request]:
    context, names = current(), names_of(pv)
    deadline = deadline_of(timeout, context.portal)
    await context.portal.checkpoint()
    channels, refused = await _channels(context, names)
    if refused and throw:
        raise error_for([*refused.values()])
    request = Request(context, channels)
    if wait:
        await request.run(deadline)
    else:
        request.assume_done()
    return names, refused, request


# -- Arguments and results -------------------------------------------------------------------------


async def _channels(
    context: LoopContext, names: Sequence[str]
) -> tuple[list[Channel], dict[int, Failure]]:
    """Return the channels of the names, and a failure, by index, for each without a channel."""
    found = context.channels_there(names)
    if found is not None:
        return found, {}
    channels: list[Channel] = []
    refused: dict[int, Failure] = {}
    turn_ends = context.portal.now() + TURN
    for start in range(0, len(names), PART):
        if context.portal.now() > turn_ends:
            await context.portal.yield_turn()
            turn_ends = context.portal.now() + TURN
        with context.ca_context.attached():
            for index, name in enumerate(names[start : start + PART], start):
                try:
                    channels.append(context.channel(name))
                except CAError as error:
                    refused[index] = Failure(
                        error.name, error.errorcode, error._detail, isinstance(error, CAValueError)
                    )
    return channels, refused


def _outcome(
    pv: str | Iterable[str],
    names: list[str],
    refused: dict[int, Failure],
    found: list[Any],
    throw: bool,
) -> Any:
    """Return the results in the order of the names; raise failures, or put them in place."""
    results = found
    if refused:
        others = iter(found)
        results = [refused[i] if i in refused else next(others) for i in range(len(names))]
    if Failure in map(type, results):
        if throw:
            raise error_for([result for result in results if type(result) is Failure])
        results = [r.nothing() if type(r) is Failure else r for r in results]
    return results[0] if isinstance(pv, str) else results
