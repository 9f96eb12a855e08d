"""caput: check the arguments and the values, run one `Put`, return the outcomes.

Wrong arguments raise before a channel is made or anything is sent.

Each overload is for one PV; for many; for an argument that may be either; or for an argument that
is declared as Iterable[str]. A str matches the first of these before the last.
The last overload has no ``repeat_value``: with it, a str would match that overload only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, cast, overload

from .._channels.registry import current
from .._errors import CANothing, error_for
from .._requests.put import Put
from .._values.dbr import datatype_code
from ..types import (
    Datatype,
    Timeout,
)
from .arguments import PVs, deadline_of, names_of
from .results import channels_of, in_call_order, outcome_of


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
    if isinstance(values, (dict, set, frozenset)):  # a dict would be its keys; a set has no order
        kind = type(cast("object", values)).__name__
        raise TypeError(
            f"the values for many PVs must be a sequence, not a {kind}; nothing was written"
        )
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
    channels, refused = await channels_of(context, names)
    if refused:
        values = [value for i, value in enumerate(values) if i not in refused]
    put = Put(context, channels, values, code, bool(wait))
    failed = await put.check()
    is_stopped = throw and (refused or failed)
    if not is_stopped:
        await put.run(deadline)
    if wait and not put.suspended:  # nothing was waited for after all
        await context.portal.checkpoint()
    if is_stopped:
        found = in_call_order(len(names), refused, map(failed.get, range(len(channels))))
        raise error_for([failure for failure in found if failure is not None])
    return await outcome_of(pv, names, refused, put, throw)
