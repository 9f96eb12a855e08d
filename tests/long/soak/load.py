"""What uses the plant in a round: monitors of every form, gets and puts.

Nothing here is told of the faults. A get or a put may fail with what a fault explains (`EXPECTED`),
and anything else is a problem; a value must never be wrong.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc

from aioca import (
    FORMAT_CTRL,
    FORMAT_RAW,
    FORMAT_TIME,
    CADisconnected,
    CANothing,
    CATimeout,
    caget,
    camonitor,
    caput,
)
from aioca.types import Format
from tests.long.soak.plant import WRITABLE, Pv, Station, value_for, wrong
from tests.long.soak.tally import Tally

EXPECTED = (CATimeout, CADisconnected)
POLICIES: tuple[dict[str, Any], ...] = (
    {}, {"all_updates": True}, {"max_pending": 1}, {"max_pending": 3}, {"max_pending": 20},
)  # fmt: skip
FORMATS: tuple[Format, ...] = (FORMAT_RAW, FORMAT_TIME, FORMAT_CTRL)
_numbers = itertools.count(1)  # of what is written


class Watch:
    """One monitor of one PV, and the last value that it has delivered."""

    def __init__(self, round: Round, pv: Pv, options: dict[str, Any]) -> None:
        self.pv = pv
        self.options = options
        self.last: Any = None
        self.closed = False
        self._round = round
        self._starts = pv.station.starts  # when the counter was last seen to begin anew

    def take(self, value: Any) -> None:
        """The callback, and what gets each value that was iterated over."""
        tally, pv = self._round.tally, self.pv
        self._round.updated.set()
        if self.closed:
            tally.problem(f"{pv.name}: {value!r} was delivered after the end of the monitor")
        if isinstance(value, CANothing):
            tally.counts["updates that tell of a disconnection"] += 1
            if value or not self.options.get("notify_disconnect"):
                tally.problem(f"{pv.name}: {value!r} was delivered to {self.options}")
            self.last = value
            return
        tally.counts["updates"] += 1
        trouble = wrong(pv, value, self.options.get("datatype") is str)
        if trouble:
            tally.problem(f"{pv.name}: {value!r} was delivered to {self.options}: {trouble}")
        if pv.kind == "tick" and isinstance(self.last, float) and value < self.last:
            if self._starts == pv.station.starts:
                tally.problem(f"{pv.name}: {value!r} was delivered after {self.last!r}")
            self._starts = pv.station.starts
        self.last = value


class Round:
    """What the tasks of one round share.

    Attributes:
        watches: the monitors that live until the end of the round, and are checked then.
        stop: set when the load is to end.
        updated: replaced whenever somebody waits for the next update.
        locks: one for each station: who does something to it alone.
    """

    def __init__(self, seed: str, stations: list[Station], tally: Tally) -> None:
        self.seed = seed
        self.stations = stations
        self.tally = tally
        self.pvs = [pv for station in stations for pv in station.pvs]
        self.writable = [pv for pv in self.pvs if pv.kind in WRITABLE]
        self.watches: list[Watch] = []
        self.stop = anyio.Event()
        self.updated = anyio.Event()
        self.locks = {station: anyio.Lock() for station in stations}

    def chance(self, what: str) -> random.Random:
        """Random numbers of its own for each task: they do not depend on who runs first."""
        return random.Random(f"{self.seed}:{what}")

    def some(self, chance: random.Random, most: int) -> list[Pv]:
        return chance.sample(self.pvs, chance.randint(1, most))

    async def next_update(self, seconds: float) -> None:
        """Wait until any monitor has delivered something, at most so long."""
        self.updated = anyio.Event()
        with anyio.move_on_after(seconds):
            await self.updated.wait()

    def monitor_options(self, chance: random.Random) -> dict[str, Any]:
        options = {**chance.choice(POLICIES), "format": chance.choice(FORMATS)}
        if chance.random() < 0.1:
            options["datatype"] = str
        if chance.random() < 0.3:
            options["notify_disconnect"] = True
        return options


# -- Monitors --------------------------------------------------------------------------------------


@asynccontextmanager
async def monitors(
    round: Round, pvs: list[Pv], chance: random.Random, *, lasting: bool = False
) -> AsyncIterator[list[Watch]]:
    """Monitors of these PVs, in one of the forms that there are, while the block lasts."""
    options = round.monitor_options(chance)
    watches = {pv.name: Watch(round, pv, options) for pv in pvs}
    if lasting:
        round.watches.extend(watches.values())
    names = list(watches)
    form = chance.choice(("iterate", "block", "group", "async", "close"))

    def callback(value: Any, index: int) -> None:
        watches[names[index]].take(value)

    async def async_callback(value: Any, index: int) -> None:
        # A consumer that takes its time, so that updates come meanwhile
        await anyio.sleep(0.002)
        watches[names[index]].take(value)

    async def iterate(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with camonitor(names, **options) as updates:
            task_status.started()
            async for value in updates:
                watches[value.name].take(value)

    try:
        if form == "iterate":
            async with anyio.create_task_group() as group:
                await group.start(iterate)
                yield list(watches.values())
                group.cancel_scope.cancel()
        elif form in ("block", "async"):
            called: Callable[..., Any] = callback if form == "block" else async_callback
            async with camonitor(names, called, **options):
                yield list(watches.values())
        elif form == "group":
            async with anyio.create_task_group() as group:
                camonitor(names, callback, task_group=group, **options)
                yield list(watches.values())
                group.cancel_scope.cancel()  # it would wait for them
        else:
            subscriptions = camonitor(names, callback, **options)
            try:
                yield list(watches.values())
            finally:
                subscriptions.close()
    finally:
        for watch in watches.values():
            watch.closed = True


def monitor_until_the_end(round: Round, pvs: list[Pv], chance: random.Random) -> None:
    """Monitors that nobody closes but the end of the run of the loop."""
    for pv in pvs:
        watch = Watch(round, pv, round.monitor_options(chance))
        round.watches.append(watch)
        camonitor(pv.name, watch.take, **watch.options)


# -- Gets and puts ---------------------------------------------------------------------------------


async def get(round: Round, pvs: list[Pv], chance: random.Random) -> None:
    """Read some PVs at once, and look at what comes."""
    as_string = chance.random() < 0.1
    timeout = chance.choice((0.05, 0.5, 2.0, 4.0))
    throw = chance.random() < 0.5
    tally = round.tally
    tally.counts["gets"] += len(pvs)
    try:
        values: list[Any] = await caget(
            [pv.name for pv in pvs], datatype=str if as_string else None,
            format=chance.choice(FORMATS), timeout=timeout, throw=throw,
        )  # fmt: skip
    except EXPECTED as error:
        tally.errors[f"get {type(error).__name__}"] += len(error.failures)
        return
    if len(values) != len(pvs):
        tally.problem(f"{len(values)} values for {len(pvs)} PVs")
    for pv, value in zip(pvs, values, strict=False):
        if isinstance(value, CANothing):
            tally.errors[f"get {value.errorcode}"] += 1
            if value or throw:
                tally.problem(f"{pv.name}: a get returned {value!r}")
        elif trouble := wrong(pv, value, as_string):
            tally.problem(f"{pv.name}: a get returned {value!r}: {trouble}")


async def put(round: Round, pvs: list[Pv], chance: random.Random, *, tiny: bool = False) -> None:
    """Write to some PVs at once; if so wanted, with a time limit that it will hardly meet."""
    number = next(_numbers)
    wait = chance.random() < 0.5
    timeout = chance.uniform(0.0, 0.02) if tiny else chance.choice((0.5, 2.0, 4.0))
    tally = round.tally
    tally.counts["puts with wait" if wait else "puts without wait"] += len(pvs)
    names = [pv.name + (".A" if pv.kind == "slow" else "") for pv in pvs]
    values = [value_for(pv, number, chance) for pv in pvs]
    try:
        if len(pvs) == 1:
            results = [await caput(names[0], values[0], wait=wait, timeout=timeout, throw=False)]
        else:
            results = await caput(names, values, wait=wait, timeout=timeout, throw=False)
    except EXPECTED as error:  # which throw=False rules out
        tally.problem(f"a put raised {error!r}")
        return
    for name, result in zip(names, results, strict=True):
        if result.name != name:
            tally.problem(f"{name}: a put returned {result!r}")
        if not result:
            tally.errors[f"put {result.errorcode}"] += 1
            if result.errorcode not in (80, 192):  # ECA_TIMEOUT, ECA_DISCONN
                tally.problem(f"{name}: a put returned {result!r}: {result}")


async def reader(round: Round, which: int) -> None:
    """Task: read until the load is to end."""
    chance = round.chance(f"reader {which}")
    while not round.stop.is_set():
        await get(round, round.some(chance, 200), chance)
        await anyio.sleep(chance.uniform(0.0, 0.1))  # it is to be a load, not all that there is


async def writer(round: Round, which: int) -> None:
    """Task: write until the load is to end."""
    chance = round.chance(f"writer {which}")
    while not round.stop.is_set():
        most = chance.choice((1, 1, 20, 100))
        await put(round, chance.sample(round.writable, chance.randint(1, most)), chance)
        await anyio.sleep(chance.uniform(0.0, 0.1))  # likewise
