"""What has to work with every server, continued: what makes servers differ, and a comparison.

Beside `core_checks`: arrays without elements, texts for numbers, writes that overlap, 10,000 PVs,
and every command of the command line against the tools of EPICS base, on the same PVs.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

from aioca import (
    DBE_ALARM,
    DBR_CLASS_NAME,
    DBR_DOUBLE,
    DBR_ENUM,
    ECA,
    FORMAT_TIME,
    CAError,
    CANothing,
    caget,
    cainfo,
    camonitor,
    caput,
    connect,
    get_channel_infos,
    snapshot,
    wait_for_value,
    watch_connection,
)
from aioca._cli.diagnosis.conversation import converse
from tests.long.servers import core_support
from tests.long.servers.core_support import OWN_PORT, PORT, SETTINGS
from tests.long.servers.kinds import (
    ACKNOWLEDGED,
    DIFFERENT,
    EMPTIES,
    KIND,
    PADDING,
    RECORD_TYPE,
    SERIAL,
    TEXTS,
    Gateway,
    does,
    make_server,
)
from tests.support.base_tools import MISSING, base_environment, base_tool, find_base
from tests.support.commands import run_cli
from tests.support.contract import run_python

pytestmark = pytest.mark.anyio

MANY = 10_000

p = core_support.p


async def read(pv: str, *args: Any, **options: Any) -> Any:
    """`caget`, where the check knows what comes and mypy does not."""
    return await caget(pv, *args, **options)


# -- Values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["doubles", "longs"])
async def test_put_of_no_elements(p: str, name: str) -> None:
    """Empties the array, and so does what a monitor sees of it."""
    pv = f"{p}put:{name}"
    await caput(pv, [1, 2, 3], wait=True)
    with anyio.fail_after(10):
        async with camonitor(pv, all_updates=True) as updates:
            assert list(await anext(updates)) == [1, 2, 3]
            if not does(EMPTIES):
                with pytest.raises(CAError):
                    await caput(pv, [], wait=True)
                assert list(await read(pv)) == [1, 2, 3]
                return
            await caput(pv, [], wait=True)
            assert len(await read(pv)) == 0
            assert len(await anext(updates)) == 0
            await caput(pv, [4], wait=True)
            assert list(await anext(updates)) == [4]


async def test_texts_for_numbers(p: str) -> None:
    """A text that is no number is refused, or taken for another number."""
    pv = p + "put:long"
    await caput(pv, 3, wait=True)
    if does(TEXTS):
        with pytest.raises(CAError):
            await caput(pv, "abc", wait=True)
        assert await caget(pv) == 3
    else:
        await caput(pv, "abc", wait=True)
        assert await caget(pv) == 0xABC
    await caput(pv, int("12"), wait=True)  # a number is written as the same number everywhere
    assert await caget(pv) == 12


async def test_two_puts_of_one_client(p: str) -> None:
    """Both end; in half a second if the server starts both at once, and in one if not."""
    pv = p + ("slow:delay.A" if KIND in ("softIoc", "appimage", "gateway") else "slow")
    await connect(pv)
    start = time.monotonic()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            for number in (1, 2):

                async def put(number: int = number) -> None:
                    assert await caput(pv, number, wait=True)

                group.start_soon(put)
    took = time.monotonic() - start
    assert (took > 0.9) == does(SERIAL), took


async def test_record_type(p: str) -> None:
    kind = await caget(p + "double", datatype=DBR_CLASS_NAME, throw=False)
    if does(RECORD_TYPE):
        assert kind == "ao"
    else:
        said = {"gateway": "Not Supported by Gateway", "caproto": "caproto"}
        assert str(kind) == said.get(KIND, str(kind)) != "ao"


async def test_as_a_name_server(p: str) -> None:
    """It answers searches that come through TCP, as those of EPICS_CA_NAME_SERVERS do."""
    assert await connect(p + "double")  # before that, a gateway has to search for it
    server = ("127.0.0.1", PORT)
    said = await anyio.to_thread.run_sync(lambda: converse(server, [p + "double"], 1.0))
    assert said.state == "speaks"
    assert [found.server for found in said.found] == [server]


# -- Other calls -----------------------------------------------------------------------------------


async def test_states_of_connections(p: str) -> None:
    """`watch_connection` tells the state of each PV, and `get_channel_infos` lists it."""
    names = [p + "double", p + "enum", p + "absent"]
    seen: dict[str, Any] = {}
    with anyio.fail_after(10):
        async with watch_connection(names) as infos:
            async for info in infos:
                seen[info.name] = info
                if len(seen) == 3 and seen[names[0]].ok and seen[names[1]].ok:
                    break
    assert [seen[name].datatype for name in names[:2]] == [DBR_DOUBLE, DBR_ENUM]
    assert not seen[names[2]].ok
    connected = {info.name: info.connected for info in get_channel_infos()}
    assert [connected[name] for name in names] == [True, True, False]


BLOCKING = """
import sys
from aioca.blocking import caget, camonitor, caput, wait_for_value
pv = sys.argv[1]
assert caput(pv, 2.25, wait=True).ok
with camonitor(pv) as updates:
    print(+caget(pv), +next(updates), +wait_for_value(pv, 2.25, timeout=5))
"""


async def test_blocking_calls(p: str) -> None:
    """The plain calls give the same as those that are awaited; in a program without a loop."""
    done = await anyio.to_thread.run_sync(lambda: run_python(BLOCKING, p + "put:double"))
    assert (done.returncode, done.stdout) == (0, "2.25 2.25 2.25\n"), done.stderr
    assert await caget(p + "put:double") == 2.25


async def test_snapshot(p: str, tmp_path: Path) -> None:
    """What was saved is written back."""
    names = [p + "put:double", p + "put:long", p + "put:enum"]
    await caput(names, [1.25, 7, 2], wait=True)
    file = tmp_path / "saved.json"
    snapshot.save(await snapshot.take(names), file)
    await caput(names, [0, 0, 0], wait=True)
    saved = snapshot.load(file)
    assert [difference.pv for difference in await snapshot.diff(saved)] == names
    await snapshot.restore(saved)
    assert list(await caget(names)) == [1.25, 7, 2]


# -- Many ------------------------------------------------------------------------------------------


async def test_ten_thousand(unique: str) -> None:
    """Connect, read, monitor, and find all again when the server was killed and started."""
    server = make_server(unique, OWN_PORT, MANY)
    server.start()
    names = [f"{unique}many:{number}" for number in range(MANY)]
    seen = np.zeros(MANY, bool)
    lost = np.zeros(MANY, bool)
    try:
        with anyio.fail_after(300):
            results = await connect(names, timeout=60)
            assert len(results) == MANY and all(results)
            values = await caget(names, format=FORMAT_TIME, timeout=60)
            assert list(values) == list(range(MANY))
            async with camonitor(names, notify_disconnect=True, all_updates=True) as updates:
                async for value in updates:
                    seen[int(value.name.rpartition(":")[2])] = True
                    if seen.all():
                        break
                await anyio.to_thread.run_sync(server.kill)
                async for value in updates:
                    if isinstance(value, CANothing):
                        assert value.errorcode == ECA.DISCONN
                        lost[int(value.name.rpartition(":")[2])] = True
                        if lost.all():
                            break
                await anyio.to_thread.run_sync(server.start)
                async for value in updates:
                    if value.ok:
                        lost[int(value.name.rpartition(":")[2])] = False
                        if not lost.any():
                            break
    finally:
        server.kill()


# -- Beside the tools of base ----------------------------------------------------------------------

KEPT = ["double", "long", "string", "enum", "text", "doubles", "longs", "limits", "alarms"]
COMMANDS = [
    ["caget"], ["caget", "-a"], ["caget", "-t"], ["caget", "-d", "DBR_TIME_STRING"],
    ["caget", "-d", "DBR_TIME_DOUBLE"], ["caget", "-d", "DBR_CTRL_DOUBLE"], ["caget", "-c"],
    ["caget", "-#", "2"], ["caget", "-S"], ["caget", "-n"], ["caget", "-d", "DBR_GR_LONG"],
    ["caget", "-d", "DBR_STSACK_STRING"], ["caget", "-d", "DBR_CLASS_NAME"], ["cainfo"],
]  # fmt: skip
PUTS = [
    ["put:double", "2.5"], ["put:long", "17"], ["put:string", "a text"], ["put:enum", "Manual"],
    ["put:enum", "2"], ["-a", "put:doubles", "3", "1.5", "2", "3"], ["-a", "put:longs", "1", "9"],
    ["-S", "put:text", "short"], ["put:enum", "nothing of this"], ["slow", "3"], ["refuses", "1"],
]  # fmt: skip
needs_base = pytest.mark.skipif(find_base() is None, reason=MISSING)


def both(tool: str, *arguments: str) -> list[tuple[int, str, str]]:
    """What the tool of base gives, and what ours does: status, stdout, stderr."""
    base = subprocess.run(
        [base_tool(tool), *arguments], env=base_environment(SETTINGS), capture_output=True,
        text=True, timeout=120, check=False, errors="replace",
    )  # fmt: skip
    ours = run_cli(tool, *arguments, environment=SETTINGS)
    return [(done.returncode, done.stdout, done.stderr.strip()) for done in (base, ours)]


@needs_base
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
async def test_reads_as_the_tools_of_base(p: str, command: list[str]) -> None:
    """The same text and the same exit status, for one PV of each kind."""
    tool, *options = command
    for what, request in ((RECORD_TYPE, "DBR_CLASS_NAME"), (ACKNOWLEDGED, "DBR_STSACK_STRING")):
        if request in options and not does(what):
            pytest.skip(DIFFERENT[KIND][what])  # command-line.md has what differs in that case
    numbers = command[-1].endswith(("DOUBLE", "LONG"))  # refused for texts: see command-line.md
    names = [p + name for name in KEPT if name != "string" or not numbers]
    if not does(PADDING) and tool == "caget" and "-c" not in options and "-#" not in options:
        # The tool of base shows the zeros of its own memory where the server has sent nothing
        names = [name for name in names if name.removeprefix(p) not in ("text", "doubles", "longs")]
    base, ours = both(tool, *options, "-w", "5", *names)
    assert base[1], base[2]
    assert list(ours) == list(base)


@needs_base
@pytest.mark.parametrize("arguments", PUTS, ids=" ".join)
async def test_writes_as_the_tools_of_base(p: str, arguments: list[str]) -> None:
    """Old and new value, and exit status; then both have written the same."""
    place = next(number for number, word in enumerate(arguments) if word[0] != "-")
    name = p + arguments[place]
    options, values = ["-c", "-w", "5", *arguments[:place]], arguments[place + 1 :]
    base, _ = both("caput", *options, name, *values)
    after = await read(name)
    _, ours = both("caput", *options, name, *values)
    assert base[0] == ours[0]
    if not does(PADDING) and "-a" in arguments:
        return  # what the two show of it differs, as above
    news = [[line for line in out.splitlines() if line[:3] == "New"] for out in (base[1], ours[1])]
    assert news[0] == news[1]
    np.testing.assert_array_equal(await read(name), after)


# -- Two servers in Python -------------------------------------------------------------------------

only_softioc = pytest.mark.skipif(KIND != "softioc", reason="about pythonSoftIOC")
only_caproto = pytest.mark.skipif(KIND != "caproto", reason="about caproto")


@only_softioc
async def test_refused_by_validate(p: str) -> None:
    """Success for who waits, and nothing is written; a function that fails refuses nothing."""
    assert await caput(p + "validated", 20, wait=True)
    assert await caget(p + "validated") == 1
    assert await caput(p + "validate:fails", 20, wait=True)
    assert await caget(p + "validate:fails") == 20


@only_softioc
async def test_room_of_a_long_string(p: str) -> None:
    """It is that of its first value, if no length is given."""
    assert (await cainfo(p + "word")).count == 2
    with pytest.raises(CAError):
        await caput(p + "word", "longer", wait=True)


@only_caproto
async def test_room_of_a_str(p: str) -> None:
    assert (await cainfo(p + "word")).count == 1
    with pytest.raises(CAError):
        await caput(p + "word", "longer", wait=True)


@only_caproto
async def test_masks_are_ignored(p: str) -> None:
    """A monitor of alarms gets each change of the value."""
    with anyio.fail_after(10):
        async with camonitor(p + "put:long", events=DBE_ALARM, all_updates=True) as updates:
            await anext(updates)
            await caput(p + "put:long", 41, wait=True)
            assert await anext(updates) == 41


@only_caproto
async def test_read_only(p: str) -> None:
    """A client is told that it may not write."""
    info = await cainfo(p + "refuses")
    assert info.read and not info.write


# -- A gateway -------------------------------------------------------------------------------------

only_gateway = pytest.mark.skipif(KIND != "gateway", reason="about what is behind a gateway")


@only_gateway
async def test_ioc_behind_a_gateway_dies(unique: str) -> None:
    """The PV is lost, a write that waits fails, no search is answered; then all goes on."""
    server = make_server(unique, OWN_PORT)
    assert isinstance(server, Gateway)
    server.start()
    failed: list[CANothing] = []
    try:
        await connect(unique + "slow")

        async def put() -> None:
            failed.append(await caput(unique + "slow", 1, wait=True, timeout=30, throw=False))

        with anyio.fail_after(90):
            async with camonitor(unique + "put:double", notify_disconnect=True) as updates:
                assert (await anext(updates)).ok
                async with anyio.create_task_group() as group:
                    group.start_soon(put)
                    await caget(unique + "double")  # behind the put, on the same circuit
                    await anyio.to_thread.run_sync(server.ioc.kill)
                assert not await anext(updates)
                assert failed[0].errorcode in (ECA.PUTFAIL, ECA.DISCONN)
                await anyio.to_thread.run_sync(server.ioc.start)
                assert await anext(updates) == 0
                await caput(unique + "put:double", 3, wait=True)
                assert await wait_for_value(unique + "put:double", 3, timeout=5) == 3
    finally:
        server.kill()
