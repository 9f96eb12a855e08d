"""The dump of the state, and the log of calls to libca."""

from __future__ import annotations

import re
import signal

import anyio
import pytest

from aioca import _debug, camonitor, caput, connect
from aioca._channels.registry import current
from aioca._requests.get import Get
from aioca.testing import SoftIoc
from tests.support.programs import programs

pytestmark = pytest.mark.anyio


async def test_dump(p: str, unique: str) -> None:
    await connect(p + "ao:free")
    await connect(unique + "absent", wait=False)
    await caput(p + "ao:free", 1)
    async with camonitor(p + "ai", all_updates=True) as updates:
        await anext(updates)
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: caput(p + "slow.A", 1, wait=True))
            await connect(p + "slow.A")
            with anyio.fail_after(5):
                while "under way: 1" not in _debug.dump():
                    await anyio.sleep(0.001)
            text = _debug.dump()
        assert "\n  calls that wait: 1 Put\n" in text
        assert f"'{p}ai' connected, " in text
        assert "type 6 x 1, 1 monitors" in text
        assert f"'{unique}absent' never connected, <disconnected>, priority 0" in text
        assert "8 bytes written and not confirmed" in text
        assert f"'{p}slow.A' connected" in text and "a put-callback is under way" in text
        assert "3 connected, 1 never connected" in text
        assert "MainThread" in text


async def test_internal_objects_show_what_they_are(p: str) -> None:
    context = current()
    channel = context.channel(p + "ao:free")
    assert repr(channel) == f"<Channel '{p}ao:free' never connected>"
    await connect(p + "ao:free")
    assert repr(channel) == f"<Channel '{p}ao:free' connected>"
    assert repr(context).startswith("<LoopContext 1 channels, ")
    assert (
        repr(Get(context, [channel], None, 0, 0))
        == f"<Get '{p}ao:free' of 1 PVs, 1 without an outcome>"
    )
    assert re.fullmatch(r"<\w+Portal \d+ queued, awake (True|False)>", repr(context.portal))
    async with camonitor(p + "ao:free") as updates:
        await anext(updates)
        (monitor,) = channel.monitors
        assert repr(monitor) == f"<StreamMonitor '{p}ao:free' open>"
    assert repr(monitor) == f"<StreamMonitor '{p}ao:free' closed>"


async def test_dump_of_many(unique: str) -> None:
    await connect([f"{unique}{i}" for i in range(_debug.MAX_CHANNELS + 3)], wait=False)
    assert "    and 3 more" in _debug.dump()


def test_dump_of_nothing() -> None:
    assert _debug.dump().splitlines()[1:] == ["tokens: 0 (none)"]


PROGRAM = """
    import logging, os, signal, sys
    logging.basicConfig(level=logging.DEBUG, format="%(name)s %(message)s")
    import aioca

    async def main():
        await aioca.caput("X", 2.5, wait=True)
        await aioca.caget("X")
        if sys.argv[1] == "1":
            os.kill(os.getpid(), signal.SIGUSR1)

    aioca.run(main())
    print("aioca._debug" in sys.modules)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no SIGUSR1")
@pytest.mark.parametrize("debug", ["1", "0"])
def test_log_of_calls_and_dump_at_a_signal(
    ioc: SoftIoc, p: str, debug: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIOCA_DEBUG", debug)
    with programs(ioc.port) as start:
        program = start(PROGRAM.replace('"X"', repr(p + "ao:free")), debug)
        out, err = program.communicate(timeout=20)
    logged = [line for line in err.splitlines() if line.startswith("aioca.libca ")]
    assert out == f"{debug == '1'}\n", err
    if debug == "0":
        assert logged == []
        return
    assert any(line.startswith("aioca.libca put_callback(6, 1, 0x") for line in logged), err
    assert any(line.startswith("aioca.libca get_callback(") for line in logged)
    assert f"'{p}ao:free' connected" in err
