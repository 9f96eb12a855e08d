"""What the tests of augmented values share."""

from __future__ import annotations

import math
import platform
from typing import Any

import numpy as np

from aioca import FORMAT_CTRL, FORMAT_RAW, FORMAT_TIME

FORMATS = [FORMAT_RAW, FORMAT_TIME, FORMAT_CTRL]
ALWAYS = {"name", "ok", "datatype", "element_count"}
ALARM = {"status", "severity", "alarm"}
TIME = ALARM | {"raw_stamp", "timestamp", "timestamp_ns", "datetime", "datetime_utc"}
LIMITS = {
    f"{side}_{what}_limit"
    for side in ("upper", "lower")
    for what in ("disp", "alarm", "warning", "ctrl")
}
NUMBER = ALARM | LIMITS | {"units"}
EVERY = ALWAYS | TIME | NUMBER | {"precision", "enums", "label", "ackt", "acks"}

# An IOC converts arrays of FTVL CHAR as the C type char, but single elements as signed char. The
# IOCs of the tests run on the same processor as the tests.
CHAR_HAS_SIGN = platform.machine() != "aarch64"


def attributes(value: Any) -> dict[str, Any]:
    """All attributes of the value, found as existing programs find them."""
    return {name: getattr(value, name) for name in EVERY if hasattr(value, name)}


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal, if NaN equals NaN."""
    if isinstance(a, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    return bool(np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b)
