"""Arrays that are too large."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from typing import Any

import anyio
import pytest

from aioca import CARequestError, caget, camonitor, caput, connect, get_channel_infos
from aioca._ca import messages
from aioca.testing import SoftIoc, free_port
from tests.support.programs import environment_for
from tests.support.server_side import FLOOD, FLOOD_DATABASE, LAST_DATABASE, MakeIoc, program
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

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
    from aioca._ca import library as _library
    from aioca import caget
    from epicscorelibs.lib import dbCore_dsoinfo
    ctypes.CDLL(dbCore_dsoinfo.sofilename, mode=ctypes.RTLD_GLOBAL)  # an IOC would be in here
    assert aioca.run(caget("L0"), backend=sys.argv[1]) == 0
    _library.com.errlogPrintf(b"a word of the IOC\\n")
    _library.com.errlogFlush()
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
