"""What the tests of aioca.testing share."""

from __future__ import annotations

from collections.abc import Callable

from aioca.testing import SoftIoc

MakeIoc = Callable[..., SoftIoc]
ONE = 'record(ao, "$(P)x") { field(VAL, "1.5") field(DESC, "$(D=none)") }'


def pid_of(ioc: SoftIoc) -> int:
    assert ioc.process is not None
    return ioc.process.pid
