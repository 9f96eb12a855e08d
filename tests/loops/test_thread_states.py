"""The Python thread states of libca's threads: those of a circuit end with it."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from aioca import caget, camonitor, run
from aioca.testing import SoftIoc
from tests.support.loops import both_backends, finish
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the states are lost with the circuits"
)

_api = ctypes.pythonapi
for _name in ("PyInterpreterState_Main", "PyInterpreterState_ThreadHead", "PyThreadState_Next"):
    getattr(_api, _name).restype = ctypes.c_void_p
_api.PyInterpreterState_ThreadHead.argtypes = [ctypes.c_void_p]
_api.PyThreadState_Next.argtypes = [ctypes.c_void_p]


def _states() -> int:
    """The number of Python thread states of this process."""
    number = 0
    state = _api.PyInterpreterState_ThreadHead(_api.PyInterpreterState_Main())
    while state:
        number += 1
        state = _api.PyThreadState_Next(state)
    return number


def _circuits() -> int:
    """The number of threads of circuits."""
    number = 0
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # the thread has ended since
            number += (task / "comm").read_text().startswith("CAC-TCP-")
    return number


async def _states_without_circuits() -> int:
    """Return the number of states that are left when the circuits are gone.

    Threads that do not end with a circuit keep theirs: that of libCom's log, if it had a message.
    """
    await until(lambda: _circuits() == 0)
    return _states()


@both_backends
def test_states_of_lost_circuits(
    own_ioc: Callable[..., SoftIoc], unique: str, backend: str
) -> None:
    ioc = own_ioc(f'record(ao, "{unique}X") {{}}')
    with ioc:

        async def get_and_count() -> int:
            assert await caget(unique + "X") == 0
            return _states()

        run(get_and_count(), backend=backend)
        before = run(_states_without_circuits(), backend=backend)
        for _ in range(5):  # each run has a circuit of its own
            assert run(get_and_count(), backend=backend) > before
            run(until(lambda: _states() <= before), backend=backend)


@both_backends
def test_states_of_circuits_whose_server_ends(
    own_ioc: Callable[..., SoftIoc], unique: str, backend: str
) -> None:
    """Another thread reports the disconnections than the one that receives."""
    pvs = [f"{unique}X{number}" for number in range(4)]  # each is searched for at once
    ioc = own_ioc("".join(f'record(ao, "{pv}") {{}}\n' for pv in pvs))

    async def lose(pv: str) -> None:
        ioc.start()
        async with camonitor(pv, notify_disconnect=True) as updates:
            assert (await anext(updates)).ok
            ioc.kill()
            assert not (await anext(updates)).ok

    async def lose_all() -> None:
        await lose(pvs[0])
        before = await _states_without_circuits()
        for pv in pvs[1:]:
            await lose(pv)
        await until(lambda: _states() <= before)

    run(lose_all(), backend=backend)


# A circuit to a stopped server ends only when the server runs again: here after Python has ended.
# The functions of on_exit() get the exit status as their first argument: it is the server's id.
LATE = """
    import ctypes, os, signal, sys, time
    import anyio
    import aioca
    from aioca import camonitor
    backend, server = sys.argv[1], int(sys.argv[2])
    libc = ctypes.CDLL(None)
    libc.on_exit(libc.usleep, None)  # called second: meanwhile the thread of the circuit ends
    libc.on_exit(libc.kill, ctypes.c_void_p(signal.SIGCONT))

    async def main():
        async with camonitor("PV1") as updates:
            await anext(updates)
            os.kill(server, signal.SIGSTOP)

    aioca.run(main(), backend=backend)
    sys.exit(server)
"""


@both_backends
def test_circuit_that_ends_after_python(
    start: Callable[..., subprocess.Popen[str]], busy_ioc: SoftIoc, backend: str
) -> None:
    """The thread of the circuit does not call Python then, and the exit does not wait for it."""
    server = busy_ioc.process.pid
    try:
        _, err = finish(start(LATE, backend, server), server % 256)
    finally:
        busy_ioc.resume()
    # qemu, with which .ci/arm64 emulates, lacks an option of sockets, and libca tells of it
    assert [line for line in err.splitlines() if "IP_MULTICAST_ALL" not in line] == []
