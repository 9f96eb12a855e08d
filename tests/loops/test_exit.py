"""The exit of the interpreter."""

from __future__ import annotations

import itertools
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.support.loops import both_backends, finish, interrupt_at

EXIT = """
    import os, signal, sys, threading, time
    import anyio
    import aioca
    from aioca import camonitor
    backend, where, end = sys.argv[1:]
    pvs = [f"BUSY{i}" for i in range(50)]
    busy = threading.Event()
    count = 0

    def callback(value, index):
        global count
        count += 1
        if count > 1000:
            busy.set()

    async def main():
        camonitor(pvs * 10, callback)
        while not busy.is_set():
            await anyio.sleep(0.001)
        if where == "daemon":
            await anyio.sleep_forever()
        else:
            await over()

    async def over():
        if end == "SIGINT":
            print("interrupt me")
            await anyio.sleep_forever()
        finish()

    def finish():
        if end == "sys.exit":
            sys.exit(3)
        if end == "exception":
            raise ZeroDivisionError("on purpose")

    if where == "daemon":
        thread = threading.Thread(
            target=anyio.run, args=(main,), kwargs={"backend": backend}, daemon=True
        )
        thread.start()
        busy.wait()
        if end == "SIGINT":
            print("interrupt me")
            time.sleep(60)
        finish()
    else:
        aioca.run(main(), backend=backend)
"""
RETURN_CODES = {"normal": 0, "sys.exit": 3, "exception": 1, "SIGINT": -signal.SIGINT}


@both_backends
@pytest.mark.parametrize("where", ["main", "daemon"])
@pytest.mark.parametrize("end", RETURN_CODES)
@pytest.mark.parametrize("pairs", [1, pytest.param(10, marks=pytest.mark.soak)])
def test_exit_under_traffic(
    start: Callable[..., subprocess.Popen[str]], backend: str, where: str, end: str, pairs: int
) -> None:
    """The interpreter ends in different ways, during 5,000 updates a second.

    The loop has ended, or still runs in a daemon thread. The process does not abort, and aioca
    prints nothing on stderr.
    """
    started = ([start(EXIT, backend, where, end) for _ in range(2)] for _ in range(pairs))
    for process in itertools.chain.from_iterable(started):
        if end == "SIGINT":
            interrupt_at(process, "interrupt me")
        began = time.monotonic()
        _, err = finish(process, RETURN_CODES[end])
        if end == "SIGINT":
            assert time.monotonic() - began < 2
        if end in ("normal", "sys.exit"):
            assert err == ""
        else:
            last = err.rstrip().splitlines()[-1]
            assert last.startswith("KeyboardInterrupt" if end == "SIGINT" else "ZeroDivisionError")
            assert err.startswith("Traceback (most recent call last)")
            for noise in ("Exception ignored", "terminat", "Fatal", "CA.Client", "Event loop"):
                assert noise not in err


EXIT_AT_WORK = """
    import sys, threading, time
    import anyio, aioca
    from aioca import caget, camonitor, caput

    backend, work, delay = sys.argv[1:]
    pvs = [f"BUSY{i}" for i in range(50)] * 6
    begun = threading.Event()

    async def main():
        await caget(pvs)
        while True:
            if work == "stream":
                async with camonitor(pvs) as updates:
                    async for value in updates:
                        begun.set()
            for subscription in camonitor(pvs, lambda value, index: None):
                subscription.close()
            await caget(pvs)
            begun.set()

    def run():
        try:
            aioca.run(main(), backend=backend)
        except (aioca.CADisconnected, RuntimeError):
            pass  # it was closed meanwhile; there is nothing any more that it could use

    threading.Thread(target=run, daemon=True).start()
    begun.wait()
    time.sleep(float(delay))
"""


@both_backends
@pytest.mark.parametrize("work", ["stream", "calls"])
@pytest.mark.parametrize("times", [3, pytest.param(30, marks=pytest.mark.soak)])
def test_exit_with_a_daemon_at_work(
    start: Callable[..., subprocess.Popen[str]], backend: str, work: str, times: int
) -> None:
    """The loop of a daemon thread continues to run while its channels are being closed."""
    for number in range(times):
        _, err = finish(start(EXIT_AT_WORK, backend, work, 0.01 * number), 0)
        assert err == "" or "never retrieved" in err  # asyncio's report about a task


def test_exit_in_a_callback(start: Callable[..., subprocess.Popen[str]]) -> None:
    """sys.exit() in a callback ends the program, as in any callback of asyncio."""
    program = """
        import asyncio, sys
        from aioca import camonitor
        async def main():
            camonitor("TICK", lambda value: sys.exit(4))
            await asyncio.sleep(60)
        asyncio.run(main())
    """
    assert finish(start(program), 4) == ("", "")
