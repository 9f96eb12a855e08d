"""What the tests of the tools share."""

from __future__ import annotations

import subprocess

from tests.support.commands import run_cli

NONE = "NO:SUCH:PV"


def run_tool(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Patiently, as the machine may be busy; a ``-w`` in the arguments overrules that."""
    return run_cli(tool, "-w", "15", *arguments)
