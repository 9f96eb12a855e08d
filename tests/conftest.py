"""Fixtures for all tests: soft IOCs, the backends, and the check that nothing is left behind.

libca reads the addresses to search once in a process. So the ports of all IOCs are chosen here,
before libca is used: `PORTS[0]` is for the shared IOC, the others are for tests that kill, pause or
restart an IOC of their own (fixture `own_ioc`).
"""

from __future__ import annotations

import gc
import logging
import os
import random
import re
import secrets
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn
from zlib import crc32

import pytest

from aioca import get_channel_infos, purge_channel_caches
from aioca._ca import tokens
from aioca._channels import context as _context
from aioca.testing import SoftIoc, loopback_environment
from aioca.testing._ports import is_free

HERE = Path(__file__).parent


def _ports(count: int) -> list[int]:
    """Free ports, outside of the ranges of `free_port` and of client sockets.

    Each test process has a range of its own.
    """
    worker = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "gw0")))
    first = 10_000 + 1_000 * worker % 10_000
    some = range(first, first + 1_000)
    ports: list[int] = []
    while len(ports) < count:
        port = random.choice(some)
        if port not in ports and is_free(port):
            ports.append(port)
    return ports


def _hold(port: int) -> socket.socket | None:
    """Bind a UDP port of loopback; None if it is in use."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        sock.close()
        return None
    return sock


# If the repeater's port is free, libca starts the program caRepeater, if it is installed. That
# program would outlive the tests, and might keep their pipes open.
_REPEATER = _hold(5065)


def pytest_unconfigure() -> None:
    if _REPEATER is not None:
        _REPEATER.close()


PORTS = _ports(6)
IOC_FIXTURES = {"ioc", "own_ioc"}
for _name in [name for name in os.environ if name.startswith("EPICS_CA")]:
    del os.environ[_name]
os.environ.update(loopback_environment(PORTS))


def shown(parameter: object) -> str:
    """The id of a parameter; it must be the same in each process that collects the tests."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(parameter))


ASYNCIO = pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio")
UVLOOP = pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop")
TRIO = pytest.param(("trio", {}), id="trio")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every async test once for each backend, through the fixture that anyio's plugin uses.

    Modules with ``WITH_UVLOOP`` run on uvloop too: their tests are about entering and leaving the
    event loop. uvloop makes no difference to reading and writing values.
    """
    chosen = any(
        "anyio_backend" in m.args[0] for m in metafunc.definition.iter_markers("parametrize")
    )
    if "anyio_backend" in metafunc.fixturenames and not chosen:
        backends = [ASYNCIO, TRIO]
        if getattr(metafunc.module, "WITH_UVLOOP", False) and sys.platform != "win32":
            backends.insert(1, UVLOOP)
        metafunc.parametrize("anyio_backend", backends, indirect=True)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks
def pytest_cmdline_main(config: pytest.Config) -> None:
    """``pytest -m unit`` needs no other processes: they would take longer than they would save."""
    explicit = any(arg.startswith(("-n", "--num")) for arg in config.invocation_params.args)
    if config.option.markexpr == "unit" and not explicit:
        config.option.numprocesses = 0


@pytest.hookimpl(tryfirst=True)  # before pytest selects tests by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that are ``soak`` or ``unit``.

    A test of the command line runs with one backend, chosen by its name. With the other backend it
    is a soak test: each starts processes, which takes half a second. The differences between the
    backends are tested without processes.
    """
    for item in items:
        if isinstance(item, pytest.Function) and HERE / "cli" in item.path.parents:
            other = ["asyncio", "trio"][crc32(item.originalname.encode()) % 2]
            if hasattr(item, "callspec") and item.callspec.params.get("backend") == other:
                item.add_marker(pytest.mark.soak)
        if _is_unit(item):
            item.add_marker(pytest.mark.unit)


def _is_unit(item: pytest.Item) -> bool:
    """True for a test without an IOC in ``tests/unit``, or in a module with ``UNIT = True``.

    A test with one of `IOC_FIXTURES`, even through another fixture, needs an IOC. A test that
    starts an IOC or another process in another way says so with the mark ``process``.
    """
    return (
        isinstance(item, pytest.Function)
        and (HERE / "unit" in item.path.parents or getattr(item.module, "UNIT", False))
        and not IOC_FIXTURES & set(item.fixturenames)
        and item.get_closest_marker("process") is None
    )


def _refuse(*args: object, **options: object) -> NoReturn:
    raise AssertionError("a unit test starts no process and uses no network: mark it `process`")


@contextmanager
def _alone_if_unit(item: pytest.Item) -> Iterator[None]:
    """Have a test that is marked ``unit`` fail when it starts a process or uses a socket of Python.

    The sockets of libca are not seen here.
    """
    with pytest.MonkeyPatch.context() as patch:
        if item.get_closest_marker("unit"):
            assert not IOC_FIXTURES & set(getattr(item, "fixturenames", ()))
            patch.setattr(subprocess.Popen, "__init__", _refuse)
            patch.setattr(socket.socket, "connect", _refuse)
            patch.setattr(socket.socket, "bind", _refuse)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    with _alone_if_unit(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    with _alone_if_unit(item):
        return (yield)


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    """Replaces the fixture of anyio's plugin, which has its own list of backends."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    """For tests that start their event loops themselves."""
    return request.param  # type: ignore[no-any-return]


# If a script has started the tests in the background, they and their child processes ignore SIGINT.
# Then the processes that a test interrupts would not end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# -- IOCs ------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def ioc() -> Iterator[SoftIoc]:
    """The IOC that all tests share. A test must not stop it, and must restore its records."""
    prefix = f"T{secrets.token_hex(3)}:"
    with SoftIoc(
        HERE / "records.db", {"P": prefix}, port=PORTS[0], access_security=HERE / "records.acf"
    ) as soft_ioc:
        yield soft_ioc


@pytest.fixture(scope="session")
def p(ioc: SoftIoc) -> str:
    """The prefix of the records of the shared IOC."""
    return str(ioc.macros["P"])


@pytest.fixture
def own_ioc() -> Iterator[Callable[..., SoftIoc]]:
    """Make IOCs for one test, not yet started: ``own_ioc(database, macros)``."""
    made: list[SoftIoc] = []

    def make(database: str | Path, macros: dict[str, object] | None = None) -> SoftIoc:
        soft_ioc = SoftIoc(database, macros, port=PORTS[1 + len(made)])
        made.append(soft_ioc)
        return soft_ioc

    yield make
    for soft_ioc in made:
        soft_ioc.kill()


@pytest.fixture
def unique() -> str:
    """A prefix that no other test uses.

    libca would search less and less often for a PV of an IOC that was killed a moment ago.
    """
    return f"U{secrets.token_hex(4)}:"


# -- Programs --------------------------------------------------------------------------------------


def environment_for(ports: int | list[int]) -> dict[str, str]:
    """The environment for a program that searches these ports, unlike this process."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("EPICS_CA")}
    return {**inherited, **loopback_environment(ports)}


@contextmanager
def programs(port: int, *options: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start programs that find the IOC at a port: ``start(text, *arguments)``; kill them at exit.

    Args:
        options: for Python itself.
    """
    started: list[subprocess.Popen[str]] = []

    def start(text: str, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *options, "-u", "-c", textwrap.dedent(text), *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment_for(port),
            start_new_session=True,  # so that its own child processes can be killed too
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()  # closes its pipes


# -- Nothing left behind ---------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def nothing_left_behind(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check after each test: no token, channel, context or thread is left; no job failed."""
    threads = set(threading.enumerate())
    yield
    for record in caplog.get_records("call"):
        assert "please report this" not in record.getMessage(), record.exc_text
    left = _left(threads)
    give_up = time.monotonic() + 10.0
    while left and time.monotonic() < give_up:
        # A put whose caller was cancelled remains until the server has completed it.
        time.sleep(0.02)
        gc.collect()
        left = _left(threads)
    if left:
        purge_channel_caches()  # so that later tests do not fail too
    assert not left


def _left(threads: set[threading.Thread]) -> list[str]:
    left = [f"channel {info}" for info in get_channel_infos()]
    left += [f"context {context}" for context in _context.all_contexts()]
    # trio keeps its worker threads for a while, and starts some for its own use
    left += [
        f"thread {thread}"
        for thread in set(threading.enumerate()) - threads
        if not thread.name.startswith("Trio thread")
    ]
    if tokens.token_count():
        left.append(f"{tokens.token_count()} tokens: {list(tokens.owners.values())}")
    return left


@pytest.fixture(autouse=True, scope="session")
def log_everything() -> None:
    logging.getLogger("aioca").setLevel(logging.DEBUG)
