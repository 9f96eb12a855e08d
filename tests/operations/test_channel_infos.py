"""get_channel_infos and purge_channel_caches."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from aioca import (
    CADisconnected,
    CATimeout,
    Subscription,
    caget,
    cainfo,
    camonitor,
    caput,
    connect,
    get_channel_infos,
    purge_channel_caches,
    run,
)
from aioca._channels.registry import current
from aioca.testing import SoftIoc
from tests.support.programs import python
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

ECA_DISCONN = 192


# -- get_channel_infos -----------------------------------------------------------------------------


async def test_channel_infos(p: str) -> None:
    assert get_channel_infos() == []
    await caget([p + "ai", p + "longin"])
    with pytest.raises(CATimeout):
        await caget(p + "absent", timeout=0)
    async with camonitor(p + "ai") as first, camonitor(p + "ai") as second:
        assert await first.__anext__() == await second.__anext__() == 1.5
        assert [*get_channel_infos()] == [
            (p + "ai", True, 2), (p + "longin", True, 0), (p + "absent", False, 0),
        ]  # fmt: skip
    info = get_channel_infos()[0]
    assert (info.name, info.connected, info.subscriber_count) == (p + "ai", True, 0)


def test_channel_infos_with_no_loop(p: str) -> None:
    run(caget(p + "ai"))
    assert get_channel_infos() == []


def test_no_loop_no_call(p: str) -> None:
    coroutine = caget(p + "ai")
    with pytest.raises(RuntimeError, match="no event loop"):
        coroutine.send(None)


# -- purge_channel_caches --------------------------------------------------------------------------


async def test_purge(p: str) -> None:
    await caget([p + "ai", p + "longin"])
    purge_channel_caches()
    assert get_channel_infos() == []
    purge_channel_caches()
    assert await caget(p + "ai") == 1.5


async def put_wait(pv: str) -> Any:
    return await caput(pv, 1, wait=True)


@pytest.mark.parametrize("function", [caget, put_wait, connect, cainfo], ids=lambda f: f.__name__)
async def test_purge_while_something_connects(p: str, function: Any) -> None:
    errors: list[CADisconnected] = []

    async def call() -> None:
        with pytest.raises(CADisconnected, match="this program closed the channel") as caught:
            await function(p + "absent")
        errors.append(caught.value)

    with anyio.fail_after(4):  # less than its timeout
        async with anyio.create_task_group() as tg:
            tg.start_soon(call)
            await anyio.wait_all_tasks_blocked()
            purge_channel_caches()
    assert (errors[0].name, errors[0].errorcode) == (p + "absent", ECA_DISCONN)
    assert get_channel_infos() == []


async def test_purge_while_a_write_is_processed(p: str) -> None:
    """The server has the put, so the error says that its outcome is unknown."""
    errors: list[CADisconnected] = []
    pv = p + "slow.A"

    async def call() -> None:
        with pytest.raises(CADisconnected, match="closed the channel; outcome unknown") as caught:
            await caput(pv, 1, wait=True)
        errors.append(caught.value)

    await connect(pv)
    with anyio.fail_after(4):
        async with anyio.create_task_group() as tg:
            tg.start_soon(call)
            await until(lambda: current().channel(pv).put_owner is not None)
            purge_channel_caches()
    assert errors[0].name == pv


async def test_purge_while_monitors_are_being_started(own_ioc: Callable[..., SoftIoc]) -> None:
    """Monitors that are not started yet are closed too."""
    count = 3000
    ioc = own_ioc("".join(f'record(ao, "M{i}") {{}}\n' for i in range(count)))
    ioc.start()
    called: list[int] = []
    subscriptions = camonitor([f"M{i}" for i in range(count)], lambda v, i: called.append(i))
    assert current().starts  # some are not started yet
    purge_channel_caches()
    assert {subscription.state for subscription in subscriptions} == {Subscription.CLOSED}
    assert get_channel_infos() == []
    assert await caget("M7") == 0
    assert called == []


async def test_purge_while_something_is_under_way(p: str) -> None:
    """The channel of a put is cleared: the server abandons the put, and its caller ends."""
    pv = p + "slow.A"
    results: list[Any] = []

    async def call() -> None:
        results.extend(await caput([pv, pv], [7, 8], wait=True, throw=False))

    await connect(pv)
    with anyio.fail_after(4):
        async with anyio.create_task_group() as tg:
            tg.start_soon(call)
            await anyio.wait_all_tasks_blocked()
            purge_channel_caches()
    assert [(bool(one), one.errorcode) for one in results] == [(False, ECA_DISCONN)] * 2
    assert await caput(pv, 9, wait=True)
    assert await caget(p + "slow:done") == 9


def test_purge_with_no_loop(p: str, backend: str) -> None:
    purge_channel_caches()
    assert run(caget(p + "ai"), backend=backend) == 1.5
    purge_channel_caches()
    assert run(caget(p + "ai"), backend=backend) == 1.5


def test_purge_from_another_thread(p: str, backend: str) -> None:
    """A running loop closes its own channels."""

    async def main() -> None:
        await connect(p + "ai")
        thread = threading.Thread(target=purge_channel_caches)
        thread.start()
        await until(lambda: get_channel_infos() == [])
        thread.join()
        assert await caget(p + "ai") == 1.5

    run(main(), backend=backend)


# The connection wakes a task. Before that task runs, another one closes the channel.
PURGE_BEFORE_RESULT = """
import sys
import anyio
import aioca
async def main(pv):
    async def purge():
        await aioca.connect(pv)
        aioca.purge_channel_caches()
    async def info():
        try:
            found = await aioca.cainfo(pv)
        except aioca.CADisconnected as error:
            print(error.name)
        else:
            print(found.name, found)
    for order in ((purge, info), (info, purge)):
        async with anyio.create_task_group() as tg:
            for function in order:
                tg.start_soon(function)
aioca.run(main(sys.argv[1]), backend=sys.argv[2])
"""


def test_purge_between_connection_and_cainfo(p: str, backend: str) -> None:
    """In a separate process, because libca would abort if it were passed a cleared channel."""
    done = python(PURGE_BEFORE_RESULT, p + "ai", backend)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(p + "ai") >= 2
