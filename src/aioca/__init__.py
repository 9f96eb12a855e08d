"""EPICS Channel Access for structured concurrency, under asyncio and trio.

The packages are layers: each imports only those below it. A call goes down, a value comes up:

    `_api`       the public functions: signatures, checks of arguments, results
    `_requests`  one caget, caput, connect or cainfo, for one or many PVs
    `_monitors`  pending updates, their delivery to callbacks or iteration, owners
    `_channels`  the channels of one event loop, and their upkeep
    `_values`    DBR bytes to Python values, and back
    `_portal`    from the threads of libca into asyncio or trio
    `_ca`        libca through ctypes

`types`, `testing`, `snapshot`, `notebook` and `blocking` (the functions as plain calls) are public;
`_cli` is the command line. `_errors` has the exceptions, and `_display` what people see of a value.
`_debug` dumps the state of all of them. `_catools` has the names that programs for aioca 2.x import
from it. `_context` and `_info` are paths in pickles of earlier builds.
"""

import os as _os

from . import _catools as _catools  # programs use it as an attribute without importing it
from . import types as _types
from ._api.connect import cainfo, connect
from ._api.info import CAInfo
from ._api.monitor import camonitor
from ._api.read import caget
from ._api.run import run
from ._api.wait_for_value import wait_for_value
from ._api.watch_connection import watch_connection
from ._api.write import caput
from ._ca.eca import ECA
from ._ca.environment import configure
from ._channels.context import ChannelInfo
from ._channels.registry import get_channel_infos, purge_channel_caches
from ._errors import (
    CAAccessDenied,
    CADisconnected,
    CAError,
    CANothing,
    CARequestError,
    CATimeout,
    CAValueError,
)
from ._monitors.handles import Subscription, Subscriptions
from ._monitors.stream import Updates
from ._publish import publish as _publish
from ._values.classes import ca_extra_fields
from ._values.dbr import (
    DBE_ALARM,
    DBE_LOG,
    DBE_PROPERTY,
    DBE_VALUE,
    DBR_CHAR,
    DBR_CHAR_BYTES,
    DBR_CHAR_STR,
    DBR_CHAR_UNICODE,
    DBR_CLASS_NAME,
    DBR_DOUBLE,
    DBR_ENUM,
    DBR_ENUM_STR,
    DBR_FLOAT,
    DBR_LONG,
    DBR_PUT_ACKS,
    DBR_PUT_ACKT,
    DBR_SHORT,
    DBR_STRING,
    DBR_STSACK_STRING,
    FORMAT_CTRL,
    FORMAT_RAW,
    FORMAT_TIME,
)

__version__ = "3.0.0"

__all__ = [
    # Read, write, monitor
    "caget",
    "caput",
    "camonitor",
    "connect",
    "cainfo",
    "wait_for_value",
    "watch_connection",
    # What they return
    "CAInfo",
    "CANothing",
    "Subscription",
    "Subscriptions",
    "Updates",
    # What they raise
    "CAError",
    "CATimeout",
    "CADisconnected",
    "CAAccessDenied",
    "CARequestError",
    "CAValueError",
    "ECA",
    # The process
    "ChannelInfo",
    "configure",
    "get_channel_infos",
    "purge_channel_caches",
    "run",
    "__version__",
    # Events to monitor
    "DBE_VALUE",
    "DBE_LOG",
    "DBE_ALARM",
    "DBE_PROPERTY",
    # Data types
    "DBR_STRING",
    "DBR_SHORT",
    "DBR_FLOAT",
    "DBR_ENUM",
    "DBR_CHAR",
    "DBR_LONG",
    "DBR_DOUBLE",
    "DBR_CHAR_STR",
    "DBR_CHAR_UNICODE",
    "DBR_CHAR_BYTES",
    "DBR_ENUM_STR",
    "DBR_PUT_ACKT",
    "DBR_PUT_ACKS",
    "DBR_STSACK_STRING",
    "DBR_CLASS_NAME",
    # Formats
    "FORMAT_RAW",
    "FORMAT_TIME",
    "FORMAT_CTRL",
    "ca_extra_fields",
]

_publish(__name__, globals(), __all__)
_publish(_types.__name__, vars(_types), [*_types.__all__, "_rebuild"])

if _os.environ.get("AIOCA_DEBUG", "") not in ("", "0"):
    from . import _debug

    _debug.install()
