"""Wakes a loop that waits in a selector through an eventfd, without releasing the GIL.

asyncio's own function, ``call_soon_threadsafe``, sends a byte through a socket and releases the GIL
for this. The calling thread and the loop that it has woken then compete for the GIL. Trick
``eventfd`` of the benchmark: rows get_one, latency.

Invariant: an eventfd is never closed. A libca thread may be about to write to it, and its file
descriptor could then belong to another file. The eventfd is kept for the next loop instead. If it
is signalled for the previous loop, the next loop wakes and finds nothing to do.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from ctypes import c_int, c_size_t, c_uint64, c_void_p
from functools import partial

_spare: list[EventFd] = []
_one = c_uint64(1)
_count = c_uint64()  # receives the number of signals, which is not used
SIGNALLED = 8  # the bytes that an eventfd requires for a read or write, and returns


class EventFd:
    """One eventfd.

    Attributes:
        fd: the file descriptor, which is readable after `signal` until `reset`.
        signal: makes the file readable. On any thread; never waits. Returns `SIGNALLED`; anything
            else if the program has closed the file.
        reset: makes the file unreadable until the next signal. On the loop; never waits.
    """

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        libc = ctypes.PyDLL(None)  # PyDLL keeps the GIL, because neither call ever blocks
        self.signal: Callable[[], int] = partial(
            libc.write, c_int(self.fd), c_void_p(ctypes.addressof(_one)), c_size_t(SIGNALLED)
        )
        self.reset: Callable[[], int] = partial(
            libc.read, c_int(self.fd), c_void_p(ctypes.addressof(_count)), c_size_t(SIGNALLED)
        )

    def __repr__(self) -> str:
        return f"<EventFd {self.fd}>"

    def release(self) -> None:
        """Keep the eventfd for the next loop. On any thread."""
        _spare.append(self)


def borrow_eventfd() -> EventFd | None:
    """Return an eventfd that no loop uses; None if there is none: the loop wakes in its own way.

    Only Linux has eventfds. A sandbox may refuse them, and a process may have no file left to open.
    """
    if not hasattr(os, "eventfd"):
        return None
    try:
        return _spare.pop()
    except IndexError:
        pass
    try:
        return EventFd()
    except OSError:
        return None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_spare.clear)  # the parent process uses them, too
