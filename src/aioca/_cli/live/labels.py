"""What the states of an enum are called that come without a label.

Channel Access carries 16 labels of an enum, and a field of a record may have more states: the alarm
status of a record that was never processed (UDF) is number 17. A server has the text of each when
it is asked for the value as a string. So it is asked once for each such state, when one is shown:
updates cost nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import anyio

from ... import caget
from .pv_state import PVState

_EVERY = 0.1  # seconds
_PATIENCE = 2.0  # seconds for an answer


async def name_states(
    shown: Callable[[], Iterable[PVState]], changed: Callable[[], object] | None = None
) -> None:
    """Learn what the states that are shown are called, for ever.

    Args:
        shown: gives the PVs.
        changed: is called when there is something new to be shown.
    """
    while True:
        for state in shown():
            if (number := state.unlabelled) is not None:
                await _name(state, number)
                if changed is not None:
                    changed()
        await anyio.sleep(_EVERY)


async def _name(state: PVState, number: int) -> None:
    """Ask for the text of a state that the PV has just now."""
    before: Any = await caget(state.name, timeout=_PATIENCE, throw=False)
    text: Any = await caget(state.name, datatype=str, timeout=_PATIENCE, throw=False)
    after: Any = await caget(state.name, timeout=_PATIENCE, throw=False)
    if not (before.ok and text.ok and after.ok):
        state.name_state(number, "")  # its number will do
    elif before == after:  # or the text may be that of another state
        state.name_state(int(before), str(text))
