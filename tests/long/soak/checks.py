"""The checks when the faults of a round are over: what is open has what the servers have."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import anyio
import anyio.to_thread

from aioca import caget, connect, get_channel_infos
from tests.long.soak.load import Round, Watch
from tests.long.soak.plant import Pv, same
from tests.long.soak.tally import Tally

NEAR = 5  # counts that a monitor of a counter may be behind


async def check_watches(round: Round) -> None:
    """Every monitor that is open has what its server has; nobody writes any more."""
    tally = round.tally
    names = sorted({watch.pv.name for watch in round.watches})
    start = time.monotonic()
    failed = [result for result in await connect(names, timeout=60, throw=False) if not result]
    tally.longest("reconnection", time.monotonic() - start)
    if failed:
        tally.problem(f"{len(failed)} PVs of IOCs that run are not connected: {failed[:3]}")
        return
    await _check_last([watch for watch in round.watches if watch.pv.kind != "tick"], tally, round)
    await _check_counters([watch for watch in round.watches if watch.pv.kind == "tick"], round)


async def _fresh(watches: list[Watch]) -> list[Any]:
    """What the server has, asked for as each monitor has asked."""
    found: dict[tuple[str, Any], Any] = {}
    for datatype in (None, str):
        names = sorted({w.pv.name for w in watches if w.options.get("datatype") is datatype})
        values = await caget(names, datatype=datatype, timeout=20)
        found.update({(name, datatype): value for name, value in zip(names, values, strict=True)})
    return [found[watch.pv.name, watch.options.get("datatype")] for watch in watches]


async def _check_last(watches: list[Watch], tally: Tally, round: Round) -> None:
    start = time.monotonic()
    pending, values = watches, list[Any]()
    while pending:
        values = await _fresh(pending)
        behind = [
            (watch, value)
            for watch, value in zip(pending, values, strict=True)
            if not same(watch.last, value)
        ]
        pending = [watch for watch, _ in behind]
        if pending and time.monotonic() - start > 15:
            for watch, value in behind[:10]:
                tally.problem(
                    f"{watch.pv.name}: the monitor {watch.options} has {watch.last!r},"
                    f" the server {value!r}"
                )
            tally.problem(f"{len(pending)} of {len(watches)} monitors have not the last value")
            return
        if pending:
            await round.next_update(0.1)
    tally.longest("last value", time.monotonic() - start)


async def _check_counters(watches: list[Watch], round: Round) -> None:
    """They go on, and are not behind by more than a few counts."""
    start = time.monotonic()
    first = {id(watch): watch.last for watch in watches}
    numbers = [watch for watch in watches if watch.options.get("datatype") is None]
    pending = watches
    while pending:
        if time.monotonic() - start > 15:
            shown = [(w.pv.name, w.options, first[id(w)], w.last) for w in pending[:5]]
            round.tally.problem(f"{len(pending)} of {len(watches)} counters stand still: {shown}")
            return
        await round.next_update(0.1)
        pending = [w for w in pending if w.last is None or w.last == first[id(w)]]
    pending = numbers
    while pending:
        values = await _fresh(pending)
        behind = [
            (w, v)
            for w, v in zip(pending, values, strict=True)
            if not isinstance(w.last, float) or v - w.last > NEAR
        ]
        pending = [w for w, _ in behind]
        if pending and time.monotonic() - start > 15:
            shown = [(w.pv.name, w.options, w.last, float(v)) for w, v in behind[:5]]
            round.tally.problem(f"{len(pending)} counters are behind: {shown}")
            return
        if pending:
            await round.next_update(0.1)


async def check_subscriptions(round: Round) -> None:
    """Each server has as many subscriptions as are open here; a few of its records are asked."""
    chance = round.chance("subscriptions")
    asked = chance.sample(round.pvs, 60)
    pending: list[tuple[Pv, int, int]] = []
    start = time.monotonic()
    while True:
        open_here = Counter[str]()
        for info in get_channel_infos():
            open_here[info.name] += info.subscriber_count
        there = await anyio.to_thread.run_sync(_subscriptions, asked)
        pending = [
            (pv, open_here[pv.name], count)
            for pv, count in zip(asked, there, strict=True)
            if open_here[pv.name] != count
        ]
        if not pending:
            return
        if time.monotonic() - start > 10:
            shown = [(pv.name, here, count) for pv, here, count in pending[:5]]
            round.tally.problem(
                f"{len(pending)} of {len(asked)} records have other numbers of subscriptions than"
                f" are open here (name, here, there): {shown}"
            )
            return
        await anyio.sleep(0.1)  # nobody tells when a server has forgotten one
        asked = [pv for pv, _, _ in pending]


def _subscriptions(pvs: list[Pv]) -> list[int]:
    return [pv.station.subscriptions(pv) for pv in pvs]
