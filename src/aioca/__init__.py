"""EPICS Channel Access for structured concurrency, under asyncio and trio.

How a value travels, and where that is written:

    `_operations`    caget, caput, connect, cainfo: arguments in, results out
    `_requests`      one request for many PVs, waited for once; `_get` `_put`: its two kinds
    `_camonitor`     camonitor in its four forms; `_options`: what they take; `_wait_for_value`
    `_subscription`  what it returns; `_delivery`: how a callback gets updates; `_lifetime`: who
                     owns that
    `_monitor`       what a monitor keeps until it is taken
    `_context`       the channels of one event loop; `_channel`: one of them
    `_watch`         channels whose server is silent; `_clearing`: what libca is to forget;
                     `_prompting`: what servers hold back; `_write_confirm`: what has arrived;
                     `_completions`: puts under way; `_voice`: the log
    `_intake`        updates on libca's threads; `_loops`: which event loop runs here
    `_portal`        from libca's threads into the loop; `_asyncio_portal` (with
                     `_asyncio_waiter`) and `_trio_portal` are the only asyncio and trio;
                     `_doorbell`: how they are woken
    `_decode`        bytes to augmented values, which are in `_values`, and what they have in
                     common in `_augmented`, with their `_attributes`; `_encode` (with
                     `_encode_numbers`): back; `_number_types`: numbers that a server cannot be
                     trusted to convert; `_matching`: what wait_for_value waits for
    `_dbr`           the types that they have on their way
    `_client`        which libca context a thread uses
    `_trampolines`   what libca calls; `_messages`: what it says beside that
    `_tokens`        who is meant by what it hands back
    `_libca`         the libraries, the prototypes, the calls by a channel

`_catools` has what programs for aioca 2.x look for there. `_eca` has the status codes by name.
`_publish`: public objects name `aioca` or `aioca.types` as their module.
"""

from . import _catools as _catools  # programs find it as an attribute, not having imported it
from . import types as _types
from ._camonitor import camonitor
from ._context import ChannelInfo, get_channel_infos, purge_channel_caches
from ._dbr import (
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
from ._eca import ECA
from ._environment import configure
from ._errors import (
    CAAccessDenied,
    CADisconnected,
    CAError,
    CANothing,
    CARequestError,
    CATimeout,
    CAValueError,
)
from ._info import CAInfo
from ._operations import caget, cainfo, caput, connect
from ._publish import publish as _publish
from ._run import run
from ._stream import Updates
from ._subscription import Subscription, Subscriptions
from ._values import ca_extra_fields
from ._wait_for_value import wait_for_value

__version__ = "3.0.0"

__all__ = [
    # Read, write, monitor
    "caget",
    "caput",
    "camonitor",
    "connect",
    "cainfo",
    "wait_for_value",
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
