"""The module that public objects name as theirs: the public one, not where they are written.

It is what tracebacks and documentation show. Pickles contain it, and must be readable by later
versions, in which the private modules may be others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import FunctionType


def publish(module: str, content: Mapping[str, object], names: Iterable[str]) -> None:
    """Make ``module`` the home of the classes and functions that it has under these names."""
    for name in names:
        thing = content[name]
        if isinstance(thing, (type, FunctionType)) and thing.__module__.startswith("aioca."):
            thing.__module__ = module
