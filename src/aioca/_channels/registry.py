"""The loop contexts of a process: the one of the running loop, all of them, and their end.

Invariants:

- `current` finds the loop context of the running loop, and makes it at the first use.
- At interpreter exit all remaining loop contexts are closed, because libca aborts the process if
  its threads call into Python after Python has ended.
- A forked child drops the loop contexts that it has inherited.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref

from .._ca import context as _client
from .._portal.current import running_loop
from .context import ChannelInfo, LoopContext, all_contexts, contexts

logger = logging.getLogger("aioca")

# At interpreter exit, wait at most this long for loops in other threads to close. Confirming their
# writes without wait can take up to 1 s of it.
_MAX_EXIT_WAIT_SECONDS = 1.5

_here = threading.local()
_exiting = False


def current() -> LoopContext:
    """Return the loop context of the event loop that runs in this thread; make it if need be.

    Raises:
        RuntimeError: if no event loop runs in this thread, or the interpreter is shutting down.
    """
    loop = running_loop()
    reference = getattr(_here, "context", None)
    context: LoopContext | None = reference() if reference is not None else None
    if context is not None and context._loop is loop and id(loop) in contexts:
        return context
    context = contexts.get(id(loop))
    if context is None:
        if _exiting:
            raise RuntimeError("the interpreter is shutting down")
        _close_ended()
        context = LoopContext(loop)
        contexts[id(loop)] = context
    # Weak, because a thread local would keep the last loop and its objects alive after its end.
    _here.context = weakref.ref(context)
    return context


def _close_ended() -> None:
    """End the contexts of loops that were closed without reporting their end."""
    for context in all_contexts():
        if context.portal.is_closed():
            context.portal.close()


def get_channel_infos() -> list[ChannelInfo]:
    """Return every channel of this process: its PV, whether it is connected, its subscriptions.

    A PV has a channel for each event loop that uses it, and another one for each monitor of a name
    with a filter (``PV.{"dbnd":{"d":1}}``).

    Returns:
        list[ChannelInfo]: the channels of all event loops, in order of creation.
    """
    _close_ended()
    return [info for context in all_contexts() for info in context.infos()]


def purge_channel_caches() -> None:
    """Close every subscription and every channel.

    Can be called with no event loop running. A call that waits for one of the channels ends with
    `CADisconnected`. The channels of a loop that runs in another thread are closed by that loop.
    Before the channels of a loop are closed, that loop waits until the servers have received what
    was written without wait, for a second at most. What was not received is logged.
    Programs need not call this function: when the run of an event loop ends, its channels and
    subscriptions are closed.
    """
    for context in all_contexts():
        context.purge()
    _close_ended()


def _close_at_exit() -> None:
    """Close all loop contexts at interpreter exit, then stop libca's callbacks into Python."""
    global _exiting
    _exiting = True
    try:
        # A loop in a daemon thread is still running, so it must close its channels itself.
        others = [context for context in all_contexts() if context.runs_elsewhere()]
        for context in others:
            context.post(context.portal.close)
        deadline = time.monotonic() + _MAX_EXIT_WAIT_SECONDS
        for context in others:
            context.gone.wait(max(0.0, deadline - time.monotonic()))
    finally:  # also after Ctrl-C
        for context in all_contexts():
            try:
                context.portal.close()
            except Exception:
                logger.exception("the end of a loop's run failed; please report this")
        _client.silence()


def _after_fork() -> None:
    """Drop all loop contexts in a forked child."""
    # The circuits are the parent's: in the child they do not work, and must not be closed.
    for context in all_contexts():
        context.after_fork()
    contexts.clear()


atexit.register(_close_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
