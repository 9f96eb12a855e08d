"""run(): a program's event loop in one line."""

from __future__ import annotations

import contextvars
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
        forever: whether to go on after its end, so that monitors go on, until Ctrl-C, which then
            ends the program without a traceback.
        backend: ``"asyncio"`` or ``"trio"``.

    Returns:
        What the coroutine returned; None if it ran for ever.

    Raises:
        TypeError: it is no coroutine (but the function itself, say).
        RuntimeError: an event loop runs in this thread already. In a thread of its own, such as
            ``asyncio.to_thread`` provides, another one can run.
        Whatever the coroutine raised. KeyboardInterrupt on Ctrl-C unless ``forever``.
    """
    if not isinstance(coro, Coroutine):
        raise TypeError(f"run takes a coroutine, such as main(), not {coro!r}")

    async def main() -> T:
        result = await coro
        if forever:
            await anyio.sleep_forever()
        return result

    try:
        _check_no_loop_runs()
        context = contextvars.copy_context()
        context.run(_forget_library)
        return context.run(partial(anyio.run, main, backend=backend))
    except KeyboardInterrupt:
        if not forever:
            raise
        return None
    except BaseExceptionGroup as group:  # how it comes out of a task group or nursery
        if not forever or group.split(KeyboardInterrupt)[1] is not None:
            raise
        return None
    except BaseException as error:
        # On Python 3.10, anyio lets the cancellation out by which Ctrl-C ended the main task.
        if not (_PYTHON_3_10 and type(error).__name__ == "CancelledError"):
            raise
        if not forever:
            raise KeyboardInterrupt from None
        return None
    finally:
        coro.close()  # never started, if there was no such backend


def _check_no_loop_runs() -> None:
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
    """Have anyio look for itself which library runs in this thread.

    A variable tells it, and a thread may have that from the task that has started it.
    """
    sniffio = sys.modules.get("sniffio")  # else anyio has no such variable
    if sniffio is not None:
        sniffio.current_async_library_cvar.set(None)
