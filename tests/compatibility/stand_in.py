"""A pytest plugin: an empty ``aioca._catools`` where there is none.

The tests of aioca 2.x import this private module at their head; most of them do not use it.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

NAME = "aioca._catools"

if importlib.util.find_spec(NAME) is None:
    import aioca

    sys.modules[NAME] = ModuleType(NAME)
    aioca._catools = sys.modules[NAME]  # type: ignore[attr-defined]
