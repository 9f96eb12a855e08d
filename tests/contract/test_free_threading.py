"""Free-threaded Python (3.14t): importing aioca leaves the GIL off."""

from __future__ import annotations

import subprocess
import sys

import pytest

from aioca._ca.thread_states import FREE_THREADED


@pytest.mark.skipif(not FREE_THREADED, reason="this Python has a GIL")
def test_no_import_switches_the_gil_on() -> None:
    """Python switches the GIL on, with a warning, for an extension module that needs it."""
    program = """
import pkgutil, sys, warnings
import aioca, aioca.blocking, aioca.snapshot, aioca.testing
for module in pkgutil.walk_packages(aioca.__path__, "aioca."):
    if module.name.rpartition(".")[2] not in ("__main__", "_ioc_program", "pytest_plugin"):
        __import__(module.name)
assert not sys._is_gil_enabled()
"""
    subprocess.run(
        [sys.executable, "-W", "error", "-c", program], check=True, timeout=60, capture_output=True
    )
