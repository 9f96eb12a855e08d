"""How far a value walks: the functions of aioca that a call enters on the loop's thread.

A stop is one entry into a function, or one step of a coroutine. It is counted, not timed, so the
test fails for the commit that lengthens a way and not for a busy machine.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import anyio
import pytest

import aioca
from aioca import caget, camonitor, caput
from tests.support.monitors import Received

pytestmark = pytest.mark.anyio
ROOT = str(Path(aioca.__file__).parent)
# The pause of a late drain, and the list comprehensions of Python before 3.12, are not counted.
NOT_COUNTED = {"_pause", "<listcomp>"}


@contextmanager
def stops() -> Iterator[list[str]]:
    """Note the functions of aioca that this thread enters in the block."""
    seen: list[str] = []

    def profile(frame: FrameType, event: str, _arg: object) -> None:
        code = frame.f_code
        ours = event == "call" and code.co_filename.startswith(ROOT)
        if ours and code.co_name not in NOT_COUNTED:
            seen.append(f"{Path(code.co_filename).stem}.{code.co_name}")

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        yield seen
    finally:
        sys.setprofile(before)


@pytest.fixture(autouse=True)
def only_asyncio(anyio_backend_name: str) -> None:
    if anyio_backend_name != "asyncio":
        pytest.skip("of asyncio only")


@pytest.fixture
def a(p: str) -> str:
    return p + "ao:free"


async def test_caget(a: str) -> None:
    await caget(a)
    with stops() as seen:
        await caget(a)
    assert len(seen) <= 28, seen


async def test_caput_with_completion(a: str) -> None:
    await caput(a, 1, wait=True)
    with stops() as seen:
        await caput(a, 2, wait=True)
    assert len(seen) <= 51, seen


async def test_update(a: str) -> None:
    """From the drain of the queue to the callback."""
    seen: list[str] = []
    entered: list[list[str]] = []
    received = Received()

    def callback(value: float) -> None:
        if value == 7:
            entered.append(list(seen))
        received(value)

    async with camonitor(a, callback):
        await received.until(lambda values: len(values) == 1)
        await anyio.sleep(0.1)  # until the loop polls no more: there is no event for that
        with stops() as seen:
            await caput(a, 7)
            await received.until(lambda values: values[-1] == 7)
    (walk,) = entered
    start = len(walk) - 1 - walk[::-1].index("queue._drain")
    assert len(walk[start:]) <= 5, walk[start:]


async def test_close(a: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the call to the read that makes the server send the updates it holds."""
    received = Received()
    subscription = camonitor(a, received)
    await received.until(lambda values: len(values) == 1)
    await anyio.sleep(0.1)  # as above
    flushed: list[int] = []
    context = subscription._monitor.context
    flush = context.held_updates._flush

    def note(flush: Callable[[], None] = flush) -> None:
        flush()
        flushed.append(len(seen))

    monkeypatch.setattr(context.held_updates, "_flush", note)
    with stops() as seen:
        subscription.close()
        with anyio.fail_after(10):
            while not flushed:
                await anyio.sleep(0.01)
    assert flushed[0] <= 29, seen[: flushed[0]]
