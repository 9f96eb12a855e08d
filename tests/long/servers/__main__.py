"""The core of this package against other servers: softIoc, caproto, pythonSoftIOC and pcaspy.

    python -m tests.long.servers                        all of them, under both backends
    python -m tests.long.servers --only caproto --backends trio
    python -m tests.long.servers --environments DIR     keep the environments for the next time

It makes an environment for each server (from the package index), runs the checks of
``core_checks.py`` against each, under each backend in a process of its own, and prints a table.
The exit status is 1 if any failed. Runs where pytest and this package are installed.
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

HERE = Path(__file__).parent
ROOT = HERE.parents[2]

# What is installed, and the program; softIoc is the one that comes with this package.
SERVERS: dict[str, tuple[list[str], str]] = {
    "softIoc": ([], ""),
    "caproto": (["caproto==1.3.0", "numpy"], "caproto_server.py"),
    "softioc": (["softioc==4.7.2"], "softioc_server.py"),
    "pcaspy": (["pcaspy==0.8.1", "numpy"], "pcaspy_server.py"),
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
    parser.add_argument("--json", type=Path, help="write the outcomes to this file, too")
    options = parser.parse_args()
    servers = (options.only or ",".join(SERVERS)).split(",")
    backends = (options.backends or ",".join(BACKENDS)).split(",")
    outcomes: list[Outcome] = []
    with _folder(options.environments) as folder:
        for server in servers:
            python = shutil.which(PYTHONS.get(server, sys.executable))
            if python is None:
                outcomes.append(Outcome(server, "", "(all)", f"skipped: no {PYTHONS[server]}"))
                continue
            command = _prepare(server, python, folder)
            for backend in backends:
                _say(f"{server} under {backend}")
                outcomes += _run(server, command, backend, options.checks, folder)
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


def _prepare(server: str, own_python: str, folder: Path) -> list[str]:
    """The command that starts a server, less its prefix."""
    packages, program = SERVERS[server]
    if not program:
        return []
    environment = folder / server
    python, installed = environment / "bin" / "python", environment / "installed"
    if not installed.exists():
        _say(f"making the environment of {server}")
        subprocess.run([own_python, "-m", "venv", "--clear", str(environment)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *packages], check=True)
        installed.touch()
    return [str(python), "-u", str(HERE / program)]


def _run(
    server: str, command: list[str], backend: str, only: str | None, folder: Path
) -> list[Outcome]:
    """Run the checks against one server under one backend."""
    file = folder / f"{server}-{backend}.xml"
    file.unlink(missing_ok=True)
    chosen = f"{backend} and ({only})" if only else backend
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={file}",
         "-k", chosen, str(HERE / "core_checks.py")],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        env={**os.environ, "AIOCA_SERVER": server, "AIOCA_SERVER_COMMAND": json.dumps(command)},
    )  # fmt: skip
    if not file.exists():
        text = (
            f"pytest has ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
        return [Outcome(server, backend, "(all)", text)]
    outcomes = [
        _outcome(server, backend, case) for case in ElementTree.parse(file).iter("testcase")
    ]
    return outcomes or [Outcome(server, backend, "(all)", "no check was run")]


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
