"""Fixtures that several files of this folder use."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator

import pytest

from aioca.testing import SoftIoc
from tests.support.hostile import HostileServer
from tests.support.iocs import PORTS
from tests.support.network import (
    DATABASE,
    LINES,
    MANY_BIG,
    Net,
    big_records,
    is_direct,
    lines_of_records,
)
from tests.support.proxy import CaProxy


@pytest.fixture(scope="module")
def one_server() -> Iterator[HostileServer]:
    with HostileServer(PORTS[3]) as server:
        yield server


@pytest.fixture
def server(one_server: HostileServer) -> Iterator[HostileServer]:
    """One that behaves, to begin with."""
    one_server.behave()
    yield one_server
    one_server.behave()


@pytest.fixture(scope="module")
def hidden_ioc() -> Iterator[SoftIoc]:
    database = DATABASE + big_records(MANY_BIG) + lines_of_records(LINES)
    with SoftIoc(database, {"P": f"F{secrets.token_hex(4)}:"}) as ioc:
        yield ioc


@pytest.fixture
def net(hidden_ioc: SoftIoc) -> Iterator[Net]:
    with (
        CaProxy(PORTS[1], hidden_ioc.port, passes=lambda name: not is_direct(name)) as proxy,
        CaProxy(PORTS[2], hidden_ioc.port, passes=is_direct),
    ):
        yield Net(hidden_ioc, proxy, str(hidden_ioc.macros["P"]))


@pytest.fixture
def ended() -> Iterator[list[subprocess.Popen[str]]]:
    """Programs that are ended after the test."""
    programs: list[subprocess.Popen[str]] = []
    yield programs
    for each in programs:
        each.kill()
        each.communicate()
