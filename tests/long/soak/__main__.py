"""The soak: this package for minutes or hours, with soft IOCs that are killed, paused and changed.

    python -m tests.long.soak --minutes 10 --backend asyncio
    python -m tests.long.soak --seconds 60 --backend trio --seed 5 --json soak.json
    python -m tests.long.soak --seed 5 --from-round 17 --rounds 1      one round again

Every round is the run of an event loop, all in one process. In it monitors, gets and puts go on
while faults are chosen at random, by the seed; then what is open is compared with what the servers
have. When the loop has ended nothing of it may be left, here or on the servers. It prints a line
for each round and a summary, and exits with 1 if anything was not as it has to be.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import os
import random
import secrets
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

from aioca import caget, camonitor, get_channel_infos
from aioca._ca import tokens
from aioca._channels import context as _context
from aioca._portal import eventfd
from aioca.testing import free_port, loopback_environment
from tests.long.soak.checks import check_subscriptions, check_watches
from tests.long.soak.load import Round, monitor_until_the_end, monitors, reader, writer
from tests.long.soak.plant import Station
from tests.long.soak.report import print_round, report
from tests.long.soak.tally import Heartbeat, Tally, foreign_threads, open_files, rss, watch_process
from tests.long.soak.troubles import CONN_TMO, FAULTS

STATIONS = 3
HANGS = 180.0  # seconds after which a round has not ended by itself
SETTLING = 30.0  # that the threads of libca and the servers have, to notice that a loop has ended
GAP = 2.0  # seconds for which the loop may stand still: other processes want the processors, too


class Planned(Exception):  # noqa: N818
    """How some rounds end."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.long.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="how long, about (10)")
    parser.add_argument("--seconds", type=float, help="the same, for short runs")
    parser.add_argument("--rounds", type=int, help="at most so many")
    parser.add_argument("--from-round", type=int, default=1, help="the number of the first (1)")
    parser.add_argument("--backend", choices=("asyncio", "uvloop", "trio"), default="asyncio")
    parser.add_argument("--seed", type=int, help="to do the same again")
    parser.add_argument("--faults", help="only these, with commas: " + ", ".join(FAULTS))
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    seconds = options.minutes * 60 if options.seconds is None else options.seconds
    names = options.faults.split(",") if options.faults else list(FAULTS)
    for name in [name for name in os.environ if name.startswith("EPICS_CA")]:
        del os.environ[name]
    ports = [free_port() for _ in range(STATIONS)]
    os.environ.update(
        loopback_environment(ports),
        EPICS_CA_CONN_TMO=f"{CONN_TMO:g}",
        # a repeater of its own, which nobody else uses
        EPICS_CA_REPEATER_PORT=str(free_port()),
    )
    print(f"seed {seed}, {options.backend}, {seconds:.0f} s, faults: {', '.join(names)}")
    soak = Soak(seed, options.backend, names, ports)
    try:
        soak.begin()
        end = time.monotonic() + seconds
        last = options.from_round + options.rounds - 1 if options.rounds else None
        number = options.from_round
        while time.monotonic() < end and (last is None or number <= last):
            soak.round(number)
            number += 1
    finally:
        faulthandler.cancel_dump_traceback_later()
        for station in soak.stations:
            station.soft.kill()
    return report(soak.tally, soak.rounds, options.json, seed=seed, backend=options.backend)


class Soak:
    """All the rounds of one process."""

    def __init__(self, seed: int, backend: str, faults: list[str], ports: list[int]) -> None:
        self._seed = seed
        self._backend = backend
        self._faults = faults
        self.tally = Tally()
        prefix = f"S{secrets.token_hex(4)}:"  # other than any that a server was just killed with
        self.stations = [Station(i, prefix, port, seed) for i, port in enumerate(ports)]
        self.rounds: list[dict[str, Any]] = []
        self._threads = foreign_threads()
        self._files = _files()

    def begin(self) -> None:
        """Start the IOCs; and run once, so that what libca keeps for good is there."""
        watch_process(self.tally)
        for station in self.stations:
            station.start()

        async def connect_once() -> None:
            names = [station.pvs[0].name for station in self.stations]
            await caget(names, timeout=30)
            async with camonitor(names, all_updates=True) as updates:
                await anext(updates)

        self._run(connect_once)
        for backend in ("asyncio", "trio"):  # the fault other_loop may be the first that needs it
            anyio.run(connect_once, backend=backend)
        self._settle(lambda: [f"{s.soft}: clients" for s in self.stations if s.soft.client_count()])
        faulthandler.dump_traceback_later(HANGS, exit=True)  # has a thread, as in each round
        self._settle(_circuits)
        self._threads, self._files = foreign_threads(), _files()

    def _run(self, function: Callable[[], Any]) -> None:
        name = "asyncio" if self._backend == "uvloop" else self._backend
        options = {"use_uvloop": self._backend == "uvloop"} if name == "asyncio" else {}
        anyio.run(function, backend=name, backend_options=options)

    # -- A round -----------------------------------------------------------------------------------

    def round(self, number: int) -> None:
        tally, start = self.tally, time.monotonic()
        tally.round = number
        before, problems = tally.counts.copy(), len(tally.problems)
        chance = random.Random(f"{self._seed}:{number}")
        chosen = self._choose(chance)
        ending = chance.choice(("return", "return", "raise", "cancel"))
        faulthandler.dump_traceback_later(HANGS + 60, exit=True)  # the loop itself hangs
        with Heartbeat() as heartbeat:
            try:
                self._run(lambda: self._main(number, chosen, ending, heartbeat))
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                if not _only_planned(error):
                    text = "".join(traceback.format_exception(error))
                    tally.problem(f"the run has ended with:\n{text}")
        self._nothing_left()
        faulthandler.cancel_dump_traceback_later()
        tally.longest("pause of the garbage collector", heartbeat.collecting)
        if any("collections" in phase for phase in chosen):
            # Each has the GIL for a while, which a loop that calls libca waits for at each call.
            tally.longest("heartbeat gap with the fault collections", heartbeat.gap)
        else:
            tally.longest("heartbeat gap", heartbeat.gap)
            if heartbeat.gap > GAP:
                tally.problem(f"the loop stood still for {heartbeat.gap:.2f} s")
            for stack in heartbeat.stacks[:3]:
                print(f"the loop was late {stack}", file=sys.stderr)
        figures = {
            "round": number, "seconds": time.monotonic() - start,
            "faults": [name for phase in chosen for name in phase], "ending": ending,
            "gap": heartbeat.gap, "rss": rss(),
            "threads": sum(foreign_threads().values()), "files": sum(_files().values()),
            "problems": len(tally.problems) - problems, "counts": tally.counts - before,
        }  # fmt: skip
        self.rounds.append(figures)
        print_round(figures)

    def _choose(self, chance: random.Random) -> list[list[str]]:
        """The faults of a round: some phases with some each, of which few may take long."""
        phases = [
            chance.sample(self._faults, min(len(self._faults), chance.choice((1, 2, 3))))
            for _ in range(chance.choice((2, 3)))
        ]
        for phase in phases[1:]:  # one that is long will do
            if "pause_long" in phase and len(self._faults) > 1:
                phase.remove("pause_long")
        return phases

    async def _main(
        self, number: int, phases: list[list[str]], ending: str, heartbeat: Heartbeat
    ) -> None:
        round = Round(f"{self._seed}:{number}", self.stations, self.tally)
        chance = round.chance("main")
        async with anyio.create_task_group() as beats:
            beats.start_soon(heartbeat.beat)
            with anyio.fail_after(HANGS):
                monitor_until_the_end(round, round.some(chance, 150), chance)
                async with anyio.create_task_group() as holders:
                    for which in range(4):
                        holders.start_soon(_hold, round, which)
                    await self._go_wrong(round, phases)
                    await check_watches(round)
                    await check_subscriptions(round)
                    if ending == "raise":  # through all that is open
                        raise Planned
                    if ending == "cancel":
                        beats.cancel_scope.cancel()
                        await anyio.sleep_forever()
                    holders.cancel_scope.cancel()
            beats.cancel_scope.cancel()

    async def _go_wrong(self, round: Round, phases: list[list[str]]) -> None:
        """Load, and the faults of one phase after the other."""
        async with anyio.create_task_group() as load:
            for which in range(2):
                load.start_soon(reader, round, which)
                load.start_soon(writer, round, which)
            for place, phase in enumerate(phases):
                async with anyio.create_task_group() as faults:
                    for name in phase:
                        self.tally.faults[name] += 1
                        faults.start_soon(self._fault, name, round, f"{place} {name}")
            round.stop.set()

    async def _fault(self, name: str, round: Round, what: str) -> None:
        try:
            await FAULTS[name](round, round.chance(what))
        except BaseException:
            self.tally.problem(f"the fault {name} did not come to its end")
            raise

    # -- After it ----------------------------------------------------------------------------------

    def _nothing_left(self) -> None:
        start = time.monotonic()
        left = self._settle(self._left)
        self.tally.longest("settling after the end of the loop", time.monotonic() - start)
        if left:
            self.tally.problem("is left after the end of the loop: " + "; ".join(left))

    def _left(self) -> list[str]:
        left = [f"{info}" for info in get_channel_infos()[:5]]
        left += [f"{context}" for context in _context.all_contexts()]
        if tokens.token_count():
            owners = list(tokens.owners.values())[:5]
            left.append(f"{tokens.token_count()} tokens, {owners}")
        if threads := foreign_threads() - self._threads:
            left.append(f"threads {dict(threads)}")
        if files := _files() - self._files:
            left.append(f"files {dict(files)}")
        for station in self.stations:
            if count := station.soft.client_count():
                left.append(f"{count} clients of {station.soft}: {station.soft.command('casr 2')}")
        return left

    def _settle(self, look: Callable[[], list[str]]) -> list[str]:
        """Wait, for a bounded time, until nothing is left; nobody tells when that is so."""
        give_up = time.monotonic() + SETTLING
        while left := look():
            if time.monotonic() > give_up:
                break
            time.sleep(0.05)
            gc.collect()
        return left


def _files() -> Counter[str]:
    """The open files, less the bells of loops that have ended, which wait for the next ones."""
    return open_files() - Counter({"anon_inode[eventfd]": len(eventfd._spare)})


def _circuits() -> list[str]:
    """The threads of libca that end with their circuits."""
    return [name for name in foreign_threads() if name.startswith("CAC-TCP")]


async def _hold(round: Round, which: int) -> None:
    """Task: monitors in one of the forms, from the beginning of the round to its end."""
    chance = round.chance(f"hold {which}")
    async with monitors(round, round.some(chance, 150), chance, lasting=True):
        await anyio.sleep_forever()


def _only_planned(error: BaseException) -> bool:
    """Whether it is how the round was to end; in groups, as task groups raise it."""
    inner = getattr(error, "exceptions", None)
    return isinstance(error, Planned) if inner is None else all(map(_only_planned, inner))


if __name__ == "__main__":
    sys.exit(main())
