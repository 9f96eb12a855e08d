"""Archive PVs to a file: every update of each, until Ctrl-C (or SIGTERM), and nothing is lost.

    aioca ioc examples/records.db                               # in another terminal
    python examples/archive.py values.sqlite SINE NOISE COUNTER
    python examples/archive.py values.sqlite @names.txt         # thousands, one on each line
    sqlite3 values.sqlite "select * from updates where pv = 'SINE'"

A disconnection is a row without a value: what follows it may have a gap before it. A NaN is the
text 'nan', because SQLite has no such number.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sqlite3
import time
from contextlib import closing
from typing import Any

import anyio
import anyio.to_thread

from aioca import FORMAT_TIME, camonitor, run
from aioca.types import AugmentedValue


def store(file: str, rows: list[tuple[Any, ...]]) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("create table if not exists updates (pv, time_ns, severity, value)")
        database.executemany("insert into updates values (?, ?, ?, ?)", rows)


def plain(value: AugmentedValue) -> float | str:
    if value.element_count != 1:
        return json.dumps((+value).tolist())
    return "nan" if isinstance(value, float) and math.isnan(value) else +value


async def archive(file: str, pvs: list[str]) -> None:
    rows: list[tuple[Any, ...]] = []

    def keep(value: AugmentedValue, _index: int) -> None:
        if value.ok:
            rows.append((value.name, value.timestamp_ns, value.severity, plain(value)))
        else:
            rows.append((value.name, time.time_ns(), None, None))

    async def write() -> None:
        count = len(rows)  # more come while the thread is busy with these
        await anyio.to_thread.run_sync(store, file, rows[:count])
        del rows[:count]  # not before they are on the disk

    async def write_each_second() -> None:
        while True:
            await write()
            await anyio.sleep(1)

    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        try:
            async with anyio.create_task_group() as tasks:
                camonitor(
                    pvs, keep, format=FORMAT_TIME, all_updates=True, notify_disconnect=True,
                    task_group=tasks,
                )  # fmt: skip
                tasks.start_soon(write_each_second)
                await anext(signals)
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await write()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Archive PVs.", fromfile_prefix_chars="@")
    parser.add_argument("file")
    parser.add_argument("pvs", nargs="+", metavar="PV")
    parser.add_argument("--backend", default="asyncio", choices=["asyncio", "trio"])
    o = parser.parse_args()
    run(archive(o.file, o.pvs), backend=o.backend)
