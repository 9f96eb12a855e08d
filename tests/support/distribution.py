"""Which tests pytest-xdist gives to one worker together, and in which order it begins them.

The tests of a file run on one worker, because they share the fixtures of the module. `SPREAD` has
the slow files whose tests need not stay together: each of their test functions may run on any
worker. The slow files begin first, so that no worker is left with one of them at the end. A file
that is missing here only makes the run longer.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

# Longest first
SPREAD = (
    "cli/test_record.py", "faults/test_large_arrays.py", "testing/test_pytest_plugin.py",
    "faults/test_slow_and_mute.py", "cli/test_plot_command.py", "examples/test_charts.py",
    "examples/test_guards.py", "cli/test_tools.py", "contract/test_docs.py", "cli/test_watch.py",
    "examples/test_examples.py", "operations/test_timeouts.py", "contract/test_platforms.py",
    "faults/test_server_side.py", "cli/test_tools_output.py", "cli/test_snapshot.py",
    "faults/test_processes.py", "monitors/test_backpressure.py", "contract/test_libca.py",
)  # fmt: skip
TOGETHER = (
    "cli/test_doctor.py", "operations/test_long_lists.py", "unit/test_decoder_fuzz.py",
    "cli/test_demo.py", "loops/test_exit.py", "faults/test_hostile_connection.py",
    "operations/test_snapshots.py", "monitors/test_watch_connection.py",
    "testing/test_start_and_end.py", "monitors/test_wait_for_value.py",
    "faults/test_hostile_connecting.py", "loops/test_tricks.py", "cli/test_caput_strict.py",
    "monitors/test_refused.py", "monitors/test_reconnect.py", "faults/test_stalled.py",
)  # fmt: skip
EACH = "contract/test_docs.py::test_page"  # each page by itself

_ORDER = {f"tests/{file}": place for place, file in enumerate([*SPREAD, *TOGETHER])}


def file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


class Distribution(LoadFileScheduling):  # type: ignore[misc]
    """As ``--dist loadfile``, but each test function of the files in `SPREAD` is on its own."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False  # keep the order of `begins`
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if file.removeprefix("tests/") not in SPREAD:
            return file
        return nodeid if EACH in nodeid else nodeid.partition("[")[0]

    def remove_node(self, node: Any) -> str | None:
        """Return the test during which a worker has crashed, and queue those that it did not begin.

        pytest-xdist by itself would run that test again, until the workers may crash no more.
        """
        pending = (
            (unit, test)
            for unit in self.assigned_work[node].values()
            for test, done in unit.items()
            if not done
        )
        unit, crashed = next(pending, (None, None))
        if unit is not None:
            unit[crashed] = True
        super().remove_node(node)
        return crashed

    def _reschedule(self, node: Any) -> None:
        """Give a worker more tests, or tell it that there are none.

        After a crash, pytest-xdist queues all that the worker has run, too. A worker that gets such
        a unit, with nothing left to run, would wait for ever.
        """
        for scope in [scope for scope, tests in self.workqueue.items() if all(tests.values())]:
            del self.workqueue[scope]
        super()._reschedule(node)


def begins(item: pytest.Item) -> int:
    """The place of a test in the order in which tests begin."""
    return _ORDER.get(item.nodeid.partition("::")[0], len(_ORDER))
