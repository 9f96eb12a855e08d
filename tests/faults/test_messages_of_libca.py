"""What libca says on stderr."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from aioca import camonitor, caput
from aioca._ca import messages
from aioca._channels.registry import current
from aioca.testing import SoftIoc
from tests.support.server_side import FLOOD_DATABASE, MakeIoc, program
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def test_a_storm_of_refused_writes(
    own_ioc: MakeIoc, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The first records of the second, and one that counts the others."""
    count = 300
    database = "".join(f'record(ao, "$(P)D{i}") {{ field(DISP, "1") }}\n' for i in range(count))
    pvs = [f"{unique}D{i}" for i in range(count)]
    with own_ioc(database, {"P": unique}), caplog.at_level(logging.INFO, logger="aioca"):
        await caput(pvs, 1)

        def records(text: str) -> list[str]:
            return [r.getMessage() for r in caplog.records if text in r.getMessage()]

        await until(lambda: len(records("left out")) == 1)
        named = records("writing without wait")
        assert 1 <= len(named) < 60
        assert named[0].startswith(f"{unique}D0: ")
        left_out = int(records("left out")[0].split()[0])
        await until(
            lambda: sum(int(t.split()[0]) for t in records("left out")) + len(named) >= count
        )
        assert left_out > 0


NOISE = """
    import atexit

    def at_the_end():  # behind our own last function, which was registered later
        _library.com.errlogPrintf(b"somebody else at the end\\n")
        _library.com.errlogFlush()

    atexit.register(at_the_end)
    import logging, os, sys
    import anyio, aioca
    from aioca._ca import library as _library
    from aioca import camonitor
    logging.basicConfig(filename=sys.argv[2], level=logging.INFO)

    async def main():
        updates = []
        pvs = [f"F{i}" for i in range(50)]
        camonitor(pvs, lambda v, i: updates.append(v), notify_disconnect=True)
        while len(updates) < 50:
            await anyio.sleep(0.01)
        print("ready", flush=True)
        while all(update.ok for update in updates):
            await anyio.sleep(0.01)
        # what libCom itself is told of somebody else comes out as before
        _library.com.errlogPrintf(b"somebody else\\n")
        _library.com.errlogFlush()

    aioca.run(main(), backend=sys.argv[1])
"""


def test_nothing_of_libca_is_on_stderr(
    backend: str, tmp_path: Any, ended: list[subprocess.Popen[str]]
) -> None:
    """A killed server has libca write into libCom's error log: that goes to the logger, too."""
    heard = set()
    for turn in range(3):
        log = tmp_path / f"log{turn}"
        with SoftIoc(FLOOD_DATABASE, {"P": ""}) as ioc:
            client = program(NOISE, ioc, backend, str(log))
            ended.append(client)
            assert client.stdout is not None
            assert client.stdout.readline() == "ready\n"
            assert ioc.process is not None
            os.kill(ioc.process.pid, signal.SIGKILL)
            out, err = client.communicate(timeout=20)
            assert (out, client.returncode) == ("", 0)
            assert err == "somebody else\nsomebody else at the end\n"
            heard.update(line.split(":", 2)[2] for line in log.read_text().splitlines())
    assert any("Channel Access" in line for line in heard), heard


def said_by_libca(text: bytes) -> None:
    """As libCom's thread for the error log calls us."""
    thread = threading.Thread(target=messages._on_errlog, args=(0, text))
    thread.start()
    thread.join()


class Ear:
    """A listener; what it is told."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def is_running(self) -> bool:
        return True

    def circuit_lost(self) -> None:
        self.heard.append("lost")

    def exception(self, status: int, op: int, context: str) -> None:
        self.heard.append(context)

    def printed(self, text: str) -> None:
        self.heard.append(text)


def test_the_first_listener_comes_while_libca_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between any two lines of what libCom's thread does, the loop's may add it: the message is
    handed over once, and nothing fails."""
    turn = lines = 0
    ear = Ear()

    def trace(frame: Any, event: str, _: object) -> Any:
        nonlocal lines
        if frame.f_globals.get("__name__") != "aioca._ca.messages":
            return None
        if event == "line":
            lines += 1
            if lines == turn:
                sys.settrace(None)
                messages.add_listener(1, ear)
        return trace

    while lines >= turn:  # the last one was still within
        turn, lines, ear = turn + 1, 0, Ear()
        monkeypatch.setattr(messages, "_listeners", {})
        monkeypatch.setattr(messages, "_early", deque())
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            messages._on_errlog(0, b"CAC: a message\n")
        finally:
            sys.settrace(before)
        messages.add_listener(2, ear)
        assert ear.heard == ["CAC: a message"], turn
    assert turn > 5


def test_a_message_goes_to_a_loop_that_runs(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """Another, older one may be at rest, until somebody runs it again."""

    async def use() -> None:
        current()

    async def main() -> None:
        current()
        said_by_libca(b"CAC: a message")
        with anyio.fail_after(5):
            while "CAC: a message" not in caplog.text:
                await anyio.sleep(0.001)  # to look again

    at_rest = asyncio.new_event_loop()
    try:
        at_rest.run_until_complete(use())
        with caplog.at_level(logging.INFO, logger="aioca"):
            anyio.run(main, backend=backend)
    finally:
        at_rest.run_until_complete(at_rest.shutdown_asyncgens())
        at_rest.close()


def test_one_record_for_one_lost_circuit(
    own_ioc: Callable[..., SoftIoc], unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever number of loops had channels on it; all of them are told that it was lost."""
    both_connected, looked = threading.Barrier(3), threading.Barrier(3)
    lost: list[object] = []

    async def main() -> None:
        context = current()
        context.circuit_lost = lambda: lost.append(context)  # type: ignore[method-assign]
        async with camonitor(unique + "X", notify_disconnect=True) as updates:
            assert (await anext(updates)).ok
            await anyio.to_thread.run_sync(both_connected.wait, 20)
            assert not (await anext(updates)).ok
            while not caplog.records:
                await anyio.sleep(0.001)  # to look again
            await anyio.to_thread.run_sync(looked.wait, 20)
            # What was posted to both by then has been done after this
            done = anyio.Event()
            context.post(done.set)
            await done.wait()

    with own_ioc('record(ao, "$(P)X") {}', {"P": unique}) as ioc:
        threads = [
            threading.Thread(target=anyio.run, args=(main,), kwargs={"backend": backend})
            for backend in ("asyncio", "trio")
        ]
        with caplog.at_level(logging.INFO, logger="aioca"):
            for thread in threads:
                thread.start()
            both_connected.wait(20)
            ioc.kill()
            looked.wait(20)
            for thread in threads:
                thread.join(20)
    records = [r.getMessage() for r in caplog.records if "disconnect" in r.getMessage()]
    assert len(records) == 1, records
    assert len(set(map(id, lost))) == 2
