"""watch_connection: connections, losses and access rights, as states of real channels."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

import aioca
from aioca import (
    CAInfo,
    blocking,
    caget,
    camonitor,
    caput,
    get_channel_infos,
    purge_channel_caches,
    watch_connection,
)
from aioca._ca import libca
from aioca._channels import registry
from aioca.blocking import _loop_thread
from aioca.testing import SoftIoc
from tests.support.iocs import PORTS
from tests.support.programs import programs

pytestmark = pytest.mark.anyio

# The PV `locked` cannot be written while `lock` is not 0, and not be read either while it is 2.
RULES = """
ASG(DEFAULT) { RULE(1, READ) RULE(1, WRITE) }
ASG(LOCK) {
    INPA("%(P)slock")
    RULE(1, READ) { CALC("A<2") }
    RULE(1, WRITE) { CALC("A=0") }
}
"""
RECORDS = """
record(ao, "%(P)slock") { field(PINI, "YES") field(VAL, "0") }
record(ao, "%(P)slocked") { field(ASG, "LOCK") }
record(waveform, "%(P)swf") { field(FTVL, "LONG") field(NELM, "7") }
"""


@pytest.fixture
def locking(unique: str, tmp_path: Path) -> Iterator[SoftIoc]:
    """An IOC, not yet started, with access rights that a PV decides."""
    rules = tmp_path / "rules.acf"
    rules.write_text(RULES % {"P": unique})
    soft_ioc = SoftIoc(RECORDS % {"P": unique}, port=PORTS[1], access_security=rules)
    yield soft_ioc
    soft_ioc.kill()


async def state(infos: Any, **wanted: object) -> CAInfo:
    """Return the next state that is as wanted; within 20 s."""
    with anyio.fail_after(20):
        while True:
            info: CAInfo = await anext(infos)
            if all(getattr(info, name) == value for name, value in wanted.items()):
                return info


async def test_the_present_state_comes_first(p: str) -> None:
    names = [p + "ai", p + "ao:readonly", p + "wf:SHORT"]
    await aioca.connect(names)
    async with watch_connection(names) as infos:
        with anyio.fail_after(10):
            found = [await anext(infos) for _ in names]
    assert [vars(info) for info in found] == [vars(info) for info in await aioca.cainfo(names)]
    assert [info.write for info in found] == [True, False, True]
    assert [info.count for info in found] == [1, 1, 5]


async def test_a_pv_that_nobody_has(p: str) -> None:
    async with watch_connection(p + "nothing") as infos:
        info = await state(infos)
        assert (info.ok, info.state, info.count, info.datatype) == (False, 0, 0, 7)
        assert (info.host, info.read, info.write) == ("<disconnected>", False, False)
        with anyio.move_on_after(0.3) as scope:
            await anext(infos)  # there is no further state
        assert scope.cancelled_caught


async def test_killed_and_restarted(locking: SoftIoc, unique: str) -> None:
    async with watch_connection(unique + "wf") as infos:
        assert not (await state(infos)).ok
        with locking:
            found = await state(infos, ok=True)
            assert (found.count, found.datatype) == (7, aioca.DBR_LONG)
            assert found.host.endswith(f":{locking.port}") and found.read and found.write
        lost = await state(infos, ok=False)
        assert (lost.state, lost.host, lost.count) == (1, "<disconnected>", 0)
        with SoftIoc(f'record(stringin, "{unique}wf") {{}}', port=PORTS[1]):
            found = await state(infos, ok=True)
            assert (found.count, found.datatype) == (1, aioca.DBR_STRING)
    assert get_channel_infos()[0].subscriber_count == 0


async def test_access_rights(locking: SoftIoc, unique: str) -> None:
    """Each change comes, in a channel that was connected before, too, and after its replacement."""
    lock, locked = unique + "lock", unique + "locked"
    with locking:
        await aioca.connect(locked)
        async with watch_connection(locked) as infos:
            await state(infos, ok=True, read=True, write=True)
            await caput(lock, 1, wait=True)
            await state(infos, ok=True, read=True, write=False)
            await caput(lock, 2, wait=True)
            await state(infos, ok=True, read=False, write=False)
            channel = registry.current().channel(locked)
            channel.replace()  # as it is done after a server did not respond
            await caput(lock, 1, wait=True)
            await state(infos, ok=True, read=True, write=False)
            await caput(lock, 0, wait=True)
            await state(infos, ok=True, read=True, write=True)
            locking.command("asInit")  # takes the rights away for a moment
            await caput(lock, 1, wait=True)
            await state(infos, ok=True, read=True, write=False)


async def test_two_watches_of_one_pv(locking: SoftIoc, unique: str) -> None:
    with locking:
        async with watch_connection(unique + "locked") as infos:
            async with watch_connection([unique + "locked"] * 2) as others:
                await state(infos, ok=True)
                await state(others, ok=True)
                await state(others, ok=True)
            await caput(unique + "lock", 1, wait=True)
            await state(infos, ok=True, write=False)
        context = registry.current()
        assert context.watches._watches == {}
        await caput(unique + "lock", 0, wait=True)  # libca reports it to nobody


async def test_a_slow_consumer_sees_the_latest_state(locking: SoftIoc, unique: str) -> None:
    lock, locked = unique + "lock", unique + "locked"
    with locking:
        async with watch_connection(locked) as slow, watch_connection(locked) as quick:
            await state(slow, ok=True)
            await state(quick, ok=True)
            for value in [1, 0] * 10 + [1]:
                await caput(lock, value, wait=True)
                await state(quick, write=value == 0)
            (subscription,) = slow.subscriptions
            assert subscription.dropped_callbacks == 20
            assert len(slow._stream.queue) == 1
            assert not (await state(slow)).write
            for value in [0, 1]:  # changed, and changed back
                await caput(lock, value, wait=True)
                await state(quick, write=value == 0)
            with anyio.move_on_after(0.2) as scope:
                await anext(slow)
            assert scope.cancelled_caught


async def test_callbacks(p: str, ioc: SoftIoc) -> None:
    """The forms of camonitor: an error of the callback reaches the owner."""
    seen: list[tuple[str, int]] = []

    async def callback(info: CAInfo, index: int) -> None:
        await anyio.sleep(0)
        if info.ok:
            seen.append((info.name, index))
        if len(seen) == 2:
            raise ZeroDivisionError

    names = [p + "ai", p + "ao"]
    with anyio.fail_after(10), pytest.raises(ZeroDivisionError):
        async with watch_connection(names, callback) as subscriptions:
            await anyio.sleep_forever()
    assert sorted(seen) == [(names[0], 0), (names[1], 1)]
    assert [each.state for each in subscriptions] == [aioca.Subscription.CLOSED] * 2

    infos: list[CAInfo] = []
    async with anyio.create_task_group() as tasks:
        subscription = watch_connection(p + "ai", infos.append, task_group=tasks)
        assert infos == []  # no callback before it has returned
        with anyio.fail_after(10):
            while not (infos and infos[-1].ok):
                await anyio.sleep(0.01)
        subscription.close()


@pytest.mark.parametrize(
    "arguments,error",
    [((3,), TypeError), (([3],), TypeError), (("A", 4), TypeError), (("",), aioca.CAValueError)],
)
async def test_wrong_arguments(arguments: tuple[Any, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        watch_connection(*arguments)


async def test_a_block_that_is_never_entered(p: str) -> None:
    with pytest.warns(ResourceWarning, match="watch_connection of .* never entered"):
        watch_connection(p + "ai")
        await anyio.sleep(0)


async def test_closing(p: str) -> None:
    async with watch_connection([p + "ai", p + "nothing"]) as infos:
        await state(infos, ok=True)
        infos.subscriptions[0].close()
        infos.subscriptions[0].close()
        aioca.purge_channel_caches()
        with anyio.fail_after(10):
            assert [info async for info in infos] == []


def test_the_end_of_the_loop(p: str, backend: str) -> None:
    infos: list[CAInfo] = []

    async def main() -> None:
        watch_connection([p + "ai", p + "nothing"], lambda info, index: infos.append(info))
        await aioca.connect(p + "ai")

    for _ in range(3):
        aioca.run(main(), backend=backend)
    seen = len(infos)
    aioca.run(main(), backend=backend)
    assert all(type(info) is CAInfo for info in infos) and seen


@pytest.mark.parametrize("closes", ["the monitor", "everything"])
async def test_a_watch_closes_a_monitor_of_the_same_pv(
    own_ioc: Callable[..., SoftIoc], unique: str, closes: str
) -> None:
    """Both are told of one connection, the watch first: the monitor subscribes no more."""
    pvs = [unique + "X", unique + "Y"]
    soft_ioc = own_ioc("".join(f'record(ao, "{pv}") {{}}\n' for pv in pvs))
    told = anyio.Event()
    updates: list[Any] = []

    def watched(info: CAInfo) -> None:
        if info.ok and not told.is_set():
            told.set()
            if closes == "everything":
                purge_channel_caches()
            else:
                monitor.close()

    watch = watch_connection(pvs[0], watched)
    monitor = camonitor(pvs[0], updates.append)
    await anyio.to_thread.run_sync(soft_ioc.start)
    with anyio.fail_after(20):
        await told.wait()
        await caget(pvs[1])  # on the same circuit: an update would have come before
    watch.close()
    assert (updates, monitor.state) == ([], monitor.CLOSED)


def test_no_report_for_a_channel_that_nobody_watches(
    p: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    report = libca.report_access
    monkeypatch.setattr(
        libca, "report_access", lambda chid, handler: asked.append(chid) or report(chid, handler)
    )

    async def main() -> None:
        await aioca.connect([p + "ai", p + "ao"])
        assert asked == []
        async with watch_connection(p + "ai") as infos:
            await state(infos, ok=True)
        assert len(asked) == 1

    anyio.run(main, backend=backend)


async def test_ten_thousand_pvs(own_ioc: Callable[..., SoftIoc], unique: str) -> None:
    names = [f"{unique}{index}" for index in range(10_000)]
    soft_ioc = own_ioc("".join(f'record(bo, "{name}") {{}}\n' for name in names))
    left = {True: set(names), False: set(names)}

    async def all_are(ok: bool) -> None:
        while left[ok]:
            info = await anext(infos)
            if info.ok == ok:
                left[ok].discard(info.name)

    with anyio.fail_after(90):
        async with watch_connection(names) as infos:
            await all_are(False)
            with soft_ioc:
                await all_are(True)
                left[False] = set(names)
            await all_are(False)
            assert len(infos._stream.queue) <= len(names)


UNRESPONSIVE = """
    import json, sys
    import anyio
    from aioca import run, watch_connection

    async def main(pv):
        async with watch_connection(pv) as infos:
            async for info in infos:
                print(json.dumps([info.ok, info.write, info.host]))

    run(main(sys.argv[2]), backend=sys.argv[1])
"""


def test_a_server_that_does_not_respond(locking: SoftIoc, unique: str, backend: str) -> None:
    """Its PVs are lost, and found again in new channels, whose access rights are reported."""
    with locking, programs(locking.port) as start:
        process: subprocess.Popen[str] = start(
            "import os; os.environ['EPICS_CA_CONN_TMO'] = '1'\n" + _dedented(UNRESPONSIVE),
            backend,
            unique + "locked",
        )
        assert process.stdout is not None

        def until(ok: bool, write: bool) -> None:
            assert process.stdout is not None
            for line in process.stdout:
                if json.loads(line)[:2] == [ok, write]:
                    return
            raise AssertionError(process.communicate())

        until(True, True)
        locking.pause()
        until(False, False)
        locking.resume()
        until(True, True)
        locking.command(f"dbpf {unique}lock 1")
        until(True, False)


def _dedented(text: str) -> str:
    return "\n".join(line.removeprefix("    ") for line in text.splitlines())


def test_blocking(locking: SoftIoc, unique: str) -> None:
    lock, locked = unique + "lock", unique + "locked"
    try:
        with locking, blocking.watch_connection([locked, unique + "nothing"]) as infos:
            for info in infos:
                if info.ok and info.write:
                    break
            blocking.caput(lock, 1, wait=True)
            info = next(info for info in infos if info.name == locked)
            assert info.ok and info.read and not info.write
            seen: list[CAInfo] = []

            def callback(info: CAInfo) -> None:
                seen.append(info)
                if info.ok and not info.write:
                    raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):  # noqa: SIM117
                with blocking.watch_connection(locked, callback) as monitor:
                    monitor.wait(10)
            locking.kill()
            assert not next(infos).ok
        with pytest.warns(ResourceWarning, match="watch_connection of"):
            blocking.watch_connection(locked)
    finally:
        _loop_thread.close_loop_thread()
