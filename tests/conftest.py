"""Fixtures for all tests: soft IOCs, the backends, and the check that nothing is left behind."""

from __future__ import annotations

import gc
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn
from zlib import crc32

import pytest

from aioca import purge_channel_caches
from aioca.testing import SoftIoc
from tests.support import iocs
from tests.support.distribution import Distribution, begins
from tests.support.fake_ca import FakeCA
from tests.support.forks import Fork
from tests.support.iocs import PORTS
from tests.support.leaks import looking_for_leaks

HERE = Path(__file__).parent


# If the repeater's port is free, libca starts the program caRepeater, if it is installed. That
# program would outlive the tests, and might keep their pipes open.
_REPEATER = iocs.hold(5065)
iocs.search_at_these_ports()

# Else each process that a test starts would compile all of aioca, which takes 0.1 s of CPU.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

IOC_FIXTURES = {"ioc", "own_ioc"}


def pytest_unconfigure() -> None:
    if _REPEATER is not None:
        _REPEATER.close()


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
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=begins)


def pytest_collection_finish() -> None:
    """Spare the tests' own collections of garbage all that pytest has collected: 0.1 s for each."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # hypothesis, if it is imported only now, looks for referrers


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Distribution | None:
    return Distribution(config, log) if config.getoption("dist") == "loadfile" else None


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
            patch.setattr(Fork, "__init__", _refuse)
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
        iocs.RECORDS, {"P": prefix}, port=PORTS[0], access_security=iocs.ACCESS_SECURITY
    ) as soft_ioc:
        _shared.append(soft_ioc)
        yield soft_ioc
        _shared.clear()


_shared: list[SoftIoc] = []  # the IOC of `ioc`, while it runs


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Have the test fail during which the shared IOC ended, not only those after it."""
    result = yield
    for soft_ioc in _shared:
        process = soft_ioc._process  # the public one is None when it has ended
        if process is not None and (status := process.poll()) is not None:
            _shared.clear()
            pytest.fail(f"{soft_ioc!r}, which all tests share, has ended with status {status}")
    return result


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
def fake_ca(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCA]:
    """A fake libca, see `FakeCA`; at the end nothing may be left in it."""
    fake = FakeCA(monkeypatch)
    yield fake
    assert fake.errors == []
    assert fake.left() == []


@pytest.fixture
def unique() -> str:
    """A prefix that no other test uses.

    libca would search less and less often for a PV of an IOC that was killed a moment ago.
    """
    return f"U{secrets.token_hex(4)}:"


# -- Nothing left behind ---------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def nothing_left_behind(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check after each test: no token, channel, context or thread is left; no job failed.

    Nothing is left either in the stores of the contexts that the test has made.
    """
    with looking_for_leaks() as leaks:
        yield
    for record in caplog.get_records("call"):
        assert "please report this" not in record.getMessage(), record.exc_text
    left = leaks.left()
    give_up = time.monotonic() + 10.0
    while left and time.monotonic() < give_up:
        # A put whose caller was cancelled remains until the server has completed it.
        time.sleep(0.02)
        gc.collect()
        left = leaks.left()
    if left:
        purge_channel_caches()  # so that later tests do not fail too
    assert not left


@pytest.fixture(autouse=True, scope="session")
def log_everything() -> None:
    logging.getLogger("aioca").setLevel(logging.DEBUG)
