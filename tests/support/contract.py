"""What the tests of the public contract share."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap


def run_python(
    source: str, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source), *arguments],
        capture_output=True, text=True, timeout=90, check=False,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip
