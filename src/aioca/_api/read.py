"""caget: check the arguments, run one `Get`, return the values.

Wrong arguments raise before a channel is made or anything is sent.

Each overload is for one PV; for many; for an argument that may be either; or for an argument that
is declared as Iterable[str]. A str matches the first of these before the last.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, overload

from .._channels.registry import current
from .._errors import error_for
from .._requests.get import Get
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
from .arguments import PVs, check_format_and_count, deadline_of, names_of
from .results import channels_of, outcome_of

if TYPE_CHECKING:
    from .arguments import Bytes, Floats, Ints, Strs


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
    code = None if datatype is None else datatype_code(datatype)
    check_format_and_count(format, count)
    context = current()
    names = [pv] if type(pv) is str else names_of(pv)
    deadline = deadline_of(timeout, context.portal)
    channels, refused = await channels_of(context, names)
    if refused and throw:
        await context.portal.checkpoint()
        raise error_for([*refused.values()])
    get = Get(context, channels, code, format, count)
    await get.run(deadline)
    if not get.suspended:  # no server was asked
        await context.portal.checkpoint()
    return await outcome_of(pv, names, refused, get, throw)  # type: ignore[no-any-return]
