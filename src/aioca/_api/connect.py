"""connect and cainfo: check the arguments, run one `Request`, return the outcomes.

Each overload is for one PV; for many; for an argument that may be either; or for an argument that
is declared as Iterable[str]. A str matches the first of these before the last.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, overload

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
    return await _connect(Request, pv, wait, timeout, throw)  # type: ignore[no-any-return]


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
    return await _connect(InfoRequest, pv, wait, timeout, throw)  # type: ignore[no-any-return]


class InfoRequest(Request):
    """The request of cainfo: connects, and then reads the state of the channels."""

    values_part = _INFOS_PER_CLOCK_CHECK

    def values_from(self, start: int, stop: int) -> list[Any]:
        outcomes = super().values_from(start, stop)
        return [
            outcome if type(outcome) is Failure else CAInfo(channel)
            for channel, outcome in zip(self.channels[start:stop], outcomes, strict=True)
        ]


async def _connect(
    kind: type[Request], pv: str | Iterable[str], wait: bool, timeout: Timeout, throw: bool
) -> Any:
    """Connect, and return what a kind of request makes of it."""
    context, names = current(), names_of(pv)
    deadline = deadline_of(timeout, context.portal)
    await context.portal.checkpoint()
    channels, refused = await channels_of(context, names)
    if refused and throw:
        raise error_for([*refused.values()])
    request = kind(context, channels)
    if wait:
        await request.run(deadline)
    else:
        request.assume_done()
    return await outcome_of(pv, names, refused, request, throw)
