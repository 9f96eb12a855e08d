"""The ways in which a callback of libca gets the members of its struct argument."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from aioca._ca import callbacks
from aioca.testing import SoftIoc
from tests.support.iocs import PORTS
from tests.support.programs import programs

Members = tuple[int, int, int, int, int, int]

# Extremes of each member of struct event_handler_args: usr, chid, type, count, dbr, status
EVENTS: list[Members] = [
    (2**64 - 1, 2**63, -1, 0, 2**62, -5),
    (0, 0, 0, 2**40, 0, 1),
    (1, 2**64 - 1, 2**63 - 1, -(2**63), 2**64 - 1, -(2**31)),
    (2**48, 3, 38, 1, 2**47 - 8, 2**31 - 1),
]
WAYS = [callbacks._spread, callbacks._by_pointer, callbacks._by_struct]
NAMES = ["spread", "pointer", "struct"]


def _calls(way: Callable[..., Any], trampoline: Any) -> Callable[[Members], object]:
    """Return a function that calls a trampoline with a struct of these members."""
    if way in (callbacks._FAST, callbacks._by_struct):
        by_value = ctypes.cast(trampoline, callbacks._EVENT)
        return lambda members: by_value(callbacks._EventArgs(*members))
    if way is callbacks._by_pointer:

        def with_a_copy(members: Members) -> None:  # what a caller does under AAPCS64
            copy = callbacks._EventArgs(*members)
            trampoline(ctypes.addressof(copy))

        return with_a_copy
    pytest.skip("structs arrive as spread arguments on x86-64 only")


@pytest.mark.parametrize("way", WAYS, ids=NAMES)
def test_members_of_the_struct(way: Callable[..., Any]) -> None:
    """Each way gives all members as the caller wrote them, with their signs."""
    heard: list[tuple[int, ...]] = []
    trampoline = way(lambda *args: heard.append(args[6:]))
    call = _calls(way, trampoline)
    for members in EVENTS:
        call(members)
    assert heard == EVENTS


@pytest.mark.skipif(
    os.name != "posix" or os.uname().machine not in callbacks._FAST_WAYS,
    reason="the fast ways are for x86-64 and 64-bit ARM, except on Windows",
)
def test_a_fast_way_is_used() -> None:
    assert callbacks._FAST is callbacks._FAST_WAYS[os.uname().machine]


def test_no_fast_way_on_other_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="riscv64"))
    assert callbacks._fast_way() is None


def test_a_fast_way_that_gives_other_members_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def exchanged(on_event: callbacks.OnEvent) -> Any:
        return callbacks._by_struct(lambda *args: on_event(*args[:6], *args[:5:-1]))

    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="new"))
    monkeypatch.setitem(callbacks._FAST_WAYS, "new", callbacks._by_struct)
    assert callbacks._fast_way() is callbacks._by_struct
    monkeypatch.setitem(callbacks._FAST_WAYS, "new", exchanged)
    assert callbacks._fast_way() is None


CLIENT = """
    import os, sys

    if sys.argv[1]:
        system = os.uname_result((*os.uname()[:4], sys.argv[1]))
        os.uname = lambda: system  # before aioca looks
    from aioca import *
    from aioca._ca import callbacks

    async def main():
        names = ("put:ao", "put:stringout", "put:wf:DOUBLE")
        number, text, wave = pvs = [sys.argv[2] + name for name in names]
        async with camonitor(number, format=FORMAT_TIME, all_updates=True) as updates:
            for value in (1.5, -2.5):
                await caput(number, value, wait=True)
            async for value in updates:
                if value == -2.5:
                    break
        await caput([text, wave], ["grün", [1.0, 2.0, 3.0]], wait=True)
        values = await caget(pvs, format=FORMAT_TIME)
        print(callbacks._FAST is not None, values[:2], values[2].tolist())

    run(main(), backend=sys.argv[3])
"""


@pytest.mark.parametrize("machine", ["", "riscv64"], ids=["this processor", "another"])
def test_a_client_with_each_way(ioc: SoftIoc, p: str, backend: str, machine: str) -> None:
    """Calls and monitors work in a process with the fast way, and in one without."""
    with programs(PORTS[0]) as start:
        process = start(CLIENT, machine, p, backend)
        out, err = process.communicate(timeout=60)
    fast = not machine and callbacks._FAST is not None
    assert process.returncode == 0, err
    assert out == f"{fast} [-2.5, 'grün'] [1.0, 2.0, 3.0]\n"
    assert "Exception ignored" not in err
