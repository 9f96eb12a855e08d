"""The public tests of programs that use aioca, run with aioca 2.1 and with this package.

    python -m tests.long.compatibility.downstream                  all of them
    python -m tests.long.compatibility.downstream --only coniql,fastcs
    python -m tests.long.compatibility.downstream --folder DIR     keep environments and results

For each program it makes an environment, installs the program, what its tests need and aioca 2.1
from the package index, takes the tests from the program's source distribution and runs those that
are about Channel Access; then it installs this package in place of aioca 2.1 and runs them again.
Nothing of these programs is part of this package. All traffic is on 127.0.0.1.

It prints a table, and the tests that end otherwise than with aioca 2.1; the exit status is 1 if one
that passes with aioca 2.1 does not pass here, and is not in ``downstream_programs.EXPECTED``, or if
no test of a program passes with aioca 2.1: then they were not really run.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from tests.long.compatibility.downstream_programs import EXPECTED, PROGRAMS, Program

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
REFERENCE = "aioca==2.1"
MAX_SECONDS = 7200  # for the tests of one program: those of atip simulate an accelerator


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.long.compatibility.downstream",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", help="programs, with commas: " + ", ".join(PROGRAMS))
    parser.add_argument("--folder", type=Path, help="where to keep environments and results")
    parser.add_argument(
        "--checkout", action="append", default=[], metavar="PROGRAM=DIR",
        help="take the tests of a program from there: its source distribution may not have all",
    )  # fmt: skip
    options = parser.parse_args()
    checkouts = {name: Path(path) for name, path in (c.split("=", 1) for c in options.checkout)}
    names = options.only.split(",") if options.only else list(PROGRAMS)
    reports = []
    with _folder(options.folder) as folder:
        for name in names:
            reports.append(_try(name, PROGRAMS[name], folder / name, checkouts.get(name)))
    print(f"\n{'program':28} {'tests':>5}   {'with aioca 2.1':34} with this package")
    for report in reports:
        print(report.line())
    for report in reports:
        report.details()
    return 1 if any(report.regressions() or not report.was_run() for report in reports) else 0


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="aioca-downstream-") as folder:
            yield Path(folder)


Outcomes = dict[str, tuple[str, str]]  # test -> passed, failed, skipped; and its message


class Report(NamedTuple):
    """How the tests of one program have ended, with each of the two."""

    name: str
    version: str
    reference: Outcomes
    ours: Outcomes

    def line(self) -> str:
        counts = [_counted(outcomes) for outcomes in (self.reference, self.ours)]
        tests = len({*self.reference, *self.ours})
        return f"{self.name + ' ' + self.version:28} {tests:5}   {counts[0]:34} {counts[1]}"

    def was_run(self) -> bool:
        """Whether the tests could be run: some pass with aioca 2.1."""
        return any(kind == "passed" for kind, _ in self.reference.values())

    def regressions(self) -> list[str]:
        """What passes with aioca 2.1 only, and is not expected to."""
        return [test for test in self._lost() if not self._reason(test)]

    def _lost(self) -> list[str]:
        passed = [test for test, (kind, _) in self.reference.items() if kind == "passed"]
        return [test for test in passed if self.ours.get(test, ("missing", ""))[0] != "passed"]

    def _reason(self, test: str) -> str:
        for pattern, reason in EXPECTED.get(self.name, {}).items():
            if fnmatch.fnmatchcase(test, pattern):
                return reason
        return ""

    def details(self) -> None:
        if not self.was_run():
            _, message = next(iter(self.reference.values()), ("", "no test was found"))
            print(f"\n-- {self.name}: no test passes with aioca 2.1:\n{message}")
        for test in self._lost():
            kind, message = self.ours.get(test, ("missing", ""))
            print(f"\n-- {self.name}: {test}: passes with aioca 2.1, here: {kind}")
            print(f"   {self._reason(test)}" if self._reason(test) else message)
        for test, (kind, message) in self.reference.items():
            if kind == "failed" and self.ours.get(test, ("", ""))[0] == "passed":
                print(f"\n-- {self.name}: {test}: passes here, with aioca 2.1: {kind}: "
                      f"{message.splitlines()[0] if message else ''}")  # fmt: skip


def _counted(outcomes: Outcomes) -> str:
    counts = Counter(kind for kind, _ in outcomes.values())
    return ", ".join(f"{counts[kind]} {kind}" for kind in ("passed", "failed", "skipped"))


def _try(name: str, program: Program, folder: Path, source: Path | None) -> Report:
    folder.mkdir(exist_ok=True)
    environment = folder / "environment"
    python = environment / "bin" / "python"
    if not (folder / "installed").exists():
        _say(f"{name}: making its environment")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
        requirement = [] if name == "aioca" else [f"{name}{program.extras}=={program.version}"]
        common = [REFERENCE, "pytest", "pytest-timeout"]
        _pip(python, "install", *requirement, *common, *program.needs)
        _pip(python, "download", "--no-deps", "--no-binary", name, "--dest", str(folder),
             f"{name}=={program.version}")  # fmt: skip
        (archive,) = folder.glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(
                folder / "source", **({"filter": "data"} if hasattr(tarfile, "data_filter") else {})
            )
        (folder / "installed").touch()
    if source is None:
        (source,) = (folder / "source").iterdir()
    found = []
    for which, what in (("aioca 2.1", [REFERENCE]), ("this package", [str(ROOT)])):
        _pip(python, "uninstall", "--yes", "aioca")
        _pip(python, "install", *what)
        _say(f"{name}: running its tests with {which}")
        found.append(_run(program, python, source, folder / f"{which.replace(' ', '-')}.xml"))
    (folder / "outcomes.json").write_text(json.dumps(found, indent=1))
    return Report(name, program.version, *found)


def _pip(python: Path, *arguments: str) -> None:
    pip = [str(python), "-m", "pip", "--quiet", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"pip {' '.join(arguments)}:\n{done.stdout}{done.stderr}")


def _run(program: Program, python: Path, source: Path, file: Path) -> Outcomes:
    file.unlink(missing_ok=True)
    tests = [test for test in program.tests if test.startswith("-") or (source / test).exists()]
    with file.with_suffix(".txt").open("w") as output:
        try:
            subprocess.run(
                [str(python), "-m", "pytest", "-p", "no:cacheprovider", "--tb=short",
                 "--timeout=120", "-o", "addopts=", "-o", "junit_family=xunit2", "-ra",
                 f"--junitxml={file}", *tests],
                cwd=source, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                env=_environment(python), check=False, timeout=MAX_SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            text = f"they did not end in {MAX_SECONDS} s; their output ends with\n"
            return {"(all)": ("failed", text + file.with_suffix(".txt").read_text()[-3000:])}
    if not file.exists():
        return {"(all)": ("failed", file.with_suffix(".txt").read_text()[-3000:])}
    return dict(map(_outcome, ElementTree.parse(file).iter("testcase")))


def _environment(python: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("EPICS_", "PYTHON"))}
    # Of the programs those of the environment only: a caRepeater that is found outlives us
    kept["PATH"] = os.pathsep.join([str(python.parent), os.defpath])
    ca, repeater, pva, broadcast = (str(_free_port()) for _ in range(4))
    return {
        **kept,
        # The broadcast address of loopback: several IOCs may listen at one port
        "EPICS_CA_ADDR_LIST": "127.255.255.255", "EPICS_CA_AUTO_ADDR_LIST": "NO",
        "EPICS_CA_SERVER_PORT": ca, "EPICS_CA_REPEATER_PORT": repeater,
        "EPICS_CAS_BEACON_ADDR_LIST": "127.0.0.1", "EPICS_CAS_AUTO_BEACON_ADDR_LIST": "NO",
        "EPICS_PVA_ADDR_LIST": "127.0.0.1", "EPICS_PVA_AUTO_ADDR_LIST": "NO",
        "EPICS_PVA_SERVER_PORT": pva, "EPICS_PVA_BROADCAST_PORT": broadcast,
        "EPICS_PVAS_INTF_ADDR_LIST": "127.0.0.1",
    }  # fmt: skip


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


def _outcome(case: ElementTree.Element) -> tuple[str, tuple[str, str]]:
    test = f"{case.get('classname', '')}::{case.get('name', '')}"
    for kind in ("failure", "error", "skipped"):
        found = case.find(kind)
        if found is not None:
            text = f"{found.get('message', '')}\n{found.text or ''}"
            return test, ("skipped" if kind == "skipped" else "failed", text)
    return test, ("passed", "")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
