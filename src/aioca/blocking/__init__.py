"""aioca for programs without an event loop: the same functions as plain calls.

They have the names, arguments, values and errors of the async functions in `aioca`. They work in
scripts, in threads, in notebooks and at the prompt of Python or IPython, and beside a GUI.

    `_calls`        caget, caput, connect, cainfo, wait_for_value
    `_monitor`      camonitor
    `_watch`        watch_connection
    `_handles`      what both return: subscriptions, and the updates in a block
    `_callbacks`    the thread that calls callbacks
    `_delivery`     updates, from the loop to the threads that take them
    `_blocks`       the error of a callback, to the block that owns the callback
    `_call`         one call into the loop, and the tasks that serve calls
    `_loop_thread`  the event loop behind all of them, in a thread of its own
"""

from .._publish import publish as _publish
from ._calls import caget, cainfo, caput, connect, wait_for_value
from ._handles import Subscription, Subscriptions, Updates
from ._monitor import camonitor
from ._watch import watch_connection

__all__ = [
    "caget",
    "caput",
    "camonitor",
    "connect",
    "cainfo",
    "wait_for_value",
    "watch_connection",
    "Subscription",
    "Subscriptions",
    "Updates",
]

_publish(__name__, globals(), __all__)
