"""An alarm watcher: a line for each change of severity, each disconnection, each PV not found.

    aioca ioc examples/records.db       # in another terminal
    python examples/alarm_watcher.py SINE TEMPERATURE

The server sends alarm changes only (DBE_ALARM), however fast the value moves.
"""

from __future__ import annotations

import argparse
import logging

import anyio

from aioca import DBE_ALARM, FORMAT_TIME, camonitor, run
from aioca.types import AugmentedValue

LEVELS = [logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL]
log = logging.getLogger("alarms")


async def watch(pvs: list[str]) -> None:
    last: dict[str, int | None] = {}

    def report(value: AugmentedValue, _index: int) -> None:
        severity = value.severity if value.ok else None
        if value.name in last and last[value.name] == severity:
            return  # another reason for an alarm of the same severity
        last[value.name] = severity
        if severity is None:
            log.critical("%s", value)  # a CANothing, which says whose it is
        else:
            log.log(LEVELS[severity], "%s %s %s", value.name, value.alarm, value)

    async with anyio.create_task_group() as tasks:
        camonitor(
            pvs, report, events=DBE_ALARM, format=FORMAT_TIME, all_updates=True,
            notify_disconnect=True, connect_timeout=2, task_group=tasks,
        )  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Log the alarms of PVs, until Ctrl-C.")
    parser.add_argument("pvs", nargs="+", metavar="PV")
    parser.add_argument("--backend", default="asyncio", choices=["asyncio", "trio"])
    options = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)-8s %(message)s", datefmt="%H:%M:%S"
    )
    logging.getLogger("aioca").setLevel(logging.ERROR)
    run(watch(options.pvs), forever=True, backend=options.backend)
