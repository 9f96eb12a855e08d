"""A server that sends anything in reply to a write, and what the doctor makes of servers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from aioca import (
    DBR_DOUBLE,
    DBR_STRING,
    CARequestError,
    CATimeout,
    caget,
    caput,
    connect,
    wait_for_value,
)
from aioca._ca.libca import ECA_PUTFAIL
from aioca.testing import free_port
from tests.support import hostile
from tests.support.hostile import (
    CREATE_CHAN,
    NORMAL,
    READ_NOTIFY,
    WRITE,
    WRITE_NOTIFY,
    HostileServer,
    Request,
    payload,
    reply,
)
from tests.support.hostile_calls import NOWHERE, SOON, outcome, refusal, told
from tests.support.iocs import PORTS
from tests.support.programs import environment_for

pytestmark = pytest.mark.anyio

CLASS_NAME = 38


# -- Writing ---------------------------------------------------------------------------------------
WRITES: dict[str, tuple[Callable[[Request], bytes], Any]] = {
    "nothing": (lambda r: b"", CATimeout),
    "status 0": (lambda r: reply(r, status=0), 0),
    "status 2": (lambda r: reply(r, status=2), 2),
    "status -1": (lambda r: reply(r, status=0xFFFFFFFF), -1),
    "channel destroyed, it says": (lambda r: reply(r, status=440), CATimeout),
    "to nobody": (lambda r: reply(r, available=NOWHERE), CATimeout),
    "twice": (lambda r: reply(r) * 2, None),
    "with a body": (lambda r: reply(r, bytes(800)), None),
    "with another type and count": (lambda r: reply(r, type=65535, count=2**32 - 1), None),
    "refused": (lambda r: refusal(r, WRITE_NOTIFY, 160, b"no reason\0"), 160),
}


@pytest.mark.parametrize(("answer", "expected"), WRITES.values(), ids=WRITES)
async def test_writing(
    server: HostileServer, unique: str, answer: Callable[[Request], bytes], expected: Any
) -> None:
    """What is not known to have been done is not said to have been; the next one is."""
    pv = server.add(unique + "X", DBR_DOUBLE, 1, 1.5)
    await connect(pv)
    server.on[WRITE_NOTIFY] = answer
    timeout = SOON if expected is CATimeout else 5
    found = await outcome(pv, caput(pv, 1, wait=True, timeout=timeout), timeout + 3)
    if expected is None:
        assert found.ok
    elif expected is CATimeout:
        assert type(found) is CATimeout
    else:
        assert type(found) is CARequestError
        assert found.errorcode == expected
    server.behave()
    assert (await outcome(pv, caput(pv, 2, wait=True))).ok
    assert await outcome(pv, caget(pv)) == 1.5


async def test_a_write_that_fails_may_have_been_carried_out(
    server: HostileServer, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    """ECA_PUTFAIL is all that a server sends, be it for a value that it refuses, for an accepted
    write that fails, or (a gateway) for an IOC that dies meanwhile: nobody can tell them apart."""
    pv = server.add(unique + "X", DBR_DOUBLE, 1, 1.5)
    await connect(pv)
    server.on[WRITE_NOTIFY] = lambda r: reply(r, status=ECA_PUTFAIL)
    with pytest.raises(CARequestError) as caught:
        await caput(pv, 1, wait=True)
    assert caught.value.errorcode == ECA_PUTFAIL
    text = str(caught.value)
    assert "it refused the value, or failed after it had accepted the value" in text
    assert "outcome unknown" in text
    nothing = await caput(pv, 1, wait=True, throw=False)
    assert str(nothing) == text
    channels = server.seen(CREATE_CHAN, pv)
    server.on[WRITE] = lambda r: refusal(r, WRITE, ECA_PUTFAIL, available=channels[-1].cid)
    await caput(pv, 1)
    with anyio.fail_after(5):
        while not caplog.records:
            await anyio.sleep(0.005)  # nobody tells of the log
    text = caplog.records[0].getMessage()
    assert text.startswith(pv + ": ")
    assert "reports that the write failed" in text
    assert "outcome unknown" in text
    assert "not accepted" not in text


async def test_refused_without_wait(
    server: HostileServer, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A refusal goes to the log, whose words come from the server; a thousand do no harm."""
    pv = server.add(unique + "X", DBR_DOUBLE, 1, 1.5)
    await connect(pv)
    channels = server.seen(CREATE_CHAN, pv)
    for context in (b"", b"reason\0", b"\xff\n" * 8, b"no NUL" * 2000):
        server.on[WRITE] = lambda r, context=context: refusal(
            r, WRITE, 160, context, available=channels[-1].cid
        )
        caplog.clear()
        await caput(pv, 1)
        with anyio.fail_after(5):
            while not [r for r in caplog.records if pv in r.getMessage()]:
                await anyio.sleep(0.005)  # nobody tells of the log
    server.on[WRITE] = lambda r: refusal(r, WRITE, 160, available=channels[-1].cid) * 1000
    await caput(pv, 1)
    server.behave()
    assert await outcome(pv, caget(pv)) == 1.5


class OnePutAtATime:
    """A server that reads nothing more from a client once it has a second put-callback of a PV,
    until the first has ended, as those of PCAS do."""

    COMMANDS = (WRITE_NOTIFY, hostile.READ_NOTIFY, hostile.EVENT_ADD, CREATE_CHAN, hostile.ECHO)

    def __init__(self, server: HostileServer, slow: str) -> None:
        self._server, self._slow = server, slow
        self._first: Request | None = None
        self.unread: list[Request] = []
        for command in self.COMMANDS:
            server.on[command] = self._take

    def _take(self, request: Request) -> bytes:
        put = request.command == WRITE_NOTIFY and request.pv and request.pv.name == self._slow
        if self.unread or (put and self._first is not None):
            self.unread.append(request)
            return b""
        if put:
            self._first = request
            return b""
        return NORMAL  # type: ignore[no-any-return]

    def end(self) -> None:
        """The first put ends, and all the rest is served."""
        first, self._first = self._first, None
        assert first is not None
        self._server.behave()
        for request in (first, *self.unread):
            request.circuit.send(self._server.answer(request))


async def test_a_server_that_is_busy_with_a_put(server: HostileServer, unique: str) -> None:
    """Whoever gets no reply is told of the write that may be the reason."""
    slow, other, new = (server.add(unique + n, DBR_DOUBLE, 1, 1.5) for n in ("SLOW", "X", "NEW"))
    reason = rf"; a caput\(wait=True\) of {slow} on the same server, .*:{server.port}, is still"
    done: list[Any] = []

    async def put(value: float) -> None:
        done.append(await caput(slow, value, wait=True, timeout=None))

    await connect([slow, other])
    busy = OnePutAtATime(server, slow)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(put, 1)
            await told(server, lambda: server.seen(WRITE_NOTIFY, slow))
            assert await caget(other) == 1.5  # one does not keep it from serving others
            group.start_soon(put, 2)
            await told(server, lambda: busy.unread)
            for call in (
                caget(other, timeout=SOON),
                caget(new, timeout=SOON),
                caget([other, new], timeout=SOON),
                caput(other, 1, wait=True, timeout=SOON),
                caput(slow, 3, wait=True, timeout=SOON),
                wait_for_value(other, 1.5, timeout=SOON),
            ):
                with pytest.raises(CATimeout, match=reason):
                    await call
            busy.end()
    assert len(done) == 2
    assert await caget(other) == 1.5


async def test_a_put_is_not_held_up_by_itself(server: HostileServer, unique: str) -> None:
    """Nor by a later one, nor by one to another server. One that nobody waits for any more still
    keeps the server busy."""
    slow, other = (server.add(unique + n, DBR_DOUBLE, 1, 1.5) for n in ("SLOW", "X"))
    await connect([slow, other])
    busy = OnePutAtATime(server, slow)

    async def later() -> None:
        await told(server, lambda: server.seen(WRITE_NOTIFY, slow))
        await caput(slow, 2, wait=True)

    with HostileServer(PORTS[4]) as another, anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(later)
            with pytest.raises(CATimeout, match="has not reported its completion") as info:
                await caput(slow, 1, wait=True, timeout=4 * SOON)
            assert "is still being processed" not in str(info.value)
            elsewhere = another.add(unique + "ELSEWHERE", DBR_DOUBLE)
            another.on[hostile.READ_NOTIFY] = lambda r: b""
            with pytest.raises(CATimeout, match="has not replied") as info:
                await caget(elsewhere, timeout=1)
            assert "is still being processed" not in str(info.value)
            with pytest.raises(CATimeout, match=rf"{slow} .* is still being processed"):
                await caget(other, timeout=SOON)
            busy.end()


# -- What the doctor makes of other servers --------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "of_desc", "behind"),
    [
        ("Not Supported by Gateway", "Not Supported by Gateway", "gateway"),
        ("caproto", "caproto", "caproto"),
        ("ai", "caproto", "caproto"),  # a caproto PV may have the type of a record
        ("ai", "ai", "record"),
    ],
)
def test_the_doctor_knows_servers_that_are_no_iocs(
    server: HostileServer, unique: str, kind: str, of_desc: str, behind: str
) -> None:
    """By what they say instead of a record type. No rule in an IOC's file helps with theirs."""
    pv = server.add(unique + "X", DBR_DOUBLE, 1, 1.5, rights=hostile.READ_ACCESS)
    other = server.add(pv + ".DESC", DBR_STRING, 1, b"text")
    names = {pv: kind, other: of_desc}
    server.on[READ_NOTIFY] = lambda r: (
        reply(r, payload(CLASS_NAME, names[r.pv.name].encode())) if r.type == CLASS_NAME else NORMAL
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "aioca", "doctor", "--json", "--window", "0.3", pv],
        env={**environment_for(server.port), "EPICS_CA_REPEATER_PORT": str(free_port())},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["pvs"][0]["behind"] == behind
    advice = " ".join(finding["advice"] for finding in report["findings"])
    assert "RULE" not in advice
    if behind == "gateway":
        assert "if that IOC is down, no server answers for its PVs" in advice
