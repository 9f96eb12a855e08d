"""Find the labels of enum states that come without a label.

Channel Access carries 16 labels of an enum, but a field of a record can have more states: the alarm
status of a record that was never processed (UDF) is number 17. A server sends the label of the
current state if the value is read as a string. Each such state is read once, when it is shown;
updates need no extra reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import anyio

from ... import caget
from .pv_state import PVState

_POLL_SECONDS = 0.1  # between two checks for states without a label
_REPLY_SECONDS = 2.0  # the time-out of a read


async def name_states(
    shown: Callable[[], Iterable[PVState]], changed: Callable[[], object] | None = None
) -> None:
    """Find the labels of the shown states, until cancelled. Runs on the event loop's thread.

    Args:
        shown: returns the PVs that are shown.
        changed: is called after a state has got its label.
    """
    while True:
        for state in shown():
            if (number := state.unlabelled) is not None:
                await _name(state, number)
                if changed is not None:
                    changed()
        await anyio.sleep(_POLL_SECONDS)


async def _name(state: PVState, number: int) -> None:
    """Read the label of the current state of a PV."""
    before: Any = await caget(state.name, timeout=_REPLY_SECONDS, throw=False)
    text: Any = await caget(state.name, datatype=str, timeout=_REPLY_SECONDS, throw=False)
    after: Any = await caget(state.name, timeout=_REPLY_SECONDS, throw=False)
    if not (before.ok and text.ok and after.ok):
        state.name_state(number, "")  # its number is shown
    elif before == after:  # otherwise the text may be that of another state
        state.name_state(int(before), str(text))
