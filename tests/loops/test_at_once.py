"""Several event loops at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import anyio
import anyio.lowlevel
import pytest

from aioca import caget, camonitor, get_channel_infos, purge_channel_caches


@pytest.mark.parametrize("first_to_end", [0, 1])
@pytest.mark.parametrize(
    "backends", [("asyncio", "asyncio"), ("asyncio", "trio"), ("trio", "trio")], ids="+".join
)
def test_two_threads(p: str, backends: tuple[str, str], first_to_end: int) -> None:
    """Each thread has its own channel to the PV. The end of one does not affect the other."""
    pv = p + "ticks"
    updates: tuple[list[float], list[float]] = ([], [])
    wrong_thread: list[str] = []
    stop = (threading.Event(), threading.Event())
    errors: list[BaseException] = []

    async def main(which: int) -> None:
        thread = threading.current_thread()

        def callback(value: float) -> None:
            if threading.current_thread() is not thread:
                wrong_thread.append(threading.current_thread().name)
            updates[which].append(value)

        camonitor(pv, callback)
        while not stop[which].is_set():
            await anyio.sleep(0.005)  # poll: the event belongs to another thread
            await caget(pv)

    def loop(which: int) -> None:
        try:
            anyio.run(main, which, backend=backends[which])
        except BaseException as error:
            errors.append(error)

    def wait_for(condition: Callable[[], object]) -> None:
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end
            assert errors == []
            time.sleep(0.005)  # poll

    threads = [threading.Thread(target=loop, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: len(updates[0]) > 1 and len(updates[1]) > 1)
        assert [info.name for info in get_channel_infos()] == [pv, pv]
        stop[first_to_end].set()
        threads[first_to_end].join(10)
        assert [info.name for info in get_channel_infos()] == [pv]
        ended, going_on = len(updates[first_to_end]), len(updates[1 - first_to_end])
        wait_for(lambda: len(updates[1 - first_to_end]) > going_on + 1)
        assert len(updates[first_to_end]) == ended
    finally:
        for event in stop:
            event.set()
        for thread in threads:
            thread.join(10)
    assert errors == []
    assert wrong_thread == []
    assert get_channel_infos() == []


def test_purge_from_another_thread(p: str, backend: str) -> None:
    """Each loop closes its own channels. They can be used again at once."""
    seen: list[float] = []

    async def main() -> None:
        with anyio.fail_after(10):
            async with camonitor(p + "ticks") as updates:
                async for value in updates:  # ends when the monitor is closed
                    seen.append(value)
                    if len(seen) == 1:
                        thread.start()
        assert await caget(p + "m:a") is not None

    thread = threading.Thread(target=purge_channel_caches)
    anyio.run(main, backend=backend)
    thread.join()
    assert seen


def test_purge_with_no_loop() -> None:
    purge_channel_caches()
    purge_channel_caches()
