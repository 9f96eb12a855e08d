"""`tests.support.distribution`: how the tests of this project are given to workers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.distribution import SPREAD, TOGETHER

ROOT = Path(__file__).parents[2]

CONFTEST = """
from tests.support.distribution import Distribution, begins

def pytest_collection_modifyitems(items):
    items.sort(key=begins)

def pytest_xdist_make_scheduler(config, log):
    return Distribution(config, log)
"""
ONE = """
import os, pytest

@pytest.mark.parametrize("number", range(4))
def test_it(number, tmp_path_factory):
    line = f"{os.environ['PYTEST_XDIST_WORKER']} {__name__} {number}\\n"
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(line)

def test_other():
    pass
"""


def run(folder: Path, files: dict[str, str]) -> tuple[str, list[list[str]]]:
    """What pytest prints with these files, on two workers; and the notes of the tests."""
    for name, text in {"conftest.py": CONFTEST, **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    notes = folder / "notes"
    notes.touch()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    environment |= {"NOTES": str(notes), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "-c", os.devnull, "--rootdir", str(folder),
         "--import-mode=importlib", "-p", "no:cacheprovider", "tests"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    return done.stdout, [line.split() for line in notes.read_text().splitlines()]


def test_the_files_exist() -> None:
    assert len({*SPREAD, *TOGETHER}) == len([*SPREAD, *TOGETHER])
    for file in [*SPREAD, *TOGETHER]:
        assert (ROOT / "tests" / file).is_file(), file


def test_files_stay_together_and_slow_ones_begin(tmp_path: Path) -> None:
    files = ["unit/test_encode.py", TOGETHER[0], SPREAD[0]]
    out, notes = run(tmp_path, {f"tests/{name}": ONE for name in files})
    assert "15 passed" in out, out
    modules = [module.rpartition(".")[2] for _, module, _ in notes]
    slow = [Path(SPREAD[0]).stem, Path(TOGETHER[0]).stem]
    assert modules.index("test_encode") > modules.index(slow[0])
    for module in ("test_encode", slow[1]):
        assert len({worker for worker, name, _ in notes if name.endswith(module)}) == 1, notes


@pytest.mark.parametrize("place", ["first", "last"])
def test_a_worker_that_crashes(tmp_path: Path, place: str) -> None:
    """The test is named, all others run, and the run ends."""
    crash = "import os\n\ndef test_crash():\n    os._exit(3)\n"
    text = crash + ONE if place == "first" else ONE + crash
    out, notes = run(
        tmp_path,
        {"tests/test_a.py": text, **{f"tests/test_{name}.py": ONE for name in "bcdef"}},
    )
    assert "1 failed, 30 passed" in out, out
    assert "crashed while running 'tests/test_a.py::test_crash'" in out
    assert len(notes) == 24
