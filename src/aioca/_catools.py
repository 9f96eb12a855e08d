"""The module of aioca 2.x from which programs import public names.

Examples are ``aioca._catools.Timeout`` in an annotation, and ``aioca._catools.caput``, which tests
replace. The private names of aioca 2.x are not here.
"""

from ._api.connect import cainfo, connect
from ._api.info import CAInfo
from ._api.monitor import camonitor
from ._api.read import caget
from ._api.run import run
from ._api.write import caput
from ._channels.context import ChannelInfo
from ._channels.registry import get_channel_infos, purge_channel_caches
from ._errors import CANothing
from ._monitors.handles import Subscription
from .types import AugmentedValue, Count, Datatype, Dbe, Format, Timeout

__all__ = [
    "AugmentedValue", "CAInfo", "CANothing", "ChannelInfo", "Count", "Datatype", "Dbe", "Format",
    "Subscription", "Timeout", "caget", "cainfo", "camonitor", "caput", "connect",
    "get_channel_infos", "purge_channel_caches", "run",
]  # fmt: skip
