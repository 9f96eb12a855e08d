"""Fixtures that several files of this folder use."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from aioca import caget, caput


@pytest.fixture
async def nothing_written(p: str) -> AsyncIterator[None]:
    """Check at the end that the records ao:a ao:b ao:c have not changed."""
    pvs = [p + "ao:a", p + "ao:b", p + "ao:c"]
    before = [+value for value in await caget(pvs)]
    yield
    assert [+value for value in await caget(pvs)] == before


@pytest.fixture
async def abc(p: str) -> AsyncIterator[list[str]]:
    """Three PVs, not in alphabetical order."""
    pvs = [p + "ao:b", p + "ao:c", p + "ao:a"]
    yield pvs
    await caput(pvs, 0, wait=True)
