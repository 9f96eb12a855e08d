"""Ctrl-C at the first instruction of a function, as in a notebook, whose loop goes on after it.

CPython raises KeyboardInterrupt where a function begins, so each step of the loop may be prevented.
Afterwards every PV can be read, and every monitor delivers its last value.
"""

from __future__ import annotations

import pytest

from aioca.testing import SoftIoc
from tests.support.programs import programs

COMMON = """
    import asyncio, signal, sys, time
    import aioca
    from aioca import caget, camonitor, caput
    from aioca._channels.registry import current

    [pv, other] = sys.argv[1:]
    loop = asyncio.new_event_loop()
    got = []
    asyncio.run(caput(pv, 1, wait=True))  # in another loop: each value that is written is a new one

    def ctrl_c_at(function):
        "One SIGINT where the function begins, the next time that it is called."
        target = function.__code__

        def trace(frame, event, arg):
            if event == "call" and frame.f_code is target:
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)

        sys.settrace(trace)

    def cell(coroutine):
        "Run a cell of a notebook; return whether Ctrl-C has ended it."
        try:
            loop.run_until_complete(coroutine)
        except KeyboardInterrupt:
            return True
        return False

    async def until(condition):
        give_up = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < give_up, (got, current().clear_queue)
            await asyncio.sleep(0.01)
"""

CASES = {
    "the flush for several calls": """
        from aioca._channels.flushes import Flushes

        cell(caget([pv, other]))

        async def interrupted():
            ctrl_c_at(Flushes._flush_due)
            await asyncio.gather(caget(pv), caget(other), caget(pv))

        async def afterwards():
            for _ in range(3):
                await caget(pv, timeout=5)
    """,
    "the job of a connection": """
        from aioca._channels.connection import Connection

        async def interrupted():
            ctrl_c_at(Connection._apply_change)
            await caget(pv)

        async def afterwards():
            await caget(pv, timeout=5)
    """,
    "a turn of the clear queue": """
        from aioca._channels.clear_queue import ClearQueue

        async def interrupted():
            monitor = camonitor(pv, got.append)
            await until(lambda: got)
            ctrl_c_at(ClearQueue._turn)
            monitor.close()
            await asyncio.sleep(20)

        async def afterwards():
            queue = current().clear_queue
            camonitor(pv, print).close()
            await until(lambda: not queue._due and not queue._done and not queue.ignored_keys)
    """,
    "the wake of an iteration": """
        from aioca._portal._asyncio_waiter import AsyncioWaiter

        async def follow():
            async with camonitor(pv) as updates:
                async for value in updates:
                    got.append(value)

        async def interrupted():
            global task
            task = asyncio.ensure_future(follow())
            await until(lambda: got)
            await caput(pv, got[-1] + 1)
            ctrl_c_at(AsyncioWaiter._run_soon)
            await asyncio.sleep(20)

        async def afterwards():
            await caput(pv, 1000, wait=True)
            await until(lambda: got[-1] == 1000)
            task.cancel()
            await asyncio.wait([task], timeout=10)
            assert task.done()
    """,
    "the start of an awaitable": """
        from aioca._monitors.owners import LoopOwner

        async def callback(value):
            got.append(value)

        async def interrupted():
            camonitor(pv, callback)
            await until(lambda: got)
            ctrl_c_at(LoopOwner.spawn)
            await caput(pv, got[-1] + 1)
            await asyncio.sleep(20)

        async def afterwards():
            await caput(pv, 1000, wait=True)
            await until(lambda: got[-1] == 1000)
    """,
    "a callback of watch_connection": """
        seen = []

        def watch(info):
            if info.ok and not seen:
                seen.append(info)
                signal.raise_signal(signal.SIGINT)

        async def interrupted():
            global read
            aioca.watch_connection(pv, watch)
            camonitor(pv, got.append)
            read = asyncio.ensure_future(caget(pv, timeout=15))
            await asyncio.sleep(20)

        async def afterwards():
            await read
            await caput(pv, 1000, wait=True)
            await until(lambda: got[-1:] == [1000])
    """,
}
END = """
    assert cell(interrupted()), "Ctrl-C was not raised"
    sys.settrace(None)
    assert not cell(afterwards())
    cell(loop.shutdown_asyncgens())
    loop.close()
    print("well")
"""


@pytest.mark.parametrize("case", CASES)
def test_the_loop_goes_on(ioc: SoftIoc, p: str, case: str) -> None:
    program = COMMON + CASES[case].replace("\n    ", "\n") + END
    with programs(ioc.port, "-W", "ignore::RuntimeWarning") as start:  # a callback never awaited
        process = start(program, f"{p}ao:free", f"{p}ao:a")
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out.split()[-1:]) == (0, ["well"]), err
