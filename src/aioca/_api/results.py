"""What caget, caput, connect and cainfo share: names to channels, outcomes to results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .._channels.channel import Channel
from .._channels.context import LoopContext
from .._errors import CAError, CAValueError, Failure, error_for
from .._portal.interface import TURN
from .._requests.request import PART


async def channels_of(
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


def outcome_of(
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
