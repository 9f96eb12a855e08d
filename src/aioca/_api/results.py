"""What caget, caput, connect and cainfo share: names to channels, outcomes to results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .._channels.channel import Channel
from .._channels.context import LoopContext
from .._errors import CAError, CAValueError, Failure, error_for
from .._portal.interface import TURN_SECONDS
from .._requests.request import PVS_PER_PART, Request


async def channels_of(
    context: LoopContext, names: Sequence[str]
) -> tuple[list[Channel], dict[int, Failure]]:
    """Return the channels of the names, and a failure, by index, for each without a channel."""
    try:
        return list(map(context.channels.__getitem__, names)), {}
    except KeyError:
        pass
    channels: list[Channel] = []
    refused: dict[int, Failure] = {}
    turn_ends = context.portal.now() + TURN_SECONDS
    for start in range(0, len(names), PVS_PER_PART):
        if context.portal.now() > turn_ends:
            await context.portal.yield_turn()
            turn_ends = context.portal.now() + TURN_SECONDS
        with context.ca_context.attached():
            for index, name in enumerate(names[start : start + PVS_PER_PART], start):
                try:
                    channels.append(context.channel(name))
                except CAError as error:
                    refused[index] = Failure(
                        error.name, error.errorcode, error._detail, isinstance(error, CAValueError)
                    )
    return channels, refused


def in_call_order(count: int, refused: dict[int, Failure], others: Iterable[Any]) -> list[Any]:
    """Return the failures of ``refused``, by index, and the items of the other PVs of a call."""
    rest = iter(others)
    return [refused[i] if i in refused else next(rest) for i in range(count)]


async def outcome_of(
    pv: str | Iterable[str],
    names: list[str],
    refused: dict[int, Failure],
    request: Request,
    throw: bool,
) -> Any:
    """Return the values of a request that has ended, in the order of the names.

    Raises:
        CAError: a PV has failed, and ``throw`` is true. Otherwise a `CANothing` is in its place.
    """
    count = len(request.channels)
    values = (
        request.values_from(0, count) if count <= request.values_part else await request.values()
    )
    if refused:
        values = in_call_order(len(names), refused, values)
    if Failure in set(map(type, values)):
        if throw:
            raise error_for([value for value in values if type(value) is Failure])
        values = [value.nothing() if type(value) is Failure else value for value in values]
    return values[0] if isinstance(pv, str) else values
