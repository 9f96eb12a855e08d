"""What goes wrong in a round: each fault is an async function of the round and its chance."""

from __future__ import annotations

import functools
import gc
import random
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread

from aioca import CANothing, CATimeout, caget, camonitor, wait_for_value
from tests.long.soak.load import EXPECTED, Round, get, monitors, put
from tests.long.soak.plant import Station

CONN_TMO = 3.0  # EPICS_CA_CONN_TMO of this process
# libca asks after CONN_TMO seconds of silence, and waits so long for an answer
_ECHO = 5.0

Fault = Callable[[Round, random.Random], Awaitable[None]]


async def _in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return await anyio.to_thread.run_sync(functools.partial(function, *args, **kwargs))


# -- To an IOC -------------------------------------------------------------------------------------


async def _paused(round: Round, chance: random.Random, low: float, high: float) -> None:
    station: Station = chance.choice(round.stations)
    async with round.locks[station], monitors(round, chance.sample(station.pvs, 100), chance):
        # Those are closed when it has just begun to go on.
        station.soft.pause()
        try:
            await anyio.sleep(chance.uniform(low, high))  # the fault is that it takes so long
        finally:
            station.soft.resume()
        await anyio.sleep(chance.choice((0.0, 0.3, 1.0)))  # or a while later


async def pause_short(round: Round, chance: random.Random) -> None:
    """Shorter than anybody would notice but those who wait."""
    await _paused(round, chance, 0.1, 0.8 * CONN_TMO)


async def pause_medium(round: Round, chance: random.Random) -> None:
    """So long that libca asks whether it is there."""
    await _paused(round, chance, 1.1 * CONN_TMO, CONN_TMO + 0.8 * _ECHO)


async def pause_long(round: Round, chance: random.Random) -> None:
    """So long that libca takes the server for unresponsive."""
    await _paused(round, chance, CONN_TMO + 1.3 * _ECHO, CONN_TMO + 1.9 * _ECHO)


async def kill(round: Round, chance: random.Random) -> None:
    """SIGKILL, and started again: at once, or after a while."""
    station: Station = chance.choice(round.stations)
    async with round.locks[station]:
        with anyio.CancelScope(shield=True):  # it must not stay away
            await _in_thread(station.soft.kill)
            await anyio.sleep(chance.choice((0.0, 0.2, 2.0)))  # the fault, likewise
            await _in_thread(station.start)


async def kill_paused(round: Round, chance: random.Random) -> None:
    """SIGKILL to one that is stopped, while requests wait for it."""
    station: Station = chance.choice(round.stations)
    async with round.locks[station]:
        station.soft.pause()
        with anyio.CancelScope(shield=True):
            await anyio.sleep(chance.uniform(0.1, 1.0))  # the fault, likewise
            await _in_thread(station.restart)


async def change_types(round: Round, chance: random.Random) -> None:
    """Started again with other types and counts of some records; perhaps twice in a row."""
    station: Station = chance.choice(round.stations)
    async with round.locks[station]:
        with anyio.CancelScope(shield=True):
            for _ in range(chance.choice((1, 1, 2))):
                await _in_thread(station.restart, changed=True)


# -- By this client --------------------------------------------------------------------------------


async def put_burst(round: Round, chance: random.Random) -> None:
    """Very many writes at once: with and without wait, some cancelled, some timed out."""

    async def one() -> None:
        slow = [pv for pv in round.pvs if pv.kind == "slow"]
        source = slow if chance.random() < 0.1 else round.writable
        pvs = chance.sample(source, chance.randint(1, min(50, len(source))))
        how = chance.random()
        with anyio.move_on_after(chance.uniform(0.0, 0.02) if how < 0.3 else 60):
            await put(round, pvs, chance, tiny=how > 0.7)

    async with anyio.create_task_group() as group:
        for _ in range(200):
            group.start_soon(one)
            if chance.random() < 0.1:
                await anyio.sleep(chance.uniform(0.0, 0.01))  # so that they do not begin together


async def monitor_churn(round: Round, chance: random.Random) -> None:
    """Monitors of all forms and policies opened, and closed after a while or at once."""

    async def one() -> None:
        async with monitors(round, round.some(chance, 60), chance):
            await anyio.sleep(chance.choice((0.0, 0.0, 0.005, 0.1, 1.0)))  # how long they live

    async with anyio.create_task_group() as group:
        for _ in range(60):
            group.start_soon(one)
            await anyio.sleep(chance.uniform(0.0, 0.05))  # so that they do not begin together


async def cancel_groups(round: Round, chance: random.Random) -> None:
    """Task groups cancelled while everything possible goes on in them."""

    async def watch() -> None:
        async with monitors(round, round.some(chance, 40), chance):
            await anyio.sleep_forever()

    async def wait() -> None:
        await wait_for_value(chance.choice(round.pvs).name, lambda _: False)

    def callback(value: Any, index: int, over: Callable[[], bool]) -> None:
        round.tally.counts["updates"] += 1
        if over():
            round.tally.problem(f"{value!r} was delivered after the end of the task group")

    for _ in range(20):
        over = anyio.Event()
        async with anyio.create_task_group() as group:
            names = [pv.name for pv in round.some(chance, 40)]
            camonitor(names, functools.partial(callback, over=over.is_set), task_group=group)
            for _ in range(5):
                group.start_soon(watch)
                group.start_soon(wait)
                group.start_soon(get, round, round.some(chance, 100), chance)
                writable = chance.sample(round.writable, 30)
                group.start_soon(put, round, writable, chance)
            await anyio.sleep(chance.choice((0.0, 0.001, 0.01, 0.1)))  # how long it lives
            group.cancel_scope.cancel()
        over.set()


async def absent(round: Round, chance: random.Random) -> None:
    """Lists with PVs that do not exist: those that do are read, with and without exceptions."""
    missing = [f"{round.stations[0].prefix}absent{i}" for i in range(40)]
    for _ in range(10):
        pvs = round.some(chance, 60)
        chosen = chance.sample(missing, chance.randint(1, 10))
        throw = chance.random() < 0.5
        timeout = chance.uniform(0.1, 0.5)
        start = time.monotonic()
        try:
            values: list[Any] = await caget(
                [pv.name for pv in pvs] + chosen, timeout=timeout, throw=throw
            )
        except EXPECTED as error:
            failed = {failure.name for failure in error.failures}
            if not throw or not failed.issuperset(chosen):
                round.tally.problem(f"a get of {chosen} raised {error!r} for {failed}")
            continue
        finally:
            took = time.monotonic() - start
            round.tally.longest("get beyond its time-out", took - timeout)
            round.tally.counts["gets"] += len(pvs) + len(chosen)
        if throw or any(not isinstance(value, CANothing) for value in values[len(pvs) :]):
            round.tally.problem(f"a get of {chosen} returned {values[len(pvs) :]}")


async def collections(round: Round, chance: random.Random) -> None:
    """The garbage collector, over and over: on the loop's thread, and on another one."""
    stop = threading.Event()

    def collect() -> None:
        while not stop.is_set():
            gc.collect()
            stop.wait(0.1)

    thread = threading.Thread(target=collect, name="soak collector")
    thread.start()
    try:
        for _ in range(30):
            gc.collect()
            await get(round, round.some(chance, 20), chance)
            await anyio.sleep(chance.uniform(0.0, 0.05))  # the others get their turn
    finally:
        stop.set()
        with anyio.CancelScope(shield=True):
            await _in_thread(thread.join)


async def other_loop(round: Round, chance: random.Random) -> None:
    """Another event loop, of either kind, in a thread: it begins, works and ends."""
    names = [pv.name for pv in round.some(chance, 100)]
    seconds = chance.choice((0.0, 0.05, 0.5, 2.0))
    backend = chance.choice(("asyncio", "trio"))
    tally, ended = round.tally, False

    def callback(value: Any, index: int) -> None:
        tally.counts["updates in other loops"] += 1
        if ended:
            tally.problem(f"{value!r} was delivered after the end of its loop")

    async def main() -> None:
        camonitor(names, callback)
        with anyio.move_on_after(seconds):
            while True:
                try:
                    await caget(names, timeout=0.3)
                except CATimeout:
                    tally.errors["get CATimeout in other loops"] += 1
                except EXPECTED:
                    tally.errors["get CADisconnected in other loops"] += 1
                await anyio.sleep(0.01)  # it is to be a load, not all that there is

    with anyio.CancelScope(shield=True):  # a thread cannot be cancelled
        for _ in range(3):
            await _in_thread(anyio.run, main, backend=backend)
    ended = True


FAULTS: dict[str, Fault] = {
    function.__name__: function
    for function in (
        pause_short, pause_medium, pause_long, kill, kill_paused, change_types, put_burst,
        monitor_churn, cancel_groups, absent, collections, other_loop,
    )
}  # fmt: skip
