"""caget: one PV, many PVs, and invalid names."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from typing import Any

import anyio
import pytest

from aioca import (
    FORMAT_TIME,
    CANothing,
    CATimeout,
    CAValueError,
    caget,
    cainfo,
    caput,
    connect,
    get_channel_infos,
)
from aioca.testing import SoftIoc
from aioca.types import ca_str

pytestmark = pytest.mark.anyio

ECA_TIMEOUT = 80
ECA_BADSTR = 186
LONGEST = 991

THREE = ["stringin", "ai", "longin"]
THREE_VALUES = ["hello", 1.5, -42]


def names_and_values(values: Iterable[Any]) -> list[tuple[str, Any]]:
    return [(value.name, +value) for value in values]


# -- One and many ----------------------------------------------------------------------------------


async def test_one(p: str) -> None:
    value: Any = await caget(p + "ai")
    assert (value, value.name, value.ok) == (1.5, p + "ai", True)


@pytest.mark.parametrize(
    "kind",
    [list, tuple, lambda names: (name for name in names), dict.fromkeys],
    ids=["list", "tuple", "generator", "dict"],
)
async def test_many(p: str, kind: Callable[[list[str]], Any]) -> None:
    pvs = [p + name for name in THREE]
    values: Any = await caget(kind(pvs))
    assert type(values) is list
    assert names_and_values(values) == [*zip(pvs, THREE_VALUES, strict=True)]
    reversed_values: Any = await caget(kind(pvs[::-1]))
    assert names_and_values(reversed_values) == names_and_values(values)[::-1]


async def test_list_of_one_is_a_list(p: str) -> None:
    assert await caget([p + "ai"]) == [1.5]  # type: ignore[comparison-overlap]


async def test_empty_list() -> None:
    assert await caget([]) == []
    assert await connect([]) == []
    assert await cainfo([]) == []


async def test_duplicates(p: str) -> None:
    pvs = [p + "ai", p + "longin", p + "ai", p + "ai"]
    values: Any = await caget(pvs, format=FORMAT_TIME)
    assert names_and_values(values) == [*zip(pvs, [1.5, -42, 1.5, 1.5], strict=True)]
    assert len(get_channel_infos()) == 2


async def test_augmented_str_as_a_name(p: str) -> None:
    """A PV may contain the name of another. The channel of that must not keep the value."""
    try:
        await caput(p + "put:stringin", p + "ai", wait=True)
        name: Any = await caget(p + "put:stringin")
        assert type(name) is ca_str
        value: Any = await caget(name)
        assert value == 1.5
        assert type(value.name) is str
    finally:
        await caput(p + "put:stringin", "", wait=True)


@pytest.mark.parametrize("pv", [None, 5, b"PV", ["PV", None], ["PV", b"x"], [["PV"]], object()])
@pytest.mark.parametrize("function", [caget, connect, cainfo])
async def test_name_that_is_no_str(p: str, pv: Any, function: Any) -> None:
    with pytest.raises(TypeError):
        await function(pv)
    with pytest.raises(TypeError):
        await caput(pv, 1)
    assert get_channel_infos() == []


# -- Names that cannot be searched for -------------------------------------------------------------

BAD_NAMES = [
    "",
    "A\0B",
    "x" * (LONGEST + 1),
    "x" * 1007,
    "x" * 1008,
    "x" * 5000,
    "µ" * 496,
    "\ud800",
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=lambda name: f"{name[:3]!a}x{len(name)}")
@pytest.mark.parametrize("function", [caget, connect, cainfo])
async def test_bad_name(p: str, name: str, function: Any) -> None:
    with pytest.raises(CAValueError) as caught:
        await function(name)
    assert caught.value.errorcode == ECA_BADSTR
    assert caught.value.name[:40] == name[:40]
    with pytest.raises(CAValueError, match="name"):
        await caput(name, 1)
    nothing = await function(name, throw=False)
    assert (type(nothing), bool(nothing)) == (CANothing, False)
    assert get_channel_infos() == []
    assert await caget(p + "ai") == 1.5  # searches still work


async def test_bad_names_in_a_list(p: str) -> None:
    pvs = ["", p + "ai", "x" * 992, p + "longin"]
    with pytest.raises(CAValueError) as caught:
        await caget(pvs)
    assert [(failure.errorcode, failure.name[:3]) for failure in caught.value.failures] == [
        (ECA_BADSTR, ""), (ECA_BADSTR, "xxx"),
    ]  # fmt: skip
    values: Any = await caget(pvs, throw=False)
    assert [type(value) is CANothing for value in values] == [True, False, True, False]
    assert [values[1], values[3]] == [1.5, -42]


async def test_longest_name(p: str) -> None:
    """Its search fits into a datagram and blocks no later search."""
    with pytest.raises(CATimeout):
        await caget("x" * LONGEST, timeout=0.2)
    assert await caget([p + "ai", p + "longin"]) == [1.5, -42]  # type: ignore[comparison-overlap]


# -- Failures in a list ----------------------------------------------------------------------------


async def test_without_throw_the_others_keep_their_values(p: str) -> None:
    absent = p + "absent"
    values: Any = await caget([p + "ai", absent, p + "longin"], timeout=0.5, throw=False)
    assert [values[0], values[2]] == [1.5, -42]
    nothing = values[1]
    assert (type(nothing), nothing.name, nothing.errorcode) == (CANothing, absent, ECA_TIMEOUT)
    assert (bool(nothing), nothing.ok) == (False, False)
    assert "connecting" in str(nothing)


async def test_one_without_throw(p: str) -> None:
    nothing: Any = await caget(p + "absent", timeout=0.1, throw=False)
    assert (type(nothing), bool(nothing), nothing.errorcode) == (CANothing, False, ECA_TIMEOUT)


# -- Very many PVs ---------------------------------------------------------------------------------

MANY = 2000


async def test_2000_pvs(own_ioc: Callable[..., SoftIoc], unique: str) -> None:
    pvs = [f"{unique}{i}" for i in range(MANY)]
    database = "\n".join(
        f'record(longin, "{pv}") {{ field(VAL, "{i}") }}' for i, pv in enumerate(pvs)
    )
    with own_ioc(database):
        values: Any = await caget(pvs, timeout=30)
        assert [+value for value in values] == [*range(MANY)]
        again: Any = await caget(pvs[::-1], format=FORMAT_TIME)
        assert names_and_values(again) == names_and_values(values)[::-1]
        await caput(pvs, [*range(MANY, 0, -1)], wait=True, timeout=30)
        assert [+value for value in await caget(pvs)] == [*range(MANY, 0, -1)]


async def test_many_tasks_at_once(p: str) -> None:
    """Some tasks connect channels for which others wait, and some are cancelled."""
    got: list[tuple[str, Any]] = []

    async def get(name: str) -> None:
        value: Any = await caget(p + name)
        got.append((name, +value))

    async with anyio.create_task_group() as tg, anyio.create_task_group() as cancelled:
        for _ in range(100):
            for name in THREE:
                tg.start_soon(get, name)
                cancelled.start_soon(caget, p + name)
        await anyio.lowlevel.checkpoint()
        cancelled.cancel_scope.cancel()
    assert sorted(got, key=str) == sorted([*zip(THREE, THREE_VALUES, strict=True)] * 100, key=str)


async def test_cancelled_get_leaves_the_channel_usable(p: str) -> None:
    await connect(p + "ai")
    for _ in range(20):
        async with anyio.create_task_group() as tg:
            tg.start_soon(caget, p + "ai")
            await anyio.lowlevel.checkpoint()
            tg.cancel_scope.cancel()
        assert await caget(p + "ai") == 1.5


async def test_others_run_during_every_get(p: str) -> None:
    """A loop of cagets lets other tasks run and can be cancelled.

    This must be true even if each reply arrives before the task waits for it. On a busy machine,
    one pass of the loop may serve the replies to two cagets, as it is woken by a timer and by a
    reply; but never to three.
    """
    await connect(p + "ai")
    passes = 0

    async def other() -> None:
        nonlocal passes
        while True:
            passes += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tg:
        tg.start_soon(other)
        await anyio.lowlevel.checkpoint()
        before = [passes]
        for _ in range(300):
            await caget(p + "ai")
            before.append(passes)
        tg.cancel_scope.cancel()
    assert all(later > earlier for earlier, later in zip(before, before[2:], strict=False))


async def test_values_do_not_keep_what_they_came_with(p: str) -> None:
    """A value keeps no reference to its request or its channels."""
    from aioca._requests.request import Request

    value: Any = await caget(p + "ai", format=FORMAT_TIME)
    gc.collect()
    assert [thing for thing in gc.get_objects() if isinstance(thing, Request)] == []
    assert value.severity == 0
