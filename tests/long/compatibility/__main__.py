"""The same calls with aioca 2.1 and with this package, against one soft IOC, compared.

    python -m tests.long.compatibility                       everything
    python -m tests.long.compatibility --environment DIR     keep the environment for the next time

It makes an environment with aioca 2.1 (from the package index) and runs there the cases of
``cases.py`` and ``more_cases.py``: with aioca 2.1, and with this package, on the same Python, numpy
and epicscorelibs. Then it compares types, values, attributes and exceptions, and prints
how many cases were run, are equal, and differ on purpose (``differences.py`` says how). The exit
status is 1 if any differs otherwise, or a reason explains nothing any more.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aioca.testing import SoftIoc, loopback_environment
from tests.long.compatibility.differences import EXPLANATIONS, differences
from tests.long.compatibility.programs import PROGRAMS

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
SUPPORT = ROOT / "tests" / "support"
REFERENCE = "aioca==2.1"
PREFIX = "COMPATIBILITY:"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.long.compatibility",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--environment", type=Path, help="where to keep the environment")
    parser.add_argument("--json", type=Path, help="write the outcomes to this file, too")
    options = parser.parse_args()
    with _folder(options.environment) as folder:
        python = _prepare(folder)
        stale = _stale_facts(python)
        old, new = _outcomes(python, folder)
    if options.json:
        options.json.write_text(json.dumps({"aioca 2.1": old, "here": new}, indent=1))
    return _report(old, new) or stale


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="aioca-compatibility-") as folder:
            yield Path(folder)


def _prepare(folder: Path) -> Path:
    """The Python of the environment; it has what this package needs, too."""
    python = folder / "environment" / "bin" / "python"
    if not (folder / "installed").exists():
        _say("making an environment with aioca 2.1")
        subprocess.run(
            [sys.executable, "-m", "venv", "--clear", str(python.parents[1])], check=True
        )
        pip = [str(python), "-m", "pip", "-qq", "--disable-pip-version-check", "install"]
        subprocess.run([*pip, REFERENCE, "anyio", "setuptools<81"], check=True)
        (folder / "installed").touch()
    return python


def _stale_facts(python: Path) -> int:
    """1 if the table of public names is not what aioca 2.1 says."""
    done = subprocess.run(
        [str(python), str(HERE / "facts.py")], capture_output=True, text=True, check=True,
        env=_environment(0, reference=True),
    )  # fmt: skip
    if json.loads(done.stdout) == json.loads((HERE / "aioca-2.1.json").read_text()):
        return 0
    print("aioca-2.1.json is not what facts.py prints for aioca 2.1")
    return 1


def _environment(port: int, *, reference: bool) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("EPICS_", "PYTHON"))}
    kept["PATH"] = os.defpath  # where no caRepeater is found, which would outlive us
    path = [ROOT] if reference else [ROOT / "src", ROOT]
    return {
        **kept, **loopback_environment(port), "PYTHONPATH": os.pathsep.join(map(str, path)),
        "PYTHONWARNINGS": "ignore",
    }  # fmt: skip


Outcomes = dict[str, Any]


def _outcomes(python: Path, folder: Path) -> tuple[Outcomes, Outcomes]:
    found: tuple[Outcomes, Outcomes] = ({}, {})
    macros = {"P": PREFIX}
    with SoftIoc(SUPPORT / "records.db", macros, access_security=SUPPORT / "records.acf") as ioc:
        for restart in ([], ["restart"]):
            for number, which in enumerate(("aioca 2.1", "this package")):
                _say(f"running {'the last case' if restart else 'the cases'} with {which}")
                environment = _environment(ioc.port, reference=number == 0)
                file = folder / "outcomes.json"
                _run([str(python), "-m", "tests.long.compatibility.runner", PREFIX, str(file),
                      *restart],
                     environment, ioc, folder / f"{which}.txt")  # fmt: skip
                found[number].update(json.loads(file.read_text()))
                if not restart:
                    found[number].update(_programs(python, environment))
    return found


def _run(command: list[str], environment: dict[str, str], ioc: SoftIoc, log: Path) -> None:
    """Run the runner, and do with the IOC what it asks for."""
    with log.open("a") as errors, subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
        text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        for order in process.stdout:
            {"kill": ioc.kill, "start": ioc.start}[order.strip()]()
            process.stdin.write("\n")
            process.stdin.flush()
        if process.wait():
            raise SystemExit(f"{command} has failed:\n{log.read_text()[-3000:]}")


def _programs(python: Path, environment: dict[str, str]) -> Outcomes:
    found = {}
    for name, text in PROGRAMS.items():
        done = subprocess.run(
            [str(python), "-c", text, PREFIX], env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        found[f"program: {name}"] = {
            "type": "program", "status": str(done.returncode), "output": done.stdout,
        }  # fmt: skip
    return found


def _report(old: Outcomes, new: Outcomes) -> int:
    assert list(old) == list(new), "the cases were not the same"
    reasons: Counter[str] = Counter()
    equal, unexpected = 0, 0
    for case, before in old.items():
        found = list(differences(case, before, new[case]))
        reasons.update({reason for _, reason in found if reason})
        equal += not found
        for place, reason in found:
            if not reason:
                print(f"\n-- {case} {place}\n   aioca 2.1: {before}\n   here:      {new[case]}")
        unexpected += any(not reason for _, reason in found)
    print()
    for reason, count in reasons.most_common():
        print(f"{count:6}  {reason}")
    idle = set(EXPLANATIONS) - set(reasons)
    for reason in idle:
        print(f"        {reason}: explains nothing any more")
    print(f"\n{len(old)} cases: {equal} equal, {len(old) - equal - unexpected} differ on purpose,"
          f" {unexpected} otherwise")  # fmt: skip
    return 1 if unexpected or idle else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
