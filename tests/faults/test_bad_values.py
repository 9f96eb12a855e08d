"""Any value to any record type: it is written, or refused with an error that names the PV."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import anyio
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aioca import CAError, CATimeout, caget, caput, connect
from aioca.testing import SoftIoc
from tests.support.iocs import PORTS

RECORDS = {
    "ai": "", "ao": "", "longin": "", "longout": "", "int64in": "", "int64out": "",
    "bi": 'field(ZNAM, "No") field(ONAM, "Yes")', "bo": 'field(ZNAM, "No") field(ONAM, "Yes")',
    "mbbi": 'field(ZRST, "zero") field(ONST, "one")', "mbbo": 'field(ZRST, "zero")',
    "mbbiDirect": "", "mbboDirect": "", "stringin": "", "stringout": "",
    "lsi": 'field(SIZV, "100")', "lso": 'field(SIZV, "100")', "calc": "", "calcout": "",
    "fanout": "", "event": "", "sel": "", "seq": "", "state": "", "permissive": "",
    **{f"waveform/{kind}": f'field(FTVL, "{kind}") field(NELM, "{count}")'
       for count, kind in ((3, "DOUBLE"), (100, "CHAR"), (1, "LONG"), (3, "STRING"), (3, "ENUM"),
                           (3, "INT64"), (3, "UCHAR"), (3, "FLOAT"))},
    "aai": 'field(FTVL, "SHORT") field(NELM, "3")', "aao": 'field(FTVL, "USHORT") field(NELM, "3")',
    "compress": 'field(NSAM, "3")', "histogram": 'field(NELM, "3")',
}  # fmt: skip

scalars = st.one_of(
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.booleans(),
    st.none(),
    st.text(max_size=120),
    st.text(alphabet="01-+.eEnaif x\0\né", max_size=45),
    st.binary(max_size=120),
    st.complex_numbers(),
    st.sampled_from(
        [object(), {}, {1: 2}, set(), print, float, 10**400, np.float32("nan"), np.int64(2**62),
         np.bool_(True), np.datetime64("now"), np.str_("x"), np.bytes_(b"\xff"), "\ud800", b"\0",
         math.inf, range(3), np.array(1.5), np.array(None), memoryview(b"abc"), bytearray(b"abc")]
    ),
)  # fmt: skip
arrays = st.one_of(
    st.lists(scalars, max_size=5),
    st.lists(st.floats(), max_size=200),
    st.lists(st.lists(st.integers(), max_size=3), max_size=3),
    st.tuples(st.integers(), st.text()),
    st.sampled_from(["b", "B", "h", "H", "i", "I", "q", "Q", "f", "d", "e", "?", "U5", "S5", "O",
                     "c16", "M8[s]", ">f8", ">i2"]).map(lambda kind: np.zeros(4, kind)),
    st.sampled_from([(0,), (2, 2), (1, 1, 1), (0, 3), ()]).map(np.ones),
    st.just(np.arange(10.0)[::2]),
    st.just(np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])),
)  # fmt: skip


@pytest.fixture(scope="module")
def pvs() -> Iterator[list[str]]:
    database = "".join(
        f'record({name.split("/")[0]}, "BAD:{name}") {{ {fields} }}\n'
        for name, fields in RECORDS.items()
    )
    with SoftIoc(database, port=PORTS[5]):
        yield [f"BAD:{name}" for name in RECORDS]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(value=st.one_of(scalars, arrays), wait=st.booleans())
@example(value=float("nan"), wait=True)
@example(value="x" * 40, wait=False)
@example(value=[], wait=True)
def test_any_value_to_any_record(pvs: list[str], value: Any, wait: bool) -> None:
    async def main() -> None:
        await connect(pvs)
        for pv in pvs:
            try:
                await caput(pv, value, wait=wait, timeout=10)
            except CAError as error:
                assert not isinstance(error, CATimeout), error
                assert str(error).startswith(f"{pv}: ")
        # Each of them is as usable as before.
        values = await caget(pvs, throw=False, timeout=10)
        bad = [v for v in values if not v.ok]
        assert not bad, bad

    anyio.run(main)


def test_all_record_types_were_there(pvs: list[str]) -> None:
    """Else the test before would have tried nothing."""

    async def main() -> list[Any]:
        return await connect(pvs, throw=False, timeout=10)

    assert all(anyio.run(main))
