"""Values that are written without wait are not lost."""

from __future__ import annotations

import re
import subprocess
import time
from itertools import pairwise

import anyio
import pytest

from aioca import caget, caput, connect
from aioca.testing import SoftIoc
from tests.support.server_side import LAST_DATABASE, MakeIoc, program

pytestmark = pytest.mark.anyio

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


# More than the sockets of a loopback connection hold
LARGE = 'record(waveform, "ARRAY") { field(FTVL, "DOUBLE") field(NELM, "1000000") }'
PURGE = """
    import sys
    import numpy as np
    import aioca

    async def main():
        await aioca.connect("ARRAY")
        print("ready", flush=True)
        sys.stdin.readline()
        await aioca.caput("ARRAY", np.full(1_000_000, 7.0))
        print("written", flush=True)
        aioca.purge_channel_caches()
        print("purged", flush=True)

    aioca.run(main(), backend=sys.argv[1])
"""


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
        assert ": the channels are being closed, and the server has not confirmed" in err
        assert err.startswith("L0, L1, L2, L3, L4 and ")
        assert len(err.splitlines()) == 1  # one for each server
        ioc.resume()


@pytest.mark.parametrize("resumes", [True, False])
def test_written_just_before_a_purge(
    backend: str, resumes: bool, ended: list[subprocess.Popen[str]]
) -> None:
    """The purge waits for it, because libca drops what it has not sent when channels are cleared.

    The server does not read until the value was written.
    """
    with SoftIoc(LARGE) as ioc:
        client = program(PURGE, ioc, backend)
        ended.append(client)
        assert client.stdin is not None
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        ioc.pause()
        client.stdin.write("\n")
        client.stdin.flush()
        assert client.stdout.readline() == "written\n"
        if resumes:
            ioc.resume()
        out, err = client.communicate(timeout=20)
        assert (out, client.returncode) == ("purged\n", 0)
        warning = "ARRAY: the channels are being closed, and the server has not confirmed"
        if resumes:  # a busy machine may take longer than the purge waits
            assert value(ioc, "ARRAY") == 7 or err.startswith(warning)
        else:
            assert err.startswith(warning)
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
        assert 1 <= len(sent) <= 3
        for refused in outcomes[sent[-1] :]:
            assert f"{refused}".startswith(unique + "W: ")
            assert "not sent" in str(refused)
        assert longest < 0.5  # not the 30 s for which libca would wait
        ioc.resume()
        assert (await caget(unique + "W"))[-1] == sent[-1]
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
