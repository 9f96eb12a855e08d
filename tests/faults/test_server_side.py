"""What a server sees and what it is sent: nothing of ours outlives us there, nothing is lost."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import anyio
import pytest

from aioca import CARequestError, caget, camonitor, caput, connect, get_channel_infos
from aioca._ca import messages
from aioca._channels.registry import current
from aioca.testing import SoftIoc, free_port
from conftest import environment_for

pytestmark = pytest.mark.anyio
MakeIoc = Callable[..., SoftIoc]

FLOOD = 2000
FLOOD_DATABASE = "".join(
    f'record(calc, "$(P)F{i}") {{ field(SCAN, ".1 second") field(CALC, "VAL+1") }}\n'
    for i in range(FLOOD)
)


def subscriptions(ioc: SoftIoc, pv: str) -> int:
    """How many the server has on a PV (its ``dbel``)."""
    found = re.search(r"(\d+|No) PV [Ee]vent [Ss]ubscriptions", ioc.command(f"dbel {pv} 0"))
    assert found is not None
    return 0 if found[1] == "No" else int(found[1])


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Look again until it holds: nobody tells of what happens in a server."""
    with anyio.fail_after(seconds):
        while not condition():
            await anyio.sleep(0.01)


# -- Closing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [{"all_updates": True}, {}, {"max_pending": 3}], ids=str)
async def test_closing_in_a_flood(own_ioc: MakeIoc, unique: str, policy: dict[str, Any]) -> None:
    """The loop is not kept by it, no callback comes after it, and the server is rid of them all."""
    pvs = [f"{unique}F{i}" for i in range(FLOOD)]
    closed = False
    updates = late = 0

    def callback(value: Any, index: int) -> None:
        nonlocal updates, late
        updates += 1
        late += closed

    with own_ioc(FLOOD_DATABASE, {"P": unique}) as ioc:
        subscriptions_ = camonitor(pvs, callback, **policy)
        await until(lambda: updates > 3 * FLOOD, 30)
        gc.disable()  # in a process of thousands of tests a full collection can take as long
        try:
            began = time.monotonic()
            closed = True
            for subscription in subscriptions_:
                subscription.close()
            took = time.monotonic() - began
        finally:
            gc.enable()
        # Waiting for libca's lock would be some 5 ms for each
        assert took < 1.0
        await until(lambda: not any(subscriptions(ioc, pv) for pv in (pvs[0], pvs[-1])))
        assert await caget(pvs[-1]) > 0
    assert late == 0


async def test_closed_and_opened_again_in_a_flood(own_ioc: MakeIoc, unique: str) -> None:
    """Each time there is one subscription on the server, and updates of the latest one only."""
    pvs = [f"{unique}F{i}" for i in range(FLOOD)]
    last: dict[int, float] = {}
    with own_ioc(FLOOD_DATABASE, {"P": unique}) as ioc:
        flood = camonitor(
            pvs, lambda value, index: last.__setitem__(index, value), all_updates=True
        )
        await until(lambda: len(last) == FLOOD, 30)
        watched = pvs[7]
        for turn in range(20):
            seen: list[tuple[int, float]] = []
            subscription = camonitor(watched, lambda v, t=turn, seen=seen: seen.append((t, v)))
            await until(lambda seen=seen: len(seen) >= 2)
            subscription.close()
            assert {t for t, _ in seen} == {turn}
            assert [v for _, v in seen] == sorted(v for _, v in seen)
        await until(lambda: subscriptions(ioc, watched) == 1)
        flood.close()
        await until(lambda: subscriptions(ioc, watched) == 0)


# -- A server that did not respond for a while -----------------------------------------------------

SPELL = """
    import json, sys
    import anyio, aioca
    from aioca import caget, camonitor, caput, connect
    from aioca._channels.registry import current

    async def main():
        updates = []
        subscription = camonitor(sys.argv[2], updates.append, notify_disconnect=True)
        while not updates:
            await anyio.sleep(0.01)
        await connect(sys.argv[3])
        print("ready", flush=True)
        while all(update.ok for update in updates):
            await anyio.sleep(0.01)
        print("down", flush=True)
        while not updates[-1].ok or updates[-1] != 5:
            await anyio.sleep(0.01)
        print("up", flush=True)
        assert await caget(sys.argv[2]) == 5
        await caput(sys.argv[2], 6, wait=True)
        # Else every update of every monitor would take a way that is slower.
        while current().pending_updates.ignored_keys:
            await anyio.sleep(0.01)
        while updates[-1] != 6:
            await anyio.sleep(0.01)
        subscription.close()
        print("closed", json.dumps([float(u) if u.ok else None for u in updates]), flush=True)
        await anyio.to_thread.run_sync(sys.stdin.readline)

    aioca.run(main(), backend=sys.argv[1])
"""


def program(text: str, ioc: SoftIoc, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-c", textwrap.dedent(text), *arguments],
        env={**environment_for(ioc.port), **environment},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture
def ended() -> Iterator[list[subprocess.Popen[str]]]:
    """Programs that are ended after the test."""
    programs: list[subprocess.Popen[str]] = []
    yield programs
    for each in programs:
        each.kill()
        each.communicate()


def test_no_subscription_is_left_after_an_unresponsive_spell(
    backend: str, ended: list[subprocess.Popen[str]]
) -> None:
    """libca itself would never cancel it on the server: only its channel's end does."""
    with SoftIoc('record(ao, "X") { field(VAL, "5") } record(ao, "Y") {}') as ioc:
        client = program(SPELL, ioc, backend, "X", "Y", EPICS_CA_CONN_TMO="1")
        ended.append(client)
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        assert subscriptions(ioc, "X") == 1
        ioc.pause()
        assert client.stdout.readline() == "down\n"
        ioc.resume()
        assert client.stdout.readline() == "up\n"
        line = client.stdout.readline()
        assert line.startswith("closed "), (line, client.communicate(timeout=10))
        updates = json.loads(line.removeprefix("closed "))
        assert updates[0] == 5
        assert updates.count(None) == 1
        assert updates[-1] == 6
        deadline = time.monotonic() + 10
        while subscriptions(ioc, "X") and time.monotonic() < deadline:
            time.sleep(0.01)  # to look again
        assert subscriptions(ioc, "X") == 0
        out, err = client.communicate("\n", timeout=10)
        # Python's logging shows warnings where nobody has set it up.
        (warning,) = err.splitlines()
        assert warning.startswith("Channel Access: Virtual circuit unresponsive")
        assert (out, client.returncode) == ("", 0)


# -- Written without wait --------------------------------------------------------------------------

LAST_WORDS = """
    import sys, time
    import aioca
    from aioca import caput, connect

    async def main():
        pvs = [f"L{i}" for i in range(200)]
        await connect([*pvs, "ARRAY", "LAST"])
        print("ready", flush=True)
        sys.stdin.readline()
        await caput(pvs, float(sys.argv[2]))
        await caput("ARRAY", [float(sys.argv[2])] * 90000)
        await caput("LAST", float(sys.argv[2]))

    aioca.run(main(), backend=sys.argv[1])
    print("over", flush=True)
"""

LAST_DATABASE = (
    "".join(f'record(ao, "L{i}") {{}}\n' for i in range(200))
    + 'record(ao, "LAST") {}\n'
    + 'record(waveform, "ARRAY") { field(FTVL, "DOUBLE") field(NELM, "90000") }'
)


def value(ioc: SoftIoc, pv: str) -> float:
    """The value of a PV on the server, the first of an array."""
    found = re.search(r"DBF_DOUBLE[^:]*: *([-0-9.e+]+)", ioc.command(f"dbgf {pv}"))
    assert found is not None
    return float(found[1])


def test_written_just_before_the_end(backend: str, ended: list[subprocess.Popen[str]]) -> None:
    """It arrives, though the process ends at once."""
    with SoftIoc(LAST_DATABASE) as ioc:
        for turn in range(1, 6):
            client = program(LAST_WORDS, ioc, backend, str(turn))
            ended.append(client)
            out, err = client.communicate("\n", timeout=20)
            assert (out, err, client.returncode) == ("ready\nover\n", "", 0)
            deadline = time.monotonic() + 10
            while value(ioc, "LAST") != turn and time.monotonic() < deadline:
                time.sleep(0.01)  # the server has it, and may still be processing it
            assert [value(ioc, pv) for pv in ("L0", "L199", "ARRAY", "LAST")] == [turn] * 4


def test_written_to_a_server_that_has_stopped(
    backend: str, ended: list[subprocess.Popen[str]]
) -> None:
    """The end waits for it for a second, and says so; then the process ends."""
    with SoftIoc(LAST_DATABASE) as ioc:
        client = program(LAST_WORDS, ioc, backend, "1")
        ended.append(client)
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        ioc.pause()
        began = time.monotonic()
        out, err = client.communicate("\n", timeout=20)
        assert time.monotonic() - began < 3  # with what Python takes to end
        assert out == "over\n"
        assert client.returncode == 0
        assert ": the run has ended, and the server has not confirmed" in err
        assert err.startswith("L0, L1, L2, L3, L4 and ")
        assert len(err.splitlines()) == 1  # one for each server
        ioc.resume()


async def test_many_values_without_wait_to_a_stopped_server(own_ioc: MakeIoc, unique: str) -> None:
    """The loop goes on; what is not sent is said not to be; what was sent arrives, in order."""
    database = (
        'record(waveform, "$(P)W") { field(FTVL, "DOUBLE") field(NELM, "100000") }\n'
        'record(ao, "$(P)X") {}'
    )
    array = [0.0] * 100_000
    with own_ioc(database, {"P": unique}) as ioc:
        await connect([unique + "W", unique + "X"])
        ioc.pause()
        outcomes = []
        longest = 0.0
        for turn in range(1, 11):
            array[0] = array[-1] = float(turn)
            began = time.monotonic()
            outcomes.append(await caput(unique + "W", array, timeout=0.05, throw=False))
            longest = max(longest, time.monotonic() - began)
        sent = [turn for turn, outcome in enumerate(outcomes, 1) if outcome.ok]
        assert sent == list(range(1, len(sent) + 1))
        assert 1 <= len(sent) <= 3
        refused = outcomes[len(sent)]
        assert f"{refused}".startswith(unique + "W: ")
        assert "not sent" in str(refused)
        assert longest < 0.5  # not the 30 s for which libca would wait
        ioc.resume()
        assert (await caget(unique + "W"))[-1] == len(sent)
        # And now there is room again
        assert await caput(unique + "W", array, timeout=5)
        assert (await caget(unique + "W"))[-1] == 10


async def test_values_with_wait_to_a_stopped_server(own_ioc: MakeIoc, unique: str) -> None:
    """Ten of 800 kB: all end by their deadline with an outcome that is unknown."""
    database = "".join(
        f'record(waveform, "$(P)W{i}") {{ field(FTVL, "DOUBLE") field(NELM, "100000") }}\n'
        for i in range(10)
    )
    pvs = [f"{unique}W{i}" for i in range(10)]
    beats: list[float] = []

    async def beat() -> None:
        while True:
            beats.append(time.monotonic())
            await anyio.sleep(0.005)

    with own_ioc(database, {"P": unique}) as ioc:
        await connect(pvs)
        ioc.pause()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(beat)
            outcomes = await caput(pvs, [[1.0] * 100_000] * 10, wait=True, timeout=1, throw=False)
            tasks.cancel_scope.cancel()
        assert not any(outcome.ok for outcome in outcomes)
        assert all("outcome unknown" in str(outcome) for outcome in outcomes)
        # Encoding ten lists of 100,000 numbers takes what it takes; libca would take 30 s
        assert max(b - a for a, b in pairwise(beats)) < 1.0
        ioc.resume()
        for pv in pvs:
            assert (await caget(pv))[-1] in (0.0, 1.0)


# -- What libca says -------------------------------------------------------------------------------


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
        _libca.com.errlogPrintf(b"somebody else at the end\\n")
        _libca.com.errlogFlush()

    atexit.register(at_the_end)
    import logging, os, sys
    import anyio, aioca
    from aioca._ca import libca as _libca
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
        _libca.com.errlogPrintf(b"somebody else\\n")
        _libca.com.errlogFlush()

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


# -- Arrays that are too large ---------------------------------------------------------------------

ARRAYS = """
record(waveform, "$(P)W") { field(FTVL, "DOUBLE") field(NELM, "5000") }
record(waveform, "$(P)V") { field(FTVL, "CHAR") field(NELM, "50000") }
record(waveform, "$(P)S") { field(FTVL, "DOUBLE") field(NELM, "1000") }
"""

LIMIT = """
    import os, sys
    import aioca
    from aioca import FORMAT_RAW, FORMAT_TIME, caget, caput
    from aioca._ca.array_limit import limit_of

    async def main():
        await caput("W", range(5000), wait=True)  # there is no limit to what is written
        limit = limit_of(os.environ)
        print(limit, flush=True)
        for format, before in ((FORMAT_RAW, 0), (FORMAT_TIME, 16)):
            most = 4999 if limit is None else (limit - before) // 8
            assert (await caget("W", count=most, format=format))[-1] == most - 1
            value = await caget("W", count=most + 1, format=format, timeout=0.5, throw=False)
            assert value.ok == (limit is None), value

    aioca.run(main())
"""


@pytest.mark.parametrize(
    ("auto", "most", "limit"),
    [
        ("NO", None, 16408),  # 16384, and the header
        ("NO", "16384", 16408),
        ("NO", "16350", 16384),
        ("NO", "20000", 20024),
        ("no", "", 16384),
        ("NO", "-5", 16384),
        ("NO", "lots", 16384),
        ("NO", "17e3", 16384),
        (" yes", "17000", 17024),
        ("", "16384", None),
        ("yEs", "16384", None),
    ],
)
def test_how_large_an_array_may_be(
    auto: str, most: str | None, limit: int | None, ended: list[subprocess.Popen[str]]
) -> None:
    """What is thought to be libca's limit is: one element more does not come."""
    environment = {"EPICS_CA_AUTO_ARRAY_BYTES": auto}
    if most is not None:
        environment["EPICS_CA_MAX_ARRAY_BYTES"] = most
    with SoftIoc(ARRAYS, {"P": ""}) as ioc:
        client = program(LIMIT, ioc, **environment)
        ended.append(client)
        out, err = client.communicate(timeout=60)
    assert (client.returncode, out) == (0, f"{limit}\n"), err


TOO_LARGE = """
    import json, logging, sys
    import anyio, aioca
    from aioca import caget, camonitor, caput, wait_for_value

    logged = []
    class Handler(logging.Handler):
        def emit(self, record):
            logged.append((record.levelname, record.getMessage()))
    logging.getLogger("aioca").addHandler(Handler())
    logging.getLogger("aioca").setLevel(logging.INFO)
    policy = json.loads(sys.argv[2])

    async def until(condition):
        with anyio.fail_after(10):
            while not condition():
                await anyio.sleep(0.01)

    def naming(name):
        return [(level, text) for level, text in logged if text.startswith(name + ":")]

    async def main():
        await caput(["W", "V", "S"], [1] * 100, repeat_value=True, wait=True)
        small, told = [], []
        async with camonitor(["W", "S"], lambda v, i: small.append(v), notify_disconnect=True,
                             **policy):
            await until(lambda: len(small) == 2)
            await anyio.sleep(2.2)  # nothing more must come: what was there is small enough
            assert [v.name for v in small if v.ok] == ["W", "S"] and len(small) == 2, small
            assert logged == [], logged
            # It grows
            await caput("W", range(5000), wait=True)
            await until(lambda: naming("W"))
        # What is too large from the beginning
        async with camonitor("W", told.append, notify_disconnect=True, **policy):
            await until(lambda: told)
            assert told[0].errorcode == 72 and not told[0].ok
            print("monitor", told[0])
            await caput("W", [1, 2, 3], wait=True)
            await until(lambda: len(told) == 2)
            assert list(told[1]) == [1, 2, 3]
            await caput("W", range(5000), wait=True)
        for call in (caget("W", timeout=0.3), wait_for_value("W", 1, timeout=0.3)):
            try:
                await call
            except aioca.CATimeout as error:
                print("call", error)
        assert len(await caget("W", count=10)) == 10
        await caput("V", [1] * 50000, wait=True)
        values = await caget(["V", "S"], timeout=0.5, throw=False)
        print("list", values[0])
        assert values[1].ok
        await until(lambda: naming("V"))
        for level, text in logged:
            print("log", level, text)

    aioca.run(main(), backend=sys.argv[1])
"""


@pytest.mark.parametrize("policy", ["{}", '{"all_updates": true}', '{"max_pending": 3}'])
def test_an_array_that_libca_drops(
    backend: str, policy: str, ended: list[subprocess.Popen[str]]
) -> None:
    """The setting is named on the PV: by the time-out, to the monitor, and once in the log."""
    with SoftIoc(ARRAYS, {"P": ""}) as ioc:
        client = program(
            TOO_LARGE, ioc, backend, policy,
            EPICS_CA_AUTO_ARRAY_BYTES="NO", EPICS_CA_MAX_ARRAY_BYTES="16384",
        )  # fmt: skip
        ended.append(client)
        out, err = client.communicate(timeout=60)
    assert (client.returncode, err) == (0, "")
    said: dict[str, list[str]] = {}
    for line in out.splitlines():
        kind, _, text = line.partition(" ")
        said.setdefault(kind, []).append(text)
    assert [len(said[kind]) for kind in ("monitor", "call", "list")] == [1, 2, 1]
    for text in (*said["monitor"], *said["call"], *said["list"]):
        assert "EPICS_CA_MAX_ARRAY_BYTES=16384" in text
        assert "EPICS_CA_AUTO_ARRAY_BYTES=NO" in text
        assert "libca drops more than 16408" in text
    assert "up to 5000 elements are 40016 bytes" in said["monitor"][0]
    assert "the server has not replied" not in out
    # Once for each PV that was asked for, and once what libca says of it
    warnings = [text.removeprefix("WARNING ") for text in said["log"] if "WARNING" in text]
    assert sorted(text.split(":")[0] for text in warnings) == ["Channel Access", "V", "W"]
    assert all("EPICS_CA_MAX_ARRAY_BYTES" in text for text in warnings)


async def test_no_memory_for_an_array(p: str, caplog: pytest.LogCaptureFixture) -> None:
    """Where there is no limit, libca has dropped it for that. Nobody is told of a setting."""
    await connect(p + "wf:big")
    messages._on_printf(messages._NO_ROOM + b" (ignoring response message)\n", 0)
    await until(lambda: bool(caplog.records))
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "no memory for a message" in record.getMessage()
    assert "EPICS" not in record.getMessage()


async def test_an_array_that_the_server_does_not_send(
    own_ioc: MakeIoc, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The setting to change is the server's own."""
    ioc = own_ioc(ARRAYS, {"P": unique})
    ioc.environment["EPICS_CA_AUTO_ARRAY_BYTES"] = "NO"
    pv = unique + "W"
    heard: list[Any] = []

    def is_named(text: str, doing: str) -> None:
        assert text.startswith(pv + ": ")
        assert f"({doing}: the array is larger than the server" in text
        assert (
            "EPICS_CA_MAX_ARRAY_BYTES in the environment of the server, not of this client" in text
        )

    with ioc:
        for call, doing in (
            (caget(pv), "reading"),
            (caput(pv, range(5000), wait=True), "writing"),
        ):
            with pytest.raises(CARequestError) as caught:
                await call
            assert caught.value.errorcode == 72
            is_named(str(caught.value), doing)
        assert (await caget(pv, count=1)).ok
        async with camonitor(pv, heard.append, notify_disconnect=True):
            await until(lambda: bool(heard))
            is_named(str(heard[0]), "monitoring")
        await caput(pv, range(5000))
        async with camonitor(pv, heard.append):
            await until(lambda: len(caplog.records) == 2)
        for record in caplog.records:
            doing = "monitoring" if record.levelname == "WARNING" else "writing without wait"
            is_named(record.getMessage(), doing)
        assert {record.levelname for record in caplog.records} == {"WARNING", "ERROR"}


NO_NAME_SERVER = """
    import logging, sys
    import anyio, aioca
    heard = []
    class Heard(logging.Handler):
        def emit(self, record):
            heard.append(record.getMessage())
            if "refused" in heard[-1]:
                over.set()
    logger = logging.getLogger("aioca")
    logger.addHandler(Heard())
    logger.setLevel(logging.INFO)

    async def main():
        global over
        over = anyio.Event()
        async with aioca.camonitor("NOBODY"):
            with anyio.fail_after(10):
                await over.wait()

    aioca.run(main(), backend=sys.argv[1])
"""


def test_what_libca_says_before_anybody_listens(backend: str) -> None:
    """It connects to name servers as soon as its context is made."""
    environment = environment_for(free_port())
    environment["EPICS_CA_NAME_SERVERS"] = f"127.0.0.1:{free_port()}"
    for _ in range(5):  # at each, its thread may be earlier or later
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(NO_NAME_SERVER), backend],
            env=environment, capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


BESIDE_AN_IOC = """
    import ctypes, sys
    import aioca
    from aioca._ca import libca as _libca
    from aioca import caget
    from epicscorelibs.lib import dbCore_dsoinfo
    ctypes.CDLL(dbCore_dsoinfo.sofilename, mode=ctypes.RTLD_GLOBAL)  # an IOC would be in here
    assert aioca.run(caget("L0"), backend=sys.argv[1]) == 0
    _libca.com.errlogPrintf(b"a word of the IOC\\n")
    _libca.com.errlogFlush()
"""


def test_an_ioc_in_the_same_process_keeps_its_output(
    backend: str, ended: list[subprocess.Popen[str]]
) -> None:
    with SoftIoc(LAST_DATABASE) as ioc:
        client = program(BESIDE_AN_IOC, ioc, backend)
        ended.append(client)
        out, err = client.communicate(timeout=20)
        assert (out, err, client.returncode) == ("", "a word of the IOC\n", 0)


async def test_no_channel_is_left(own_ioc: MakeIoc, unique: str) -> None:
    """Of a run that ends in a flood: shown by a second run in the same process."""
    with own_ioc(FLOOD_DATABASE, {"P": unique}) as ioc:
        pvs = [f"{unique}F{i}" for i in range(FLOOD)]

        def run_once() -> float:
            async def main() -> None:
                updates = 0

                def callback(value: Any, index: int) -> None:
                    nonlocal updates
                    updates += 1

                camonitor(pvs, callback, all_updates=True)
                await until(lambda: updates > 2 * FLOOD, 30)

            began = time.monotonic()
            anyio.run(main, backend="asyncio")
            return time.monotonic() - began

        took = await anyio.to_thread.run_sync(run_once)
        assert get_channel_infos() == []
        assert took < 15  # waiting for the lock for each would be ten more
        await until(lambda: ioc.client_count() == 0)
