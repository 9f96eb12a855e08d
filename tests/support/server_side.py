"""What the tests of the server side share."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable

from aioca.testing import SoftIoc
from tests.support.programs import environment_for

MakeIoc = Callable[..., SoftIoc]
FLOOD = 2000
FLOOD_DATABASE = "".join(
    f'record(calc, "$(P)F{i}") {{ field(SCAN, ".1 second") field(CALC, "VAL+1") }}\n'
    for i in range(FLOOD)
)


def program(text: str, ioc: SoftIoc, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-c", textwrap.dedent(text), *arguments],
        env={**environment_for(ioc.port), **environment},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


LAST_DATABASE = (
    "".join(f'record(ao, "L{i}") {{}}\n' for i in range(200))
    + 'record(ao, "LAST") {}\n'
    + 'record(waveform, "ARRAY") { field(FTVL, "DOUBLE") field(NELM, "90000") }'
)
