"""One EPICS_CA_* setting: its value in the environment, and the value that libca uses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        name (str): the name of the variable.
        value (str): the value that libca uses.
        given (str | None): the value in the environment; None if it is empty or not set.
    """

    name: str
    value: str
    given: str | None

    @property
    def source(self) -> str:
        """``default`` or ``environment``; with the given value if libca uses another one."""
        if self.given is None:
            return "default"
        return "environment" if self.given == self.value else f"environment: {self.given}"
