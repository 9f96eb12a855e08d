"""How long it takes until a PV is back, with beacons, without, and through a name server.

The figures are those of ``docs/how-to/disconnections.md``. They follow from the intervals of libca,
so each takes minutes: `pytest -m soak`.
"""

from __future__ import annotations

import os
import sys
import time

import pytest

from aioca.testing import SoftIoc, free_port, loopback_environment
from tests.support.programs import programs

pytestmark = pytest.mark.soak

DATABASE = 'record(ao, "BACK") { field(VAL, "1") field(PINI, "YES") }'
PROGRAM = """
import sys, time
from aioca import camonitor, run
async def main():
    async with camonitor("BACK", notify_disconnect=True, all_updates=True) as updates:
        async for value in updates:
            print("there" if value.ok else "lost", flush=True)
run(main())
"""


@pytest.mark.parametrize(
    ("way", "down", "at_least", "at_most"),
    [
        ("beacons", 60, 0, 10), ("no beacons", 60, 12, 60), ("no beacons", 2, 0, 10),
        ("name server", 10, 25, 45), ("name server", 0.5, 0, 10),
    ],
)  # fmt: skip
def test_time_until_a_pv_is_back(way: str, down: float, at_least: float, at_most: float) -> None:
    """The time from when the IOC is up again to when its value comes."""
    port, repeater = free_port(), free_port()
    settings = {**loopback_environment(port), "EPICS_CA_REPEATER_PORT": str(repeater)}
    if way == "name server":
        settings |= {"EPICS_CA_ADDR_LIST": "", "EPICS_CA_NAME_SERVERS": f"127.0.0.1:{port}"}
    # Without a repeater, libca runs one in the program
    beacons = str(free_port() if way == "no beacons" else repeater)
    environment = {"EPICS_CAS_BEACON_PORT": beacons}
    with pytest.MonkeyPatch.context() as patch, SoftIoc(
        DATABASE, port=port, environment=environment
    ) as ioc, programs(port) as start:  # fmt: skip
        patch.setattr("tests.support.programs.environment_for", lambda _: _own(settings))
        lines = start(PROGRAM).stdout
        assert lines is not None and lines.readline() == "there\n"
        time.sleep(3)  # beacons come at short intervals after a start; let the client learn that
        ioc.kill()
        assert lines.readline() == "lost\n"
        time.sleep(down)  # what is measured depends on it
        ioc.start()
        begin = time.monotonic()
        assert lines.readline() == "there\n"
        took = time.monotonic() - begin
    print(f"{way}, {down} s down: back after {took:.1f} s", file=sys.stderr)
    assert at_least <= took <= at_most


def _own(settings: dict[str, str]) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("EPICS_CA")}
    return {**kept, **settings, "PATH": "/none"}  # so that no caRepeater is started
