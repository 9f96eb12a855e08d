"""DBR bytes to Python values, and back.

The two names below are in pickles that earlier builds made.
"""

from .augmented import Alarm
from .classes import _rebuild

__all__ = ["Alarm", "_rebuild"]
