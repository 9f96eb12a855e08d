"""Event loops that run one after the other: nothing is left of any of them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import anyio
import anyio.lowlevel

from aioca import get_channel_infos
from tests.support.loops import finish, use_it

REPEATED = """
    import gc, os, resource, sys, threading, time
    import anyio, asyncio
    from aioca._channels import context as _context
    from aioca._ca import tokens as _tokens
    from aioca import caget, camonitor, caput, get_channel_infos

    how = sys.argv[1]

    async def main():
        updates = 0
        def callback(value):
            nonlocal updates
            updates += 1
        async def async_callback(value):
            await anyio.sleep(10)
        camonitor([f"BUSY{i}" for i in range(20)], lambda value, index: callback(value))
        camonitor("TICK", async_callback)
        async with camonitor("TICK") as stream:
            await anext(stream)
        await caput("PV1", await caget("PV2"), wait=True)
        while updates < 20:
            await anyio.sleep(0.001)

    def once():
        if how == "trio.run":
            import trio
            trio.run(main)
        elif how == "asyncio.run":
            asyncio.run(main())
        else:
            anyio.run(main, backend=how)
        assert get_channel_infos() == [] and not _context.all_contexts(), "channels"
        assert _tokens.token_count() == 0, "tokens"

    def rss():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize() / 1e6

    def measure():
        gc.collect()
        return (
            len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")),
            threading.active_count(),
        )

    for _ in range(8):
        once()
    time.sleep(0.3)  # the threads of libca end after their circuit
    before, memory = measure(), rss()
    for _ in range(30):
        once()
    end = time.monotonic() + 5
    while any(a > b for a, b in zip(measure(), before)) and time.monotonic() < end:
        time.sleep(0.05)
    after = measure()
    assert all(a <= b for a, b in zip(after, before)), (before, after)
    assert rss() - memory < 8, (memory, rss())
    print("done")
"""


def test_repeated_runs(start: Callable[..., subprocess.Popen[str]]) -> None:
    """30 short runs, each with open monitors at its end, leave nothing behind.

    No channel, token, thread or file descriptor is left, and almost no memory.
    """
    processes = {
        how: start(REPEATED, how) for how in ("asyncio.run", "trio.run", "asyncio", "trio")
    }
    for how, process in processes.items():
        assert finish(process) == ("done\n", ""), how


def test_runs_of_different_backends_in_turn(p: str) -> None:
    for _ in range(3):
        for backend in ("asyncio", "trio"):
            anyio.run(use_it, p + "m:a", backend=backend)
            assert get_channel_infos() == []
