"""The option types of `record`: a duration such as ``1h30m``, and a rotation by time or size."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import click

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}  # in any case
_LONGEST = 100 * 365 * 86400  # seconds; a clock cannot wait for much more


def parse_duration(text: str) -> float | None:
    """Return the seconds of ``90``, ``1.5h`` or ``1h30m``; None if the text is no duration."""
    if re.fullmatch(r"\d+(\.\d*)?|\.\d+", text):
        text += "s"
    if not re.fullmatch(r"((\d+(\.\d*)?|\.\d+)[smhd])+", text):
        return None
    parts = re.findall(r"([\d.]+)([smhd])", text)
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    return seconds if 0 < seconds <= _LONGEST else None


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """A duration of more than 0 seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Convert the text of the command line to seconds."""
        seconds = value if isinstance(value, float) else parse_duration(value)
        if seconds is None:
            self.fail(f"not a duration such as 90s, 30m, 8h or 1h30m: {value}", param, ctx)
        return seconds


class Rotation(NamedTuple):
    """When the next file begins: after so many seconds, or after so many bytes."""

    seconds: float | None = None
    size: int | None = None


class RotationType(click.ParamType):  # type: ignore[type-arg]  # see `Duration`
    """A rotation: a duration, or a size such as ``500MB``."""

    name = "rotation"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Rotation:
        """Convert the text of the command line."""
        rotation = _parse_rotation(value)
        if rotation is None:
            self.fail(
                "not a duration or size such as 1h or 500MB (units: s m h d, B kB MB GB TB):"
                f" {value}", param, ctx,
            )  # fmt: skip
        return rotation


def _parse_rotation(text: str) -> Rotation | None:
    if size := re.fullmatch(r"(\d+(?:\.\d*)?)([kmgt]?b)", text.lower()):
        return Rotation(size=int(float(size[1]) * _BYTES[size[2]]) or 1)
    seconds = parse_duration(text)
    return None if seconds is None else Rotation(seconds=seconds)
