"""What the tests of caput share."""

from __future__ import annotations

from typing import Any

import numpy as np

ECA_PUTFAIL = 160
ECA_NOWTACCESS = 376


def plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else +value
