"""connect and cainfo: check the arguments, run one `Request`, return the outcomes.

Each overload is for one PV; for many; for an argument that may be either; or for an argument that
is declared as Iterable[str]. A str matches the first of these before the last.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import overload

from .._channels.registry import current
from .._errors import CANothing, Failure, error_for
from .._requests.request import Request
from ..types import (
    Timeout,
)
from .arguments import PVs, deadline_of, names_of
from .info import CAInfo
from .results import channels_of, outcome_of

# Channels whose state is read between two checks of the clock. Each needs three calls to libca, and
# after a call libca's threads may have taken the GIL.
_INFOS_PER_CLOCK_CHECK = 25


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
    return outcome_of(pv, names, refused, await request.values(), throw)  # type: ignore[no-any-return]


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
    return outcome_of(pv, names, refused, infos, throw)  # type: ignore[no-any-return]


async def _connect(
    pv: str | Iterable[str], wait: bool, timeout: Timeout, throw: bool
) -> tuple[list[str], dict[int, Failure], Request]:
    context, names = current(), names_of(pv)
    deadline = deadline_of(timeout, context.portal)
    await context.portal.checkpoint()
    channels, refused = await channels_of(context, names)
    if refused and throw:
        raise error_for([*refused.values()])
    request = Request(context, channels)
    if wait:
        await request.run(deadline)
    else:
        request.assume_done()
    return names, refused, request
