"""The mark for "no value", where None, False and an error are values."""

from __future__ import annotations

from typing import Any

NOTHING: Any = object()
