"""The warning about monitors without a callback whose block is never entered."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence


class Unentered:
    """Warns, when it is deleted, of monitors that never began.

    Attributes:
        call: the function that was called, for the message.
        statement: the statement that enters its block.
        unentered: the PVs, while the block was not entered.
    """

    call: str = "camonitor"
    statement: str = "async with"

    def __init__(self) -> None:
        self.unentered: Sequence[str] = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self.unentered)} not entered>"

    def cancel_warning(self) -> None:
        """Do not warn: the block was entered, or a monitor was closed on purpose."""
        self.unentered = ()

    # Bound here, because the names of modules may be gone when Python ends
    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        names = self.unentered
        if names:
            others = f" and {len(names) - 1} others" if len(names) > 1 else ""
            _warn(
                f"{self.call} of {names[0]!r}{others} has no callback, and its block was never"
                f" entered, so no update was requested from the server: write '{self.statement}"
                f" {self.call}(...) as updates', or pass a callback",
                ResourceWarning, source=self,
            )  # fmt: skip
