"""``docs/reference/servers.md`` names servers, versions and tests that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.long.servers.__main__ import CORELIBS, SERVERS

UNIT = True

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "servers.md").read_text("utf-8")
# Where the tests are that the page names
FILES = [
    *(ROOT / "tests" / "long" / "servers").glob("*_checks.py"),
    *(ROOT / "tests" / "contract").glob("test_what_servers_*.py"),
    ROOT / "tests" / "monitors" / "test_filters.py",
]


def known_tests() -> set[str]:
    """The names of all tests in these files, without ``test_``."""
    return {name for file in FILES for name in re.findall(r"def test_(\w+)\(", file.read_text())}


def rows() -> Iterator[tuple[str, str]]:
    """Each row of a table whose last column is for tests, with its last cell."""
    last_column = ""
    for line in PAGE.splitlines():
        cells = re.split(r"(?<!\\)\|", line)[1:-1]
        if not cells:
            last_column = ""
        elif not last_column:
            last_column = cells[-1].strip()
        elif last_column in ("check", "test") and not set(line) <= {"|", "-", " "}:
            yield line, cells[-1].strip()


def test_each_row_names_a_test() -> None:
    """One that exists; a row of a further server has that of the row above it."""
    known, found = known_tests(), list(rows())
    assert len(found) > 50
    for row, cell in found:
        names = re.findall(r"`(\w+)`", cell)
        assert names or row.startswith("| |"), row
        assert set(names) <= known, row


def test_each_test_named_in_the_text_exists() -> None:
    names = re.findall(r"\(`([a-z_0-9]+_[a-z_0-9]+)`\)", PAGE)
    assert names and set(names) <= known_tests()


@pytest.mark.parametrize("server", SERVERS)
def test_each_server_is_in_the_first_table(server: str) -> None:
    """With the version that is installed, and the command that runs its checks."""
    packages = SERVERS[server][0] or ([CORELIBS] if server == "softIoc" else [])
    (row,) = [line for line in PAGE.splitlines() if f"tests.long.servers --only {server}" in line
              and line.startswith("|")]  # fmt: skip
    for version in (package.partition("==")[2] for package in packages if "==" in package):
        assert version in row
