"""Ids of the parameters of tests."""

from __future__ import annotations

import re


def shown(parameter: object) -> str:
    """The id of a parameter; it must be the same in each process that collects the tests."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(parameter))
