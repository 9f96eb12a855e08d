"""aioca in Jupyter: cells run in a real kernel, against a soft IOC.

The kernel runs the event loop of asyncio: cells use ``await``, or `aioca.blocking`.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from aioca.testing import SoftIoc
from tests.support.notebooks import execute, html_of, outputs, text_of

pytestmark = pytest.mark.skipif(
    not (find_spec("nbclient") and find_spec("ipykernel")),
    reason="nbclient or ipykernel is not installed: the extra `test`, before Python 3.15",
)

BOTH = pytest.mark.parametrize("blocking", [False, True], ids=["await", "blocking"])


def run(cells: list[str], ioc: SoftIoc, folder: Path, blocking: bool, **options: Any) -> Any:
    """Run cells written for ``await``, or the same cells with the blocking calls."""
    if blocking:
        cells = [re.sub(r"\b(?:await|async) ", "", cell) for cell in cells]
    module = "aioca.blocking" if blocking else "aioca"
    first = (
        "from aioca import FORMAT_CTRL, FORMAT_TIME\n"
        "from aioca.notebook import live, table\n"
        f"from {module} import caget, camonitor, caput"
    )
    none, *found = outputs(execute([first, *cells], ioc.port, folder, **options))
    assert none == []
    return found


def texts(html: str) -> list[str]:
    return re.findall(r">([^<>]+)<", html)


@BOTH
def test_values_and_lists(ioc: SoftIoc, p: str, tmp_path: Path, blocking: bool) -> None:
    single, plain, array, none, loaded, both, table, failed, written, unloaded = run(
        [
            f'await caget("{p}ai", format=FORMAT_CTRL)',
            f'+await caget("{p}ai")',
            f'await caget("{p}wf:DOUBLE")',
            "%load_ext aioca.notebook",
            f'await caget(["{p}ai", "{p}longout"])',
            f'both = await caget(["{p}ai", "{p}bi"], format=FORMAT_CTRL)\ntype(both) is list, both',
            "table(both)",
            f'await caget(["{p}ai", "{p}none"], timeout=0.3, throw=False)',
            f'await caput("{p}ao:a", 3, wait=True)',
            f'%unload_ext aioca.notebook\nawait caget(["{p}ai", "{p}longout"])',
        ],
        ioc, tmp_path, blocking,
    )  # fmt: skip
    assert texts(html_of(single)) == [f"{p}ai", "1.500", "mm", "no alarm"]
    assert [o["data"] for o in plain] == [{"text/plain": ["1.5"]}]
    assert "<svg" in html_of(array) and "[1.5, -2.5, 3.0]" in html_of(array)
    assert none == []
    assert texts(html_of(loaded)) == ["PV", "Value", f"{p}ai", "1.5", f"{p}longout", "42"]
    assert [o["data"]["text/plain"] for o in both] == [["(True, [1.5, 1])"]]
    assert "Open (1)" in texts(html_of(table)) and "1.500" in texts(html_of(table))
    assert "timeout" in texts(html_of(failed))
    assert texts(html_of(written)) == [f"{p}ao:a", "done"]
    assert [o["data"] for o in unloaded] == [{"text/plain": ["[1.5, 42]"]}]


@BOTH
def test_a_text_of_a_pv_is_no_html(ioc: SoftIoc, p: str, tmp_path: Path, blocking: bool) -> None:
    text = "<img src=x onerror=alert(1)>"
    *_, value = run(
        [f'pv = "{p}put:stringout"\nawait caput(pv, "{text}", wait=True)', "await caget(pv)"],
        ioc, tmp_path, blocking,
    )  # fmt: skip
    assert "<img" not in html_of(value) and "&lt;img" in html_of(value)


LIVE = """
pvs = ["{p}ai", "{p}ticks", "{p}bi", "{p}none"]
async with live(camonitor(pvs, format=FORMAT_TIME)) as updates:
    first = None
    async for value in updates:
        if value.name == "{p}ticks":
            first = value if first is None else first
            if value >= first + 15:
                break
print(int(value))
"""


@BOTH
def test_a_live_table(ioc: SoftIoc, p: str, tmp_path: Path, blocking: bool) -> None:
    """It ends with the last values; units, precision and labels come by themselves."""
    (cell,) = run([LIVE.format(p=p)], ioc, tmp_path, blocking)
    html = html_of(cell)
    last = text_of(cell).strip()
    rows = [texts(row) for row in re.findall(r"<tr.*?</tr>", html)]
    assert rows[0] == ["PV", "Value", "Units", "Alarm", "Time"]
    (ai, ticks, bi, none) = rows[1:]
    assert ai[:4] == [f"{p}ai", "1.500", "mm", "no alarm"]
    assert ticks[:2] == [f"{p}ticks", f"{last}.0"]
    assert bi[:2] == [f"{p}bi", "Open (1)"]
    assert none == [f"{p}none", "searching"]
    (note,) = re.findall(r"ended at \d\d:\d\d:\d\d: (\d+) updates", html)
    assert int(note) >= 15


@BOTH
def test_a_live_table_ends_in_time(ioc: SoftIoc, p: str, tmp_path: Path, blocking: bool) -> None:
    """Whether updates come or not."""
    loop = (
        "async with live(camonitor({!r}), seconds=1) as updates:\n    async for value in updates:"
    )
    quiet, busy, error = run(
        [
            "import time\nbegin = time.monotonic()\n" + loop.format(p + "none") + " pass\n"
            "print(time.monotonic() - begin)",
            "begin = time.monotonic()\n" + loop.format(p + "ticks") + " pass\n"
            "print(time.monotonic() - begin)",
            "try:\n    live(camonitor('X'), seconds=-1)\nexcept ValueError as error:\n"
            "    print(error)",
        ],
        ioc, tmp_path, blocking,
    )  # fmt: skip
    assert 1.0 <= float(text_of(quiet)) < 5.0 and "ended at" in html_of(quiet)
    assert 1.0 <= float(text_of(busy)) < 5.0 and "ended at" in html_of(busy)
    assert text_of(error) == "seconds must be a number above 0, not -1\n"


@BOTH
def test_the_stop_button_ends_a_live_table(
    ioc: SoftIoc, p: str, tmp_path: Path, blocking: bool
) -> None:
    """The monitor has ended, the table says so, and the next cell runs."""
    cell, after = run(
        [
            f'async with live(camonitor("{p}ticks")) as seen:\n    async for value in seen: pass',
            "from aioca import get_channel_infos\n"
            "print([info.subscriber_count for info in get_channel_infos()])",
        ],
        ioc, tmp_path, blocking, seconds=4,
    )  # fmt: skip
    assert any(output["output_type"] == "error" for output in cell)
    assert re.search(r"ended at .* updates", html_of(cell))
    assert text_of(after) == "[0]\n"


def test_a_lost_pv_is_shown_as_lost(own_ioc: Any, unique: str, tmp_path: Path) -> None:
    """Its last value stays, and does not look like the present one."""
    ioc: SoftIoc = own_ioc(f'record(ao, "{unique}x") {{ field(VAL, "3") field(PINI, "YES") }}')
    ioc.start()
    assert ioc.process is not None
    cell, again = run(
        [
            "import os, signal\n"
            f'async with live(camonitor("{unique}x", format=FORMAT_TIME), seconds=3) as updates:\n'
            "    async for value in updates:\n"
            f"        os.kill({ioc.process.pid}, signal.SIGKILL)",
            f'async with live(camonitor("{unique}x"), seconds=2) as updates:\n'
            "    async for value in updates: print(repr(value))",
        ],
        ioc, tmp_path, blocking=False,
    )  # fmt: skip
    shown = texts(html_of(cell))
    assert [text for text in shown if text in ("3.0", "disconnected")] == ["3.0", "disconnected"]
    assert "searching" in texts(html_of(again))


def test_a_live_table_in_the_background(ioc: SoftIoc, p: str, tmp_path: Path) -> None:
    """Its cell has ended; it goes on while other cells run."""
    _, waiting, end = run(
        [
            "import asyncio\n"
            "async def show():\n"
            f'    async with live(camonitor("{p}ticks")) as updates:\n'
            "        async for seen['last'] in updates: pass\n"
            "seen = {}\n"
            "task = asyncio.create_task(show())",
            "while seen.get('last', 0) < 3: await asyncio.sleep(0.1)\n"
            "now = seen['last']\n"
            "while seen['last'] < now + 10: await asyncio.sleep(0.1)",
            "task.cancel(); await asyncio.wait([task]); print(task.cancelled())",
        ],
        ioc, tmp_path, blocking=False,
    )  # fmt: skip
    assert waiting == []
    assert text_of(end) == "True\n"


def test_at_a_prompt_live_says_what_there_is(ioc: SoftIoc, p: str) -> None:
    from aioca import camonitor
    from aioca import run as run_loop
    from aioca.notebook import live

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"live needs a notebook of Jupyter.*aioca watch"):
            live(camonitor(p + "ai"))

    run_loop(main())


def test_live_shows_monitors_without_a_callback(ioc: SoftIoc, p: str) -> None:
    from aioca import camonitor, watch_connection
    from aioca import run as run_loop
    from aioca.notebook import live

    async def main() -> None:
        with pytest.raises(TypeError, match="has a callback"):
            live(camonitor(p + "ai", print))  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="is of watch_connection"):
            live(watch_connection(p + "ai"))

    run_loop(main())
