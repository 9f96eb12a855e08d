"""aioca in IPython."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.support.contract import run_python

UNIT = True

# Runs each cell as if it had been typed, and prints its value.
IPYTHON = """
import sys
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
for cell in sys.argv[1].split("----\\n"):
    result = shell.run_cell(cell)
    result.raise_error()
    if result.result is not None:
        print("->", repr(result.result))
"""


def in_ipython(cells: str, tmp_path: Path) -> tuple[list[str], str]:
    """Run cells (separated by lines of dashes); return their values and the text on stderr."""
    pytest.importorskip("IPython", reason="IPython is an extra, for these tests")
    done = run_python(IPYTHON, textwrap.dedent(cells), environment={"IPYTHONDIR": str(tmp_path)})
    assert done.returncode == 0, done.stdout + done.stderr
    results = [line[3:] for line in done.stdout.splitlines() if line.startswith("-> ")]
    return results, done.stderr


def test_ipython_awaits_with_asyncio(p: str, tmp_path: Path) -> None:
    results, errors = in_ipython(
        f"""
        from aioca import *
        ----
        await caget("{p}ai")
        ----
        await caget(["{p}ai", "{p}longout"])
        ----
        (await caput("{p}ao:a", 3, wait=True)).ok
        ----
        await caget("{p}ao:a", format=FORMAT_CTRL)
        ----
        [info.name.removeprefix("{p}") for info in get_channel_infos()]
        """,
        tmp_path,
    )
    # One loop runs all cells, so the channels remain
    assert results == ["1.5", "[1.5, 42]", "True", "3.0", "['ai', 'longout', 'ao:a']"]
    assert errors == ""


def test_a_monitor_survives_between_cells(p: str, tmp_path: Path) -> None:
    """It delivers while a cell runs the loop, until a cell without a loop closes it."""
    results, errors = in_ipython(
        f"""
        import asyncio
        from aioca import *
        await caput("{p}ao:b", 0, wait=True)
        seen = []
        news = asyncio.Event()
        def callback(value):
            seen.append(value)
            news.set()
        subscription = camonitor("{p}ao:b", callback, all_updates=True)
        await asyncio.wait_for(news.wait(), 10)
        seen
        ----
        subscription
        ----
        news.clear()
        await caput("{p}ao:b", 1, wait=True)
        await asyncio.wait_for(news.wait(), 10)
        seen
        ----
        subscription.close()
        subscription.state == Subscription.CLOSED
        ----
        await caput("{p}ao:b", 2, wait=True)
        await caget("{p}ao:b")
        seen
        """,
        tmp_path,
    )
    assert results == [
        "[0.0]",
        f"<Subscription '{p}ao:b' open>",
        "[0.0, 1.0]",
        "True",
        "[0.0, 1.0]",
    ]
    assert errors == ""


def test_ipython_awaits_with_trio(p: str, tmp_path: Path) -> None:
    """With trio each cell is a separate run: nothing remains for the next cell."""
    results, errors = in_ipython(
        f"""
        %autoawait trio
        ----
        from aioca import *
        ----
        await caget("{p}ai")
        ----
        (await caput("{p}ao:c", 5, wait=True)).ok
        ----
        await caget("{p}ao:c", format=FORMAT_TIME)
        ----
        async with camonitor("{p}ao:c") as updates:
            async for value in updates:
                break
        value
        ----
        get_channel_infos()
        """,
        tmp_path,
    )
    assert results == ["1.5", "True", "5.0", "5.0", "[]"]
    assert errors == ""


def test_ipython_with_asyncio_and_then_with_trio(p: str, tmp_path: Path) -> None:
    results, errors = in_ipython(
        f"""
        from aioca import *
        await caget("{p}ai")
        ----
        %autoawait trio
        ----
        await caget("{p}ai")
        ----
        %autoawait asyncio
        ----
        await caget("{p}ai")
        """,
        tmp_path,
    )
    assert results == ["1.5"] * 3
    assert errors == ""
