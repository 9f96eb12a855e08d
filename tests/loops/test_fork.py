"""Processes that fork."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.support.loops import both_backends, finish

FORK = """
    import os, sys, warnings
    import anyio
    from aioca._ca import tokens as _tokens
    from aioca import caget, camonitor, caput, get_channel_infos
    backend, when = sys.argv[1:]
    warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: fork with threads
    updates = 0

    def callback(value):
        global updates
        updates += 1

    async def use():
        with anyio.fail_after(10):
            await caput("PV1", 3, wait=True)
            assert await caget("PV1") == 3
            async with camonitor("TICK") as stream:
                await anext(stream)
                await anext(stream)

    def child():
        status = 1
        try:
            assert get_channel_infos() == []
            assert _tokens.token_count() == 0
            # Where the fork was made inside a run, that run is the parent's; ours is a thread's.
            # On free-threaded Python the thread inherits a context in which anyio finds that run.
            import contextvars, threading
            failed = []
            def thread():
                try:
                    contextvars.Context().run(anyio.run, use, backend=backend)
                except BaseException as error:
                    failed.append(error)
            t = threading.Thread(target=thread)
            t.start()
            t.join()
            assert not failed, failed
            assert get_channel_infos() == []
            status = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            if when == "exits":
                sys.exit(status)
            os._exit(status)

    def fork():
        pid = os.fork()
        if not pid:
            child()
        return pid

    async def main():
        camonitor("TICK", callback)
        await use()
        if when == "inside":
            pid = fork()
            before = updates
            status = await anyio.to_thread.run_sync(lambda: os.waitpid(pid, 0)[1])
            assert status == 0, status
            assert updates > before  # the parent went on meanwhile
        await use()

    anyio.run(main, backend=backend)
    if when != "inside":
        assert os.waitpid(fork(), 0)[1] == 0
    anyio.run(main, backend=backend) if when != "inside" else anyio.run(use, backend=backend)
    print("done")
"""


@both_backends
@pytest.mark.parametrize("when", ["inside", "between", "exits"])
def test_fork(start: Callable[..., subprocess.Popen[str]], backend: str, when: str) -> None:
    """The child starts without channels or contexts and can make its own; the parent goes on."""
    out, err = finish(start(FORK, backend, when))
    assert out == "done\n"
    # libCom prints this for each thread that is started in a forked child.
    err = err.replace("Warning: Undefined Behavior!\n", "")
    err = err.replace("         Detected use of epicsThread from child process after fork()\n", "")
    assert err == ""


EXIT_BESIDE_A_BUSY_LOOP = """
    import sys, threading, time
    import anyio
    from aioca import caget, camonitor, caput
    backend, debug = sys.argv[1:]
    ready = threading.Event()

    async def waits():
        await caget("absent", timeout=None)

    async def iterates():
        async with camonitor("PV1") as updates:
            async for value in updates:
                pass

    async def in_a_block():
        async with camonitor("PV1", print):
            await anyio.sleep_forever()

    async def main():
        if debug:
            import asyncio
            asyncio.get_running_loop().slow_callback_duration = 100  # no remark on this machine
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(waits)
            tasks.start_soon(iterates)
            tasks.start_soon(in_a_block)
            camonitor("PV1", print, task_group=tasks)
            camonitor("absent", print, connect_timeout=100)
            await caput("PV1", await caget("PV1"))
            await anyio.wait_all_tasks_blocked()
            ready.set()
            time.sleep(100)  # it does not come to serve anything any more

    options = {"debug": True} if debug == "debug" else {}
    threading.Thread(
        target=anyio.run, args=(main,), kwargs={"backend": backend, "backend_options": options},
        daemon=True,
    ).start()
    ready.wait()
"""


@pytest.mark.parametrize(
    ("backend", "debug"), [("asyncio", ""), ("asyncio", "debug"), ("trio", "")]
)
def test_exit_beside_a_loop_that_is_busy(
    start: Callable[..., subprocess.Popen[str]], backend: str, debug: str
) -> None:
    """A loop in a daemon thread is busy for longer than the exit waits for it.

    The main thread then closes its operations, and nothing is reported.
    """
    _, err = finish(start(EXIT_BESIDE_A_BUSY_LOOP, backend, debug))
    assert err == ""


GIVEN_UP = """
    import asyncio, time
    import trio
    from aioca import caget, camonitor

    async def waits():
        await caget("absent", timeout=None)

    async def guest():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waits)
            camonitor("TICK", lambda value: ready.set(), connect_timeout=100)
            async with camonitor("TICK") as updates:
                async for value in updates:
                    pass

    async def main():
        global ready
        ready = asyncio.Event()
        loop = asyncio.get_running_loop()
        trio.lowlevel.start_guest_run(
            guest, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=print)
        await ready.wait()

    asyncio.run(main())
    print("done")
"""


def test_exit_with_a_guest_that_was_given_up(start: Callable[..., subprocess.Popen[str]]) -> None:
    """The host has ended before the guest, which trio reports. aioca closes its channels."""
    out, err = finish(start(GIVEN_UP))
    assert out == "done\n"
    assert "aioca" not in err
    assert "please report this" not in err
