"""ophyd_async_scan.py: Bluesky moves and reads through this package."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

import aioca
from aioca.testing import SoftIoc
from tests.support.examples import RECORDS, running, value_of
from tests.support.iocs import PORTS

pytestmark = [
    pytest.mark.ophyd,
    pytest.mark.skipif(
        find_spec("ophyd_async") is None,
        reason="ophyd-async is not installed: the extra `examples`",
    ),
]


@pytest.fixture(scope="module")
def records() -> Iterator[SoftIoc]:
    with SoftIoc(RECORDS, port=PORTS[5]) as ioc:
        yield ioc


def test_the_scan_finds_the_peak(records: SoftIoc) -> None:
    with running("ophyd_async_scan.py", port=records.port) as program:
        rows = [line.split() for line in program.finish(seconds=60)]
    positions, counts = zip(*((float(x), float(y)) for x, y in rows), strict=True)
    assert positions == pytest.approx([0, 1, 2, 3, 4], abs=0.005)
    assert max(counts) == counts[2] > 990
    assert value_of(records, "SETPOINT") == "4"


def test_it_goes_through_this_package() -> None:
    text = "import ophyd_async.epics.core._aioca as used; print(used.caget.__code__.co_filename)"
    found = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == aioca.caget.__code__.co_filename
