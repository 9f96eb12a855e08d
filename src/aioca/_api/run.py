"""run(): runs a program in an event loop of its own."""

from __future__ import annotations

import contextvars
import importlib.util
import sys
from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar

import anyio

from .._portal.current import running_loop

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup  # pyright: ignore[reportMissingImports]

T = TypeVar("T")

_PYTHON_3_10: bool = sys.version_info[:2] == (3, 10)


def run(
    coro: Coroutine[Any, Any, T], forever: bool = False, *, backend: str = "asyncio"
) -> T | None:
    """Run a coroutine in an event loop of its own.

    Args:
        coro: the coroutine, such as ``main()``.
        forever: whether to keep the loop, and so its monitors, running after the coroutine has
            ended, until Ctrl-C. Ctrl-C then ends the program without a traceback.
        backend: ``"asyncio"`` or ``"trio"``.

    Returns:
        What the coroutine returned; None after Ctrl-C with ``forever``.

    Raises:
        TypeError: ``coro`` is not a coroutine; it may be the async function itself.
        LookupError: there is no such backend, or trio is not installed.
        RuntimeError: an event loop is already running in this thread. Another one can run in
            another thread, such as ``asyncio.to_thread`` provides.
        BaseException: whatever the coroutine raised; KeyboardInterrupt on Ctrl-C, unless
            ``forever``.
    """
    if not isinstance(coro, Coroutine):
        raise TypeError(f"run takes a coroutine, such as main(), not {coro!r}")

    async def main() -> T:
        result = await coro
        if forever:
            await anyio.sleep_forever()
        return result

    try:
        check_backend(backend)
        _check_no_loop_runs()
        context = contextvars.copy_context()
        context.run(_forget_library)
        return context.run(partial(anyio.run, main, backend=backend))
    except KeyboardInterrupt:
        if not forever:
            raise
        return None
    except BaseExceptionGroup as group:  # a task group or nursery wraps KeyboardInterrupt
        if not forever or group.split(KeyboardInterrupt)[1] is not None:
            raise
        return None
    except BaseException as error:
        # On Python 3.10, anyio raises the CancelledError with which Ctrl-C ended the main task.
        if not (_PYTHON_3_10 and type(error).__name__ == "CancelledError"):
            raise
        if not forever:
            raise KeyboardInterrupt from None
        return None
    finally:
        coro.close()  # it was never started if the checks have failed


def check_backend(backend: str) -> None:
    """Raise LookupError if there is no such backend, or it is not installed."""
    if backend not in ("asyncio", "trio"):
        raise LookupError(f"there is no backend {backend!r}: it is 'asyncio' or 'trio'")
    if backend == "trio" and importlib.util.find_spec("trio") is None:
        raise LookupError("trio is not installed; pip install 'aioca[trio]'")


def _check_no_loop_runs() -> None:
    """Raise RuntimeError if an event loop is running in this thread."""
    try:
        running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "an event loop is already running in this thread: await the coroutine there, or call"
        " aioca.run() in a thread of its own (await asyncio.to_thread(...), or"
        " anyio.to_thread.run_sync(...))"
    )


def _forget_library() -> None:
    """Have anyio detect the async library of this thread.

    A context variable names the library. A thread may have inherited it from the task that started
    the thread.
    """
    sniffio = sys.modules.get("sniffio")  # not imported: anyio has no such variable
    if sniffio is not None:
        sniffio.current_async_library_cvar.set(None)
