"""A pytest plugin: soft IOCs for tests, and Channel Access that stays on this machine.

The plugin is not loaded automatically. Load it in the ``conftest.py`` at the root of the tests::

    pytest_plugins = ["aioca.testing.pytest_plugin"]

or with ``-p aioca.testing.pytest_plugin`` in ``addopts``. Then neither this process nor a process
that it starts searches for a PV outside of 127.0.0.1, whatever the environment was. Fixtures:
`soft_ioc` is a soft IOC for one test; `soft_ioc_factory` is for fixtures of any scope.

The fixtures are synchronous and use no event loop, so they work with any runner of async tests.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from .._ca import libca
from .._ca.context import before_first_use, context_exists
from ._ports import Loopback
from ._soft_ioc import SoftIoc

__all__ = ["SoftIocFactory", "soft_ioc", "soft_ioc_factory"]

_LOOPBACK: pytest.StashKey[Loopback] = pytest.StashKey()
_MARKER = (
    "soft_ioc(database, macros=None, **options): what the IOC of the fixture soft_ioc has: the text"
    " of a database, or the Path of a file (relative to that of the test); options of SoftIoc"
)


# -- Off the network -------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the settings for the ini file."""
    parser.addini("aioca_soft_iocs", "How many soft IOCs can run at a time", default="10")
    parser.addini(
        "aioca_addr_list",
        "Further servers to search, on this machine: 127.0.0.1 or 127.0.0.1:PORT",
        type="args",
        default=[],
    )


def pytest_configure(config: pytest.Config) -> None:
    """Confine Channel Access to this machine, before a test can use it.

    Raises:
        pytest.UsageError: libca has read its settings already, or a setting is invalid.
    """
    config.addinivalue_line("markers", _MARKER)
    user = _user_of_libca()
    if user is not None:
        raise pytest.UsageError(
            f"aioca.testing.pytest_plugin: {user} has used Channel Access already, and libca does"
            " not look at its environment again: tests could reach real IOCs. Nothing may read or"
            " write a PV while conftest.py and plugins are imported."
        )
    try:
        loopback = Loopback(int(config.getini("aioca_soft_iocs")), config.getini("aioca_addr_list"))
    except ValueError as error:
        raise pytest.UsageError(f"aioca.testing.pytest_plugin: {error}") from error
    loopback.confine()
    before_first_use.append(loopback.check)
    config.add_cleanup(lambda: before_first_use.remove(loopback.check))
    config.add_cleanup(loopback.close)
    config.stash[_LOOPBACK] = loopback


def pytest_report_header() -> str:
    """The line for the header of the test run."""
    return "aioca: Channel Access is confined to 127.0.0.1"


def _user_of_libca() -> str | None:
    """The client that has made libca read its environment; None if none is known."""
    if context_exists():
        return "aioca"
    if getattr(sys.modules.get("epics.ca"), "libca", None) is not None:
        return "pyepics"  # pyepics may have its own libca
    if libca.current_context():
        return "another client"
    return None


# -- Soft IOCs -------------------------------------------------------------------------------------


class _PooledIoc(SoftIoc):
    """A soft IOC whose port is used again after the end of its block or test."""

    def __init__(self, loopback: Loopback, port: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, port=port, **kwargs)
        self._loopback: Loopback | None = loopback

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, traceback)
        self.let_go()

    def start(
        self, database: str | Path | None = None, macros: Mapping[str, object] | None = None
    ) -> None:
        if self._loopback is None:
            raise RuntimeError("its block or test has ended, and its port is for others now")
        super().start(database, macros)

    @property
    def in_use(self) -> bool:
        return self._loopback is not None

    def let_go(self) -> None:
        """End the IOC and return its port. It cannot be started again. Idempotent."""
        self.kill()
        loopback, self._loopback = self._loopback, None
        if loopback is not None:
            loopback.release(self.port)


class SoftIocFactory:
    """Makes soft IOCs on the ports that this process searches; the fixture `soft_ioc_factory`."""

    def __init__(self, loopback: Loopback) -> None:
        self._loopback = loopback
        self._made: list[_PooledIoc] = []

    def __call__(
        self,
        database: str | Path = "",
        macros: Mapping[str, object] | None = None,
        *,
        access_security: Path | None = None,
        timeout: float = 30.0,
        environment: Mapping[str, str] | None = None,
    ) -> _PooledIoc:
        """Make a soft IOC, not yet started: a ``with`` block starts and ends it.

        Args:
            database: as for `SoftIoc`.
            macros: as for `SoftIoc`. The default of the macro ``P`` (see `SoftIoc.prefix`) is a
                unique prefix.
            access_security: as for `SoftIoc`.
            timeout: as for `SoftIoc`.
            environment: as for `SoftIoc`.

        Raises:
            RuntimeError: each port that is searched has an IOC.
        """
        self._made = [ioc for ioc in self._made if ioc.in_use]
        port = self._loopback.take()
        if port is None:
            raise RuntimeError(
                f"there are {len(self._made)} soft IOCs already; use them in a with block, which"
                " ends them, or set aioca_soft_iocs in pytest's ini file to a higher number"
            )
        ioc = _PooledIoc(
            self._loopback, port, database, {"P": f"T{secrets.token_hex(3)}:", **(macros or {})},
            access_security=access_security, timeout=timeout, environment=environment,
        )  # fmt: skip
        self._made.append(ioc)
        return ioc

    def close(self) -> None:
        """End all soft IOCs of this factory."""
        for ioc in self._made:
            ioc.let_go()


@pytest.fixture(scope="session")
def soft_ioc_factory(pytestconfig: pytest.Config) -> Iterator[SoftIocFactory]:
    """Make soft IOCs, for fixtures that share one and for tests with several.

    ``with soft_ioc_factory(database, macros) as ioc: yield ioc``.
    """
    factory = SoftIocFactory(pytestconfig.stash[_LOOPBACK])
    yield factory
    factory.close()


@pytest.fixture
def soft_ioc(request: pytest.FixtureRequest, soft_ioc_factory: SoftIocFactory) -> Iterator[SoftIoc]:
    """A soft IOC for this test, a `SoftIoc`: ``start stop kill pause resume restart command``.

    It is running, with the database of the marker ``@pytest.mark.soft_ioc(database, macros)``. The
    test, its class or its module has the marker. Without one, the test calls ``start(database)``.
    """
    marker = request.node.get_closest_marker("soft_ioc")
    if marker is None:
        ioc = soft_ioc_factory()
    else:
        folder = request.path.parent

        def in_folder(argument: Any) -> Any:
            return folder / argument if isinstance(argument, Path) else argument

        options = {name: in_folder(value) for name, value in marker.kwargs.items()}
        ioc = soft_ioc_factory(*map(in_folder, marker.args), **options)
    try:
        if marker is not None:
            ioc.start()
        yield ioc
    finally:
        ioc.let_go()
