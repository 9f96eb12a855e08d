"""A doorbell: wakes a loop that sleeps in a selector, without giving up the GIL.

What asyncio has for it, ``call_soon_threadsafe``, sends a byte through a socket, and gives up the
GIL for that: it then waits to get it back, and the loop that it has woken waits for it in turn.
Together that is a tenth of the time of a get.

A bell is never closed: a thread of libca may be just about to ring it, and its file descriptor
could by then be that of another file. It goes to the next loop instead; a loop whose bell was
rung for the one before finds nothing to do.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import c_int, c_size_t, c_uint64, c_void_p
from functools import partial

_spare: list[EventFd] = []
_one = c_uint64(1)
_count = c_uint64()  # rung how often: nobody looks at it
_WORD = 8


class EventFd:
    """One eventfd.

    Attributes:
        fd: what is readable once it was rung.
    """

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        libc = ctypes.PyDLL(None)  # which keeps the GIL: neither call ever waits
        self._write = partial(
            libc.write, c_int(self.fd), c_void_p(ctypes.addressof(_one)), c_size_t(_WORD)
        )
        self._read = partial(
            libc.read, c_int(self.fd), c_void_p(ctypes.addressof(_count)), c_size_t(_WORD)
        )

    def signal(self) -> bool:
        """Any thread, never waits. False if somebody has closed the file."""
        return bool(self._write() == _WORD)

    def reset(self) -> None:
        """Have it readable no more; nothing if it is not."""
        self._read()

    def release(self) -> None:
        """It is not used any more."""
        _spare.append(self)


def borrow_eventfd() -> EventFd | None:
    """A bell that nobody uses; None where the system has none."""
    if not hasattr(os, "eventfd"):
        return None
    try:
        return _spare.pop()
    except IndexError:
        return EventFd()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_spare.clear)  # they are the parent's as well
