import pytest

from aioca import caget

pytestmark = pytest.mark.anyio


async def test_get(p: str) -> None:
    assert await caget(p + "ai") == 1.5
