"""`aioca.snapshot` with real IOCs: take, diff, restore."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

from aioca import CATimeout, CAValueError, caget, caput
from aioca.snapshot import (
    Entry,
    Outcome,
    Snapshot,
    State,
    diff,
    load,
    restore,
    save,
    take,
)
from aioca.testing import SoftIoc
from tests.support import snapshot_records

MakeIoc = Callable[..., SoftIoc]
pytestmark = pytest.mark.anyio


def states(outcomes: list[Outcome]) -> dict[str, State]:
    return {outcome.pv: outcome.state for outcome in outcomes}


def snapshot_of(**values: Any) -> Snapshot:
    return Snapshot(tuple(Entry(pv, value) for pv, value in values.items()))


async def write(settings: dict[str, tuple[Any, Any]], which: int) -> None:
    await caput(list(settings), [values[which] for values in settings.values()], wait=True)


async def test_all_types(own_ioc: MakeIoc, unique: str, tmp_path: Path) -> None:
    """300 records get their exact values back: save, change, load, diff, restore."""
    settings = snapshot_records.settings(unique)
    with own_ioc(snapshot_records.database(unique)):
        await write(settings, 0)
        taken = await take(settings)
        save(taken, tmp_path / "a.json")
        saved = load(tmp_path / "a.json")
        assert repr(saved.entries) == repr(taken.entries)  # NaN is not equal to itself
        assert await diff(saved) == []

        await write(settings, 1)
        differences = await diff(saved)
        assert [difference.pv for difference in differences] == list(settings)
        seen: list[State] = []
        outcomes = await restore(saved, on_outcome=lambda outcome: seen.append(outcome.state))
        assert set(states(outcomes).values()) == {State.WRITTEN}
        assert all(outcome.ok for outcome in outcomes)
        assert seen.count(State.SENT) == len(settings)

        again = await take(settings)
        assert repr([e.value for e in again]) == repr([e.value for e in taken])
        assert set(states(await restore(saved)).values()) == {State.EQUAL}


async def test_what_an_entry_has(own_ioc: MakeIoc, unique: str) -> None:
    database = f"""
        record(ao, "{unique}ao") {{ field(HIGH, "5") field(HSV, "MINOR") }}
        record(ao, "{unique}never") {{}}
        record(waveform, "{unique}float") {{ field(FTVL, "FLOAT") field(NELM, "1") }}
        """
    with own_ioc(database):
        await caput(unique + "ao", 7, wait=True)
        await caput(unique + "float", 0.1, wait=True)
        entries = (
            await take([unique + "ao", unique + "never", unique + "float", unique + "ao"])
        ).entries
        assert len(entries) == 3  # each PV once
        first, never, single = entries
        assert (first.value, first.type, first.severity, first.status) == (
            7.0,
            "DOUBLE",
            "MINOR",
            "HIGH",
        )
        assert first.timestamp_ns is not None and first.timestamp_ns > 1_600_000_000 * 10**9
        assert (never.status, never.timestamp_ns) == ("UDF", None)
        assert (single.value, single.type) == (0.1, "FLOAT")


async def test_a_missing_pv(p: str, unique: str) -> None:
    """Nothing is written, unless told; the error names all that are missing."""
    missing = [unique + "a", unique + "b"]
    saved = Snapshot((Entry(p + "ao:a", 41.0, "DOUBLE"), *(Entry(pv, 1.0) for pv in missing)))
    await caput(p + "ao:a", 5, wait=True)
    with pytest.raises(CATimeout) as caught:
        await restore(saved, timeout=0.5)
    assert [failure.name for failure in caught.value.failures] == missing
    assert await caget(p + "ao:a") == 5

    outcomes = await restore(saved, timeout=0.5, skip_missing=True)
    assert list(states(outcomes).values()) == [State.WRITTEN, State.MISSING, State.MISSING]
    assert await caget(p + "ao:a") == 41
    differences = await diff(saved, timeout=0.5)
    assert [(d.pv, d.current) for d in differences] == [(pv, None) for pv in missing]
    assert all("no server has answered" in d.reason for d in differences)

    with pytest.raises(CATimeout):
        await take([p + "ao:a", unique + "a"], timeout=0.5)
    taken = await take([p + "ao:a", unique + "a"], timeout=0.5, throw=False)
    assert [entry.value for entry in taken] == [41.0, None]
    assert "no server has answered" in taken.entries[1].error
    await caput(p + "ao:a", 0, wait=True)


async def test_refusals(p: str) -> None:
    """Each is reported, and does not keep others from being written."""
    saved = Snapshot((
        Entry(p + "ao:readonly", 8.0, "DOUBLE"),
        Entry(p + "ao:disabled", 8.0, "DOUBLE"),
        Entry(p + "mbbo", 0, "ENUM", "Sideways"),
        Entry(p + "longout", [1, 2], "LONG"),
        Entry(p + "stringout", "x" * 40),
        Entry(p + "ao:b", 8.0, "DOUBLE"),
    ))  # fmt: skip
    await caput(p + "ao:b", 0, wait=True)
    outcomes = await restore(saved)
    assert list(states(outcomes).values()) == [State.REFUSED] * 5 + [State.WRITTEN]
    texts = [str(outcome) for outcome in outcomes]
    for text, said in zip(texts, [
        "does not let this client write", "refused the value", "none of its states is called",
        "refused (Invalid element count requested (2 elements do not fit", "40 bytes", "0.0 -> 8.0",
    ], strict=True):  # fmt: skip
        assert said in text
    assert await caget(p + "ao:b") == 8
    await caput(p + "ao:b", 0, wait=True)


async def test_a_dry_run_writes_nothing(p: str) -> None:
    await caput(p + "ao:a", 1, wait=True)
    saved = Snapshot((Entry(p + "ao:a", 2.0), Entry(p + "ao:readonly", 8.0), Entry(p + "ai", 1.5)))
    outcomes = await restore(saved, dry_run=True)
    assert list(states(outcomes).values()) == [State.WOULD_WRITE, State.REFUSED, State.EQUAL]
    assert str(outcomes[0]) == f"{p}ao:a: would be written: 1.0 -> 2.0"
    assert await caget(p + "ao:a") == 1


async def test_a_record_that_changes_what_is_written(p: str) -> None:
    """DRVH: it reads back as another value."""
    before = await caget(p + "ao")
    outcomes = await restore(Snapshot((Entry(p + "ao", 50.0, "DOUBLE"),)))
    assert states(outcomes) == {p + "ao": State.ALTERED}
    assert not outcomes[0].ok
    assert str(outcomes[0]) == f"{p}ao: wrote 50.0, but it reads back as 10.0"
    await caput(p + "ao", before, wait=True)


async def test_what_is_not_restored(p: str) -> None:
    saved = Snapshot((
        Entry(p + "ao:a", 5.0, read_only=True), Entry(p + "ao:b", None, error="it was lost"),
    ))  # fmt: skip
    await caput([p + "ao:a", p + "ao:b"], 0, wait=True)
    outcomes = await restore(saved)
    assert list(states(outcomes).values()) == [State.SKIPPED, State.SKIPPED]
    assert [outcome.ok for outcome in outcomes] == [True, False]
    assert await caget([p + "ao:a", p + "ao:b"]) == [0, 0]
    assert [d.reason for d in await diff(saved)] == ["", "it has no saved value: it was lost"]


async def test_states_are_found_by_their_labels(own_ioc: MakeIoc, unique: str) -> None:
    """As the labels have another order after an update of the IOC."""
    pv = unique + "mode"
    with own_ioc(
        f'record(mbbo, "{pv}") {{ field(ZRST, "Off") field(ONST, "On") field(VAL, "1") }}'
    ) as ioc:
        saved = await take(pv)
        assert (saved[pv].value, saved[pv].label) == (1, "On")
        for field, value in ("ZRST", "On"), ("ONST", "Off"):
            ioc.command(f"dbpf {pv}.{field} {value}")
        outcomes = await restore(saved)
        assert states(outcomes) == {pv: State.WRITTEN}
        assert await caget(pv, str) == "On"
        assert await caget(pv) == 0


async def test_integers_that_are_the_same_double(own_ioc: MakeIoc, unique: str) -> None:
    """Channel Access sends an int64 as a double, which is the same for 2**53 and 2**53 + 1."""
    pv = unique + "int64"
    with own_ioc(f'record(int64out, "{pv}") {{}}'):
        for saved, now in [(2**53 + 1, 2**53), (2**53, 2**53 + 1), (-(2**63), -(2**63) + 1)]:
            await caput(pv, saved, wait=True)
            taken = await take(pv)
            assert taken[pv].value == saved
            await caput(pv, now, wait=True)
            assert [str(d) for d in await diff(taken)] == [f"{pv}: {saved} -> {now}"]
            assert states(await restore(taken)) == {pv: State.WRITTEN}
            assert await caget(pv, str) == str(saved)


async def test_a_list_of_large_integers_is_written_exactly(own_ioc: MakeIoc, unique: str) -> None:
    """numpy makes doubles of a list with integers of more than 63 bits and smaller ones."""
    pv = unique + "uint64"
    with own_ioc(f'record(waveform, "{pv}") {{ field(FTVL, "UINT64") field(NELM, "5") }}'):
        for value in ([2**64 - 1, 2**53 + 1], [2**53 + 1, 1.0], [2**64 - 1]):
            await caput(pv, value, wait=True)
            assert list(await caget(pv, str)) == [str(int(number)) for number in value]


async def test_bytes_that_are_no_utf8(p: str) -> None:
    before = await caget(p + "stringout")
    await caput(p + "stringout", b"20 \xb0C", wait=True)
    taken = await take(p + "stringout")
    assert taken.entries[0].value == "20 \udcb0C"
    await caput(p + "stringout", before, wait=True)
    assert len(await diff(taken)) == 1
    await restore(taken)
    assert await caget(p + "stringout", bytes) == b"20 \xb0C"
    await caput(p + "stringout", before, wait=True)


async def test_cancelled(p: str) -> None:
    """What on_outcome got last is true: the one was written, the other may still be."""
    last: dict[str, State] = {}
    with anyio.CancelScope() as scope:

        def note(outcome: Outcome) -> None:
            last[outcome.pv] = outcome.state
            if outcome.state is State.WRITTEN:
                scope.cancel()

        await caput(p + "ao:a", 0, wait=True)
        await restore(
            Snapshot((Entry(p + "slower.A", 5.0), Entry(p + "ao:a", 5.0), Entry(p + "ai", 1.5))),
            on_outcome=note,
        )
    assert scope.cancelled_caught
    assert last == {p + "slower.A": State.SENT, p + "ao:a": State.WRITTEN, p + "ai": State.EQUAL}
    assert await caget(p + "ao:a") == 5
    await caput([p + "ao:a", p + "slower.A"], 0, wait=True, timeout=20)


async def test_the_end_of_the_processing_is_not_reported_in_time(p: str) -> None:
    outcomes = await restore(Snapshot((Entry(p + "slower.A", 6.0),)), put_timeout=0.1)
    assert states(outcomes) == {p + "slower.A": State.SENT}
    assert not outcomes[0].ok
    assert "its end was not reported" in str(outcomes[0])
    await caput(p + "slower.A", 0, wait=True, timeout=20)


async def test_the_server_is_lost(own_ioc: MakeIoc, unique: str) -> None:
    """What it has processed counts as written; of the rest it is not known."""
    slow, fast = unique + "slow.A", unique + "fast"
    ioc = own_ioc(
        f'record(calcout, "{unique}slow") {{ field(ODLY, "60") field(OOPT, "Every Time") }}'
        f'record(ao, "{fast}") {{}}'
    )

    def kill(outcome: Outcome) -> None:
        if outcome.state is State.WRITTEN and ioc.process is not None:
            ioc.kill()

    with ioc:
        saved = Snapshot((Entry(slow, 5.0), Entry(fast, 5.0)))
        outcomes = await restore(saved, timeout=1, on_outcome=kill)
    assert states(outcomes) == {slow: State.SENT, fast: State.WRITTEN}
    assert "it cannot be read" in str(outcomes[1])


async def test_wrong_arguments(p: str) -> None:
    with pytest.raises(TypeError):
        await take(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        await take([p + "ai"], timeout="5")  # type: ignore[arg-type]
    for call in (restore, diff):  # as if they loaded the file
        with pytest.raises(TypeError, match=r"load\(\).*'shift\.json'"):
            await call("shift.json")  # type: ignore[operator]
    with pytest.raises(TypeError, match=r"load\(\).*'shift\.json'"):
        save("shift.json", Snapshot(()))  # type: ignore[arg-type]
    with pytest.raises(CAValueError):
        await take([""])
    with pytest.raises(CAValueError):
        await restore(Snapshot((Entry("", 1.0),)))
    assert len(await take([])) == 0
    assert await restore(Snapshot(())) == []


# -- Files of other programs -----------------------------------------------------------------------

# Written by autosave R6.0 for one copy of these records. It does not save arrays of 64-bit integers
# and of ENUM.
REAL_AUTOSAVE = r"""# autosave R5.3	Automatically generated - DO NOT MODIFY - 261129-005858
! 2 channel(s) not connected - or not all gets were successful
$(P)ai0 0.3
$(P)ao0 -0.33333333333333
$(P)longin0 -2147483648
$(P)longout0 2147483647
$(P)bi0 1
$(P)bo0 1
$(P)mbbi0 2
$(P)mbbo0 1
$(P)stringin0 zwei \xc2\xb5 \x1b[31m
$(P)stringout0.DESC a description
$(P)lso0.VAL$ a long string: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
$(P)calcout0.A nan
$(P)wf:STRING0 @array@ { "ab" "cdé" "" }
$(P)wf:CHAR0 @array@ { "0" "127" "-56" }
$(P)wf:UCHAR0 @array@ { "47" "100" "97" "116" "97" "47" "114" "117" "110" "55" "0" }
$(P)wf:SHORT0 @array@ { "-32768" "0" "32767" }
$(P)wf:USHORT0 @array@ { "0" "65535" }
$(P)wf:LONG0 @array@ { "-2147483648" "2147483647" }
$(P)wf:ULONG0 @array@ { "4294967295" "1" }
$(P)wf:FLOAT0 @array@ { "0.1" "-inf" "9.999946e-41" "nan" }
$(P)wf:DOUBLE0 @array@ { "0.1" "nan" "inf" "-0" "4.9406564584125e-324" "1.7976931348623e+308" }
#$(P)wf:ENUM0 @array@ { "0" "65535" }
<END>
"""  # noqa: E501


async def test_a_file_of_autosave(own_ioc: MakeIoc, unique: str, tmp_path: Path) -> None:
    """The values that it was made from are equal to it, though it has fewer digits."""
    (tmp_path / "real.sav").write_text(REAL_AUTOSAVE, "utf-8")
    saved = load(tmp_path / "real.sav", {"P": unique})
    settings = {pv: v for pv, v in snapshot_records.settings(unique).items() if pv in saved.pvs}
    assert len(settings) == len(saved) == 21
    with own_ioc(snapshot_records.database(unique)):
        await write(settings, 0)
        assert [str(d) for d in await diff(saved)] == []
        await write(settings, 1)
        assert len(await diff(saved)) == 21
        assert set(states(await restore(saved)).values()) == {State.WRITTEN}
        assert await caget(unique + "ai0") == 0.3
        assert await caget(unique + "mbbo0", str) == "Manual"
        assert await caget(unique + "stringin0") == "zwei µ \x1b[31m"
        assert list(await caget(unique + "wf:STRING0")) == ["ab", "cdé", ""]
        assert bytes(await caget(unique + "wf:UCHAR0")) == b"/data/run7\0"


BURT = r"""--- Start BURT header
Type:     Absolute
--- End BURT header
{p}ai0 1 3.000000000000000e-01
{p}longout0 1 5
{p}mbbo0 1 Manual
{p}bo0 1 1
{p}stringin0 1 "two words"
{p}stringout0.DESC 1 \0
{p}wf:DOUBLE0 3 1.000000000000000e+00 \0 -5.0e-01
{p}wf:CHAR0 2 H i
RO {p}ao0 1 1.000000000000000e+00
"""
PSI = """#{{"comment": ""}}
{p}ai0,{{"val": 0.3}}
{p}longout0,5
{p}mbbo0,1
{p}bo0,"On"
{p}stringin0,"two words"
{p}stringout0.DESC,""
{p}wf:DOUBLE0,[1, 0, -0.5]
{p}wf:CHAR0,[72, 105]
"""


@pytest.mark.parametrize("content", [BURT, PSI], ids=["burt", "psi"])
async def test_other_files(own_ioc: MakeIoc, unique: str, tmp_path: Path, content: str) -> None:
    (tmp_path / "a.snap").write_text(content.format(p=unique))
    saved = load(tmp_path / "a.snap")
    with own_ioc(snapshot_records.database(unique)):
        outcomes = await restore(saved)
        assert all(outcome.ok for outcome in outcomes), list(map(str, outcomes))
        names = ("ai0", "longout0", "mbbo0", "bo0", "stringin0", "stringout0.DESC", "ao0")
        assert await caget([unique + name for name in names]) == [0.3, 5, 1, 1, "two words", "", 0]
        assert np.array_equal(await caget(unique + "wf:DOUBLE0"), [1, 0, -0.5])
        assert bytes(await caget(unique + "wf:CHAR0")) == b"Hi"
        differences = [d.pv for d in await diff(saved)]
        assert differences == ([unique + "ao0"] if content is BURT else [])
