"""Fixtures that several files of this folder use."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest

from aioca.testing import SoftIoc
from tests.support.loops import DATABASE
from tests.support.programs import programs


@pytest.fixture(scope="module")
def busy_ioc() -> Iterator[SoftIoc]:
    """An IOC for the child processes; the test process does not search its port."""
    with SoftIoc(DATABASE) as ioc:
        yield ioc


@pytest.fixture
def start(busy_ioc: SoftIoc) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start programs that find `busy_ioc`: ``start(text, *arguments)``."""
    with programs(busy_ioc.port) as start:
        yield start
