"""DBR bytes to Python values, and back.

Pickles that earlier builds made contain the two names below.
"""

from .augmented import Alarm
from .classes import _rebuild

__all__ = ["Alarm", "_rebuild"]
