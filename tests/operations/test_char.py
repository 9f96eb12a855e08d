"""Bytes from 128 on: a C `char` has a sign on x86-64, and none on 64-bit ARM.

No value of the client may depend on that. What is expected is therefore spelled out here, the same
for all processors. One conversion in the IOC does depend on it: see `CHAR_HAS_SIGN`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import aioca
from aioca import DBR_CHAR, DBR_CHAR_BYTES, DBR_ENUM_STR, FORMAT_CTRL, caget, camonitor, caput
from aioca.testing import SoftIoc
from tests.support.iocs import PORTS
from tests.support.values import CHAR_HAS_SIGN

pytestmark = pytest.mark.anyio

RECORDS = """
record(waveform, "$(P)CHAR") { field(FTVL, "CHAR") field(NELM, "4") }
record(waveform, "$(P)UCHAR") { field(FTVL, "UCHAR") field(NELM, "4") }
record(waveform, "$(P)one:CHAR") { field(FTVL, "CHAR") field(NELM, "1") }
record(waveform, "$(P)one:UCHAR") { field(FTVL, "UCHAR") field(NELM, "1") }
record(longout, "$(P)long") {
    field(HIHI, "200") field(HHSV, "MAJOR") field(LOPR, "128") field(HOPR, "255")
}
record(ao, "$(P)ao") { field(EGU, "µm") }
record(mbbo, "$(P)mbbo") { field(ZRST, "off") field(ONST, "grün") }
record(stringout, "$(P)text") {}
"""

BYTES = [127, 128, 200, 255]
SIGNED = [127, -128, -56, -1]
CONVERTED = {"CHAR": SIGNED if CHAR_HAS_SIGN else BYTES, "UCHAR": BYTES}


@pytest.fixture(scope="module")
def pv() -> Iterator[str]:
    prefix = f"C{secrets.token_hex(4)}:"
    with SoftIoc(RECORDS, {"P": prefix}, port=PORTS[1]):
        yield prefix


@pytest.mark.parametrize(
    "sent",
    [bytes(BYTES), np.array(BYTES, "u1"), np.array(SIGNED, "i1"), BYTES],
    ids=["bytes", "unsigned", "signed", "list"],
)
@pytest.mark.parametrize("field", ["CHAR", "UCHAR"])
async def test_arrays(pv: str, field: str, sent: Any) -> None:
    """DBR_CHAR is read as unsigned. The IOC converts it to other types of number."""
    await caput(pv + field, sent, wait=True)
    raw = await caget(pv + field)
    assert (raw.dtype, raw.tolist()) == (np.dtype("u1"), BYTES)
    assert await caget(pv + field, datatype=DBR_CHAR_BYTES) == bytes(BYTES)
    numbers = CONVERTED[field]
    for datatype in (int, float, np.int16, np.float32):
        assert (await caget(pv + field, datatype=datatype)).tolist() == numbers
    async with camonitor(pv + field) as updates:
        assert (await first(updates)).tolist() == BYTES
    async with camonitor(pv + field, datatype=int) as updates:
        assert (await first(updates)).tolist() == numbers


@pytest.mark.parametrize("number", BYTES)
@pytest.mark.parametrize("field", ["one:CHAR", "one:UCHAR"])
async def test_single_elements(pv: str, field: str, number: int) -> None:
    await caput(pv + field, number, wait=True)
    signed = number - 256 if number > 127 and field == "one:CHAR" else number
    assert [await caget(pv + field), await caget(pv + field, datatype=int)] == [number, signed]
    async with camonitor(pv + field, format=FORMAT_CTRL) as updates:
        assert await first(updates) == number


async def test_limits(pv: str) -> None:
    """The limits of DBR_CTRL_CHAR are unsigned, as the value is."""
    await caput(pv + "long", 200, wait=True)
    value = await caget(pv + "long", datatype=DBR_CHAR, format=FORMAT_CTRL)
    limits = value.upper_alarm_limit, value.lower_disp_limit, value.upper_disp_limit
    assert (value, *limits) == (200, 200, 128, 255)


async def test_texts(pv: str) -> None:
    """Texts are UTF-8. A byte that is not UTF-8 becomes U+FFFD."""
    await caput(pv + "text", "µ ÿ €", wait=True)
    assert await caget(pv + "text") == "µ ÿ €"
    await caput(pv + "CHAR", "µÿ", wait=True)
    assert await caget(pv + "CHAR", datatype=str) == "µÿ"
    await caput(pv + "CHAR", b"a\xff", wait=True)
    assert await caget(pv + "CHAR", datatype=str) == "a\N{REPLACEMENT CHARACTER}"
    assert (await caget(pv + "ao", format=FORMAT_CTRL)).units == "µm"


async def test_enum_labels(pv: str) -> None:
    await caput(pv + "mbbo.ZRST$", [0xFF, 0], datatype=DBR_CHAR, wait=True)
    await caput(pv + "mbbo", "grün", wait=True)
    value = await caget(pv + "mbbo", format=FORMAT_CTRL)
    assert (value, value.enums) == (1, ["\N{REPLACEMENT CHARACTER}", "grün"])
    assert await caget(pv + "mbbo", datatype=DBR_ENUM_STR) == "grün"


async def first(updates: aioca.Updates) -> Any:
    async for value in updates:
        return value
    raise AssertionError("the updates have ended")
