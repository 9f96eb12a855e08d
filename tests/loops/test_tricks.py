"""The tricks that the benchmark switches off: without each of them, the package still works."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from aioca.testing import SoftIoc
from tests.support.programs import programs

CLIENTS = Path(__file__).parents[1] / "benchmarks" / "clients"


def _tricks() -> Any:
    spec = importlib.util.spec_from_file_location("tricks", CLIENTS / "tricks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tricks = _tricks()

PROGRAM = """
    import asyncio, sys
    pv, trick, clients = sys.argv[1:]
    sys.path.insert(0, clients)
    import tricks
    tricks.switch_off(trick)
    from aioca import caget, camonitor, caput

    async def main():
        values, seen = asyncio.Queue(), []
        for options in {}, {"all_updates": True}:
            camonitor(pv, values.put_nowait, **options)
            assert await values.get() == await caget(pv)
        for value in 7.5, 8.5:
            await caput([pv, pv], value, wait=True)
            assert await caget([pv, pv]) == [value, value]
            while len(seen) < 2:
                update = await values.get()
                if update == value:
                    seen.append(update)
            seen.clear()

    asyncio.run(main())
    changed = [name for name, module in sys.modules.items()
               if type(getattr(module, "__loader__", None)).__module__ == "tricks"]
    print(*sorted(changed))
"""


@pytest.mark.parametrize("trick", tricks.TRICKS)
def test_works_without(ioc: SoftIoc, p: str, trick: str) -> None:
    with programs(ioc.port) as start:
        program = start(PROGRAM, f"{p}ao:free", trick, CLIENTS)
        out, err = program.communicate(timeout=60)
    assert err == ""
    assert program.returncode == 0
    edited = {f"aioca.{edit.module}" for edit in tricks.TRICKS[trick].edits}
    assert set(out.split()) == edited


def test_code_that_has_changed() -> None:
    edit = tricks.Edit("m", "fast()", "slow()")
    assert tricks.changed("aioca.m", "x = fast()\n", [edit]) == "x = slow()\n"
    for source, times in (("x = faster()\n", 0), ("fast() + fast()\n", 2)):
        with pytest.raises(ValueError, match=f"aioca.m has {times} times, not once"):
            tricks.changed("aioca.m", source, [edit])


def test_gain_of_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """More time, or less speed, without the trick is a gain."""
    monkeypatch.syspath_prepend(str(CLIENTS.parent))
    tables = importlib.import_module("tables")
    times = [(100, 110), (200, 180), (100, 105)]
    figures = {
        "get_one": {
            "aioca": [{"us": present} for present, _ in times],
            "aioca -eventfd": [{"us": absent} for _, absent in times],
        },
        "iterate_starved_10k": {
            "aioca": [{"per_second": 300}],
            "aioca -pause": [{"per_second": 200}],
        },
    }
    gets, updates = tables.of_tricks(figures, "aioca", ["eventfd", "pause"]).splitlines()[2:]
    assert gets == "| eventfd | get_one | us | 100 (100) | 110 (105) | +5 (-10 to +10) | 3 |"
    assert updates.endswith("| per_second | 300 (300) | 200 (200) | +50 (+50 to +50) | 1 |")
