"""The Python thread states of libca's threads.

ctypes makes a Python thread state for each callback on a foreign thread, and destroys the state
when the callback ends. That takes longer than the rest of the callback: 18 us against 4.5 us, and
on free-threaded Python (3.14t) up to 385 us. So a thread keeps its state from the first callback
on, by one more PyGILState_Ensure. Trick ``thread_state`` of the benchmark: rows monitor_3k,
get_list.

Invariants:

- The state of a thread of a circuit is destroyed when the thread ends. Otherwise about 20 kB would
  be lost with each circuit. On free-threaded Python, a later thread may get the same id.
  Python would then queue objects of that thread, which the loop frees, to the lost state, and
  never free them.
- No thread destroys its state once `stop_releasing` has returned: Python must not be called after
  its end.
- The threads that libca ends only with its context, or at the end of the process, keep their
  states for good.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from ctypes import c_char_p, c_size_t, c_void_p
from typing import Any

from .library import com_quick, optional

FREE_THREADED: bool = not getattr(sys, "_is_gil_enabled", lambda: True)()

_thread = threading.local()
_ensure = ctypes.pythonapi.PyGILState_Ensure
_UNLOCKED, _LOCKED = 1, 0  # PyGILState_STATE: what PyGILState_Release is to restore
_MUTEX_BYTES = 128  # more than any pthread_mutex_t; one of zeros is initialized and free
# The threads that end with their circuit. The second reports the disconnections of a lost circuit.
_CIRCUIT_THREADS = b"CAC-TCP-recv", b"CAC-TCP-send"
_thread_name = optional("epicsThreadGetNameSelf", "callbacks are slower", com_quick)
if _thread_name is not None:
    _thread_name.restype = c_char_p


class _Release:
    """Destroys the state of a thread when it ends, by functions that glibc calls at that time.

    They are functions of C, because a Python function could not be called at the end of a process.

    Raises:
        AttributeError: this C library cannot do that.
    """

    def __init__(self) -> None:
        libc = ctypes.PyDLL(None)  # it keeps the GIL, because none of these calls blocks
        self._at_thread_exit: Any = libc["__cxa_thread_atexit_impl"]
        self._at_thread_exit.argtypes = (c_void_p, c_void_p, c_void_p)
        calloc = libc["calloc"]
        calloc.restype, calloc.argtypes = c_void_p, (c_size_t, c_size_t)
        self._mutex = calloc(1, _MUTEX_BYTES)  # never freed: a thread may wait for it until the end
        self._lock = ctypes.CDLL(None)["pthread_mutex_lock"]
        self._lock.argtypes = (c_void_p,)
        lock, unlock, ensure, release = (
            ctypes.cast(function, c_void_p).value
            for function in (
                self._lock,
                libc["pthread_mutex_unlock"],
                _ensure,
                ctypes.pythonapi.PyGILState_Release,
            )
        )
        # The function that is registered last is called first. The first release undoes the
        # PyGILState_Ensure before it, the second the one of `keep_thread_state`.
        self._steps = (
            (unlock, self._mutex),
            (release, _UNLOCKED),
            (release, _LOCKED),
            (ensure, None),
            (lock, self._mutex),
        )

    def __repr__(self) -> str:
        return f"<_Release mutex {self._mutex:#x}>"

    def register(self) -> None:
        """Register the functions for the calling thread."""
        for function, argument in self._steps:
            # The last argument is any address in a library that is not to be unloaded before
            self._at_thread_exit(function, argument, self._steps[1][0])

    def stop(self) -> None:
        """Wait for a thread that destroys its state, and let no other one begin."""
        self._lock(self._mutex)  # never unlocked; ctypes releases the GIL for this call

    def after_fork(self) -> None:
        """Unlock the mutex; in a forked child."""
        ctypes.memset(self._mutex, 0, _MUTEX_BYTES)


def _make_release() -> _Release | None:
    if not sys.platform.startswith("linux") or _thread_name is None:
        return None
    try:
        return _Release()
    except AttributeError:  # not glibc
        return None


_release = _make_release()
if FREE_THREADED and _release is None:
    raise ImportError(
        "aioca cannot run on free-threaded Python here: memory would grow without limit, because"
        " this system has no way to destroy the Python thread state of a thread of libca when the"
        " thread ends (glibc has one); use the Python with a GIL"
    )


_connected: dict[int, int] = {}  # by thread id: the channels for which it was called so far
_LARGE_CIRCUIT_CHANNELS = 256


def keep_thread_state() -> None:
    """Keep the Python thread state of this libca thread; in a circuit, until the thread ends.

    Called at the beginning of callbacks of which each libca thread runs one before all others.
    Where states are lost with their circuits, only a thread with many channels keeps its own: there
    are few such circuits.
    """
    try:
        _thread.kept  # noqa: B018
    except AttributeError:
        if _release is None:
            ident = threading.get_ident()
            _connected[ident] = seen = _connected.get(ident, 0) + 1
            if seen < _LARGE_CIRCUIT_CHANNELS:
                return
            del _connected[ident]
        elif _thread_name() in _CIRCUIT_THREADS:
            _release.register()
        _ensure()
        _thread.kept = True


def stop_releasing() -> None:
    """Let no thread destroy its state from now on; at interpreter exit."""
    if _release is not None:
        _release.stop()


def after_fork() -> None:
    """In a forked child, which has none of libca's threads: forget them."""
    _connected.clear()
    if _release is not None:
        _release.after_fork()
