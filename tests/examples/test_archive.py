"""archive.py: 1,000 PVs, every update of each in the file, on Ctrl-C what is left too."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from aioca.testing import SoftIoc
from tests.support.examples import Program, running, value_of

COUNT = 1000
COUNTER = """
record(calc, "$(P){n}") {{ field(SCAN, ".5 second") field(CALC, "A+1") field(INPA, "$(P){n}") }}
"""


def rows_of(file: Path, query: str) -> list[Any]:
    """What is in the file so far; nothing if it is not there yet."""
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            return database.execute(query).fetchall()
    except sqlite3.OperationalError:
        return []


def wait_for(program: Program, condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert program.process.poll() is None, program.lines
        assert time.monotonic() < deadline
        time.sleep(0.05)  # a file that grows is no event


def test_every_update_of_a_thousand_pvs(
    own_ioc: Callable[..., SoftIoc], unique: str, backend: str, tmp_path: Path
) -> None:
    """Counters: if one update were lost, there would be a gap."""
    ioc = own_ioc("".join(COUNTER.format(n=n) for n in range(COUNT)), {"P": unique})
    ioc.start()
    names, file = tmp_path / "names.txt", tmp_path / "values.sqlite"
    names.write_text("".join(f"{unique}{n}\n" for n in range(COUNT)))
    last = f"select max(value) from updates where pv = '{unique}{COUNT - 1}'"

    def archived() -> float:
        rows = rows_of(file, last)
        return (rows[0][0] if rows else None) or 0

    with running("archive.py", file, f"@{names}", "--backend", backend, port=ioc.port) as program:
        wait_for(program, lambda: archived() > 0)
        before = archived()

        def on_the_way() -> float:
            return float(value_of(ioc, f"{unique}{COUNT - 1}"))

        # At least two scans after what is in the file, so that the first of those has arrived
        wait_for(program, lambda: on_the_way() >= before + 4)
        reached = on_the_way()
        assert program.stop(signal.SIGINT) == []

    assert archived() >= reached - 1
    everything: dict[str, list[tuple[int, float]]] = {}
    for pv, time_ns, severity, value in rows_of(file, "select * from updates order by rowid"):
        everything.setdefault(pv, []).append((time_ns, value))
        assert severity in (0, 3)  # 3: it was not processed yet
    assert sorted(everything) == sorted(names.read_text().split())
    for updates in everything.values():
        assert updates == sorted(updates)
        first, final = updates[0][1], updates[-1][1]
        assert [value for _, value in updates] == [first + n for n in range(int(final - first) + 1)]
        assert final >= reached - 1


def test_a_disconnection_is_a_row(
    own_ioc: Callable[..., SoftIoc], unique: str, backend: str, tmp_path: Path
) -> None:
    ioc = own_ioc(
        'record(ao, "$(P)X") { field(VAL, "1") field(PINI, "YES") }\n'
        'record(ao, "$(P)N") { field(VAL, "nan") field(PINI, "YES") }\n'
        'record(stringin, "$(P)S") { field(VAL, "µ") field(PINI, "YES") }\n'
        'record(waveform, "$(P)W") { field(FTVL, "LONG") field(NELM, "4") field(INP, [3, 4]) }',
        {"P": unique},
    )
    ioc.start()
    file = tmp_path / "values.sqlite"
    pvs = [unique + name for name in "XNSW"]
    count = "select count(*) from updates"
    with running("archive.py", file, *pvs, "--backend", backend, port=ioc.port) as program:
        wait_for(program, lambda: rows_of(file, count) == [(4,)])
        ioc.kill()
        wait_for(program, lambda: rows_of(file, count) == [(8,)])
        assert program.stop() == []
    for pv, value in zip(pvs, (1.0, "nan", "µ", "[3, 4]"), strict=True):
        query = f"select severity is null, value from updates where pv = '{pv}' order by rowid"
        assert rows_of(file, query) == [(0, value), (1, None)]
