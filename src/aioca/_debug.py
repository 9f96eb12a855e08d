"""For those who look for a fault: a dump of the state of aioca, and a log of its calls to libca.

With ``AIOCA_DEBUG=1`` in the environment, `install` runs when `aioca` is imported:

- Each call to libca is logged at level DEBUG by the logger ``aioca.libca``, with its arguments and
  its result.
- ``SIGUSR1`` prints `dump` on stderr, where there is such a signal and nobody handles it.

Without the variable, calls take no more time. `dump` can be called in any program.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from ._ca import libca, tokens
from ._channels.channel import Channel
from ._channels.connection import STATE_NAMES
from ._channels.context import LoopContext, all_contexts

logger = logging.getLogger("aioca.libca")

MAX_CHANNELS = 50  # channels of one event loop that a dump lists; it counts the others

# The functions of `libca` that reach libca, by their names there
_LOGGED_CALLS = (
    "get_callback", "_put", "_put_callback", "_create_channel", "_create_subscription",
    "clear_channel", "clear_subscription", "flush_io", "context_create",
)  # fmt: skip


def install() -> None:
    """Log each call to libca, and dump the state at SIGUSR1. Idempotent."""
    for name in _LOGGED_CALLS:
        function = getattr(libca, name)
        if not isinstance(function, _Logged):
            setattr(libca, name, _Logged(name.lstrip("_"), function))
    usr1 = getattr(signal, "SIGUSR1", None)
    if usr1 is None or threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(usr1) == signal.SIG_DFL:
        signal.signal(usr1, _print_dump)


def _print_dump(_signal: int, _frame: object) -> None:
    print(dump(), file=sys.stderr, flush=True)


class _Logged:
    """A function of libca that logs each of its calls."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name = name
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        result = self._function(*arguments)
        if logger.isEnabledFor(logging.DEBUG):
            shown = ", ".join(map(_shown, arguments))
            logger.debug("%s(%s) = %s", self._name, shown, result)
        return result


def _shown(argument: Any) -> str:
    value = getattr(argument, "value", argument)
    if isinstance(value, bytes):
        return repr(value[:40])
    return hex(value) if isinstance(value, int) and value > 9999 else repr(value)


def dump() -> str:
    """The state of aioca in this process, as text: threads, event loops, channels, what is queued.

    For a report of a fault. It takes no lock and calls only ``ca_host_name`` of libca, so any
    thread may call it at any time. Counts that change meanwhile may not agree with each other.
    """
    lines = [
        f"threads: {', '.join(thread.name for thread in threading.enumerate())}",
        f"tokens: {tokens.token_count()} ({_counted(tokens.owners.copy().values())})",
    ]
    for context in all_contexts():
        lines += _of_context(context)
    return "\n".join(lines)


def _counted(objects: Any) -> str:
    kinds = Counter(type(each).__name__ for each in objects)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "none"


def _of_context(context: LoopContext) -> Iterator[str]:
    portal = context.portal
    channels = tuple(context.channels.copy().values())
    states = Counter(STATE_NAMES[channel.state] for channel in channels)
    yield f"event loop {context._loop!r}"
    yield (
        f"  queue: {len(portal.queue) // 2} items, awake {portal.awake},"
        f" receivers {len(portal.receivers)}"
    )
    policies = (f"{kind.__name__} {len(policy)}" for kind, policy in context.policies.items())
    yield f"  updates stored: {', '.join(policies) or 'none'}"
    yield f"  clears: {context.clear_queue!r}, {len(context.clear_queue.ignored_keys)} keys ignored"
    yield f"  put-callbacks under way: {context.put_limit.under_way()}"
    yield f"  calls that wait: {_counted(context.operations.copy())}"
    yield f"  monitors to start: {len(context.starts)} lists"
    yield f"  channels: {', '.join(f'{n} {state}' for state, n in states.items()) or 'none'}"
    for channel in channels[:MAX_CHANNELS]:
        yield f"    {_of_channel(channel)}"
    if len(channels) > MAX_CHANNELS:
        yield f"    and {len(channels) - MAX_CHANNELS} more"


def _of_channel(channel: Channel) -> str:
    chid = channel.chid
    host = libca.host_name(chid) if chid else libca.NO_HOST
    parts = [
        f"{channel.name!r} {STATE_NAMES[channel.state]}, {host}, priority {channel.priority}",
        f"type {channel.native_type} x {channel.native_count}",
        f"{len(channel.monitors)} monitors",
    ]
    if channel.refused:
        parts.append("refused by a server")
    if channel.unresponsive:
        parts.append("unresponsive")
    if channel.put_owner is not None:
        parts.append("a put-callback is under way")
    if channel.unconfirmed:
        parts.append(f"{channel.unconfirmed} bytes written and not confirmed")
    return ", ".join(parts)
