"""Set ``__module__`` of public classes and functions to their public module.

Tracebacks and documentation show that name. Pickles contain it, and later versions, whose private
modules may have other names, must be able to read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import FunctionType


def publish(module: str, content: Mapping[str, object], names: Iterable[str]) -> None:
    """Set ``__module__`` of the classes and functions with these names to ``module``."""
    for name in names:
        thing = content[name]
        if isinstance(thing, (type, FunctionType)) and thing.__module__.startswith("aioca."):
            thing.__module__ = module
