"""Run the cases with the aioca that is installed here; their facts go to a file, as JSON.

    python -m tests.long.compatibility.runner PREFIX FILE [restart]

With ``restart`` only those during which the IOC goes and comes back: on stdout it asks for the IOC
to be killed or started, and waits for a line on stdin.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

from tests.long.compatibility.cases import errors, lists, puts, reads
from tests.long.compatibility.describe import Facts, describe, raised
from tests.long.compatibility.more_cases import idioms, monitors, reconnection


async def facts_of(call: Any) -> Facts:
    try:
        return describe(await asyncio.wait_for(call(), 90))
    except Exception as error:
        return raised(error)


def control(order: str) -> None:
    print(order, flush=True)
    sys.stdin.readline()


async def main(p: str, file: Path, restart: bool) -> None:
    found = {}
    if restart:
        found["reconnection"] = await facts_of(partial(reconnection, p, control))
    else:
        for section in (reads, idioms, monitors, lists, errors, puts):
            for name, call in section(p):
                assert name not in found, f"two cases are called {name!r}"
                found[name] = await facts_of(call)
    file.write_text(json.dumps(found))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable()
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), "restart" in sys.argv[3:]))
