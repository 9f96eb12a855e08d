"""caput of lists, caput that waits, and caput to a channel that is replaced."""

from __future__ import annotations

import math
import threading
from functools import partial
from typing import Any

import anyio
import numpy as np
import pytest

from aioca import (
    DBR_DOUBLE,
    DBR_LONG,
    CAAccessDenied,
    CADisconnected,
    CANothing,
    CAValueError,
    caget,
    caput,
    connect,
)
from aioca._channels.registry import current
from aioca._requests.put import Put
from tests.support.ids import shown
from tests.support.puts import ECA_NOWTACCESS, ECA_PUTFAIL, plain

pytestmark = pytest.mark.anyio


# -- Lists -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize(
    "values,expected",
    [
        ([1, 2, 3], [1, 2, 3]),
        ((1.5, 2.5, 3.5), [1.5, 2.5, 3.5]),
        (np.array([4, 5, 6]), [4, 5, 6]),
        (["1", "2", "3"], [1, 2, 3]),
        (range(7, 10), [7, 8, 9]),
        (iter([1, 2, 3]), [1, 2, 3]),
        (8, [8, 8, 8]),
        (8.5, [8.5, 8.5, 8.5]),
        ("123", [123, 123, 123]),  # three characters for three PVs
        (b"456", [456, 456, 456]),
        (np.float64(2.5), [2.5, 2.5, 2.5]),
        (np.array(3.5), [3.5, 3.5, 3.5]),
        ([[1], [2], [3]], [1, 2, 3]),
    ],
    ids=lambda value: shown(repr(value)),
)
async def test_list(abc: list[str], values: Any, expected: list[float], wait: bool) -> None:
    if hasattr(values, "__next__"):
        values = [*expected].__iter__()  # the first backend exhausts the parameter
    done = await caput(abc, values, wait=wait)
    assert [(type(one), bool(one), one.name) for one in done] == [
        (CANothing, True, pv) for pv in abc
    ]
    assert [+value for value in await caget(abc)] == expected


async def test_augmented_values_as_values(p: str, abc: list[str]) -> None:
    array: Any = await caget(p + "wf:DOUBLE")  # three elements for three PVs
    await caput(abc, array)
    assert [+value for value in await caget(abc)] == [1.5, -2.5, 3]
    scalar: Any = await caget(p + "ai")
    await caput(abc, scalar)
    assert [+value for value in await caget(abc)] == [1.5] * 3


async def test_repeat_value(p: str) -> None:
    pvs = [p + "put:wf:DOUBLE", p + "put:wf:LONG"]
    await caput(pvs, [1, 2], repeat_value=True, wait=True)
    assert [plain(value) for value in await caget(pvs)] == [[1, 2], [1, 2]]
    await caput(pvs, [1, 2], wait=True)
    assert [plain(value) for value in await caget(pvs)] == [[1], [2]]
    await caput(pvs, np.array([3, 4, 5]), repeat_value=True, wait=True)
    assert [plain(value) for value in await caget(pvs)] == [[3, 4, 5]] * 2


async def test_keywords(p: str, abc: list[str]) -> None:
    assert await caput(pv=p + "ao:a", value=1, wait=True)
    done = await caput(pvs=abc, values=2, wait=True)
    assert len(done) == 3
    assert +await caget(p + "ao:a") == 2


async def test_iterables_of_names(abc: list[str]) -> None:
    await caput(tuple(abc), 1, wait=True)
    names: Any = (pv for pv in abc)
    done = await caput(names, [4, 5, 6], wait=True)
    assert [one.name for one in done] == abc
    assert [+value for value in await caget(abc)] == [4, 5, 6]


async def test_same_pv_twice_in_a_list(abc: list[str]) -> None:
    """Both values are written, also with two put-callbacks for one PV."""
    for wait in (False, True):
        done = await caput([abc[0], abc[1], abc[0]], [1, 2, 3], wait=wait)
        assert all(done)
        assert len(done) == 3
        assert +await caget(abc[1]) == 2
        assert +await caget(abc[0]) in (1, 3)  # two channels: the order is undefined


async def test_empty_list() -> None:
    for wait in (False, True):
        assert await caput([], [], wait=wait) == []
        assert await caput([], 1, wait=wait) == []


@pytest.mark.parametrize("values", [[1], [1, 2], [1, 2, 3, 4], [], np.array([1, 2])], ids=repr)
@pytest.mark.parametrize("throw", [True, False])
@pytest.mark.usefixtures("nothing_written")
async def test_lengths_that_differ(p: str, values: Any, throw: bool) -> None:
    pvs = [p + "ao:a", p + "ao:b", p + "ao:c"]
    with pytest.raises(ValueError, match=f"3 PVs but {len(values)} values") as caught:
        await caput(pvs, values, wait=True, throw=throw)
    assert not isinstance(caught.value, CANothing)
    assert pvs[0] in str(caught.value)


@pytest.mark.parametrize("values", [{"a": 1, "b": 2}, {1, 2}, frozenset([1, 2])], ids=repr)
@pytest.mark.usefixtures("nothing_written")
async def test_a_dict_or_set_for_a_list(p: str, values: Any) -> None:
    """A dict would be written as its keys, and a set has no order."""
    with pytest.raises(TypeError, match=f"not a {type(values).__name__}"):
        await caput([p + "ao:a", p + "ao:b"], values, wait=True)


@pytest.mark.parametrize("wait", [False, True])
async def test_list_without_throw(p: str, abc: list[str], wait: bool) -> None:
    pvs = [abc[0], p + "ao:readonly", abc[1], "", abc[2]]
    done = await caput(pvs, [1, 2, "x" * 40, 4, 5], wait=wait, throw=False)
    assert [bool(one) for one in done] == [True, False, False, False, True]
    assert {type(one) for one in done} == {CANothing}
    assert [one.name for one in done] == pvs
    assert [+value for value in await caget(abc)] == [1, 0, 5]


async def test_list_error_names_all(p: str, abc: list[str]) -> None:
    pvs = [abc[0], p + "ao:readonly", p + "put:mbbo"]
    with pytest.raises(CAAccessDenied) as caught:
        await caput(pvs, [1, 2, "Nonsense"], wait=True)
    assert [(one.name, one.errorcode) for one in caught.value.failures] == [
        (pvs[1], ECA_NOWTACCESS), (pvs[2], ECA_PUTFAIL),
    ]  # fmt: skip
    assert pvs[1] in str(caught.value)
    assert pvs[2] in str(caught.value)
    assert +await caget(abc[0]) == 1


@pytest.mark.usefixtures("nothing_written")
async def test_list_errors_are_in_the_order_of_the_call(p: str) -> None:
    """The first decides the class: here a value that cannot be sent, before a name that is none."""
    pvs = [p + "ao:a", "", p + "ao:b", p + "ao:c"]
    await connect([pvs[0], pvs[2], pvs[3]])
    with pytest.raises(CAValueError) as caught:
        await caput(pvs, [None, 1, 2, "x" * 50])
    assert [one.name for one in caught.value.failures] == [pvs[0], "", pvs[3]]
    assert caught.value.name == pvs[0]


@pytest.mark.usefixtures("nothing_written")
async def test_list_with_a_value_that_cannot_be_sent(p: str) -> None:
    """If the PVs are connected, the error is detected before anything is sent."""
    pvs = [p + "ao:a", p + "ao:b", p + "ao:c"]
    await connect(pvs)
    with pytest.raises(CAValueError, match="ao:b") as caught:
        await caput(pvs, [77, None, 78], wait=True)
    assert [one.name for one in caught.value.failures] == [pvs[1]]


# -- Waiting ---------------------------------------------------------------------------------------


async def next_number(pv: str) -> float:
    """A value that differs from the PV's present one."""
    return float(plain(await caget(pv))) + 1


async def test_wait_is_for_the_end_of_processing(p: str) -> None:
    number = await next_number(p + "slow:done")
    await caput(p + "slow.A", number, wait=True)
    assert +await caget(p + "slow:done") == number
    # ... and a put without wait does not wait for it
    await caput(p + "slow.A", number + 1)
    assert +await caget(p + "slow:done") == number
    await caput(p + "slow.A", number + 1, wait=True)  # after this, no put is outstanding


async def test_overlapping_waits_on_one_pv(p: str) -> None:
    """A server handles one put-callback of a channel at a time.

    While a second one waits, the server handles no other request of this client. Users must not
    notice that.
    """
    await connect([p + "slow.A", p + "ai", p + "slow:done"])
    number = await next_number(p + "slow:done")
    done: list[float] = []

    async def put(value: float) -> None:
        assert await caput(p + "slow.A", value, wait=True, timeout=20)
        done.append(value)

    async with anyio.create_task_group() as tg:
        for i in range(3):
            tg.start_soon(put, number + i)
        await anyio.wait_all_tasks_blocked()
        assert +await caget(p + "ai") == 1.5
        assert not done
    assert sorted(done) == [number, number + 1, number + 2]
    assert +await caget(p + "slow:done") in done


async def test_overlapping_waits_in_one_list(p: str) -> None:
    number = await next_number(p + "slow:done")
    done = await caput([p + "slow.A"] * 3, [number] * 3, wait=True, timeout=20)
    assert [one.ok for one in done] == [True] * 3
    assert +await caget(p + "slow:done") == number


async def test_cancelled_wait_leaves_the_pv_usable(p: str) -> None:
    await connect([p + "slow.A", p + "slow:done"])
    number = await next_number(p + "slow:done")
    async with anyio.create_task_group() as tg:
        tg.start_soon(lambda: caput(p + "slow.A", number, wait=True))
        await anyio.wait_all_tasks_blocked()
        tg.cancel_scope.cancel()
    # The cancelled put is still being processed; nothing below waits for it
    assert +await caget(p + "slow:done") == number - 1
    assert +await caget(p + "slow.A") == number
    with anyio.fail_after(10):
        assert await caput(p + "slow.A", number + 1, wait=True)
    assert +await caget(p + "slow:done") == number + 1


async def test_cancelled_before_it_is_sent_writes_nothing(p: str) -> None:
    """In trio, every call is a checkpoint before it acts."""
    await connect(p + "put:ao")
    before = plain(await caget(p + "put:ao"))
    done = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        await anyio.lowlevel.checkpoint()
        done.append(await caput(p + "put:ao", 55))
    assert not done
    assert same_number(plain(await caget(p + "put:ao")), before)


def same_number(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


# -- A channel that is replaced --------------------------------------------------------------------


async def test_a_put_before_a_return_is_applied(p: str) -> None:
    """A server that did not respond responds again, and libca's thread has posted that.

    The loop is late. A put that it sends now must not be lost when the loop makes a new channel.
    """
    pv = p + "slow.A"
    await connect(pv)
    channel = current().channel(pv)

    def report() -> None:
        channel.connection_changed(channel._token_key, False, -1, 0)
        channel.connection_changed(
            channel._token_key, True, channel.native_type, channel.native_count
        )

    thread = threading.Thread(target=report)
    thread.start()
    thread.join()
    with anyio.fail_after(5):
        await caput(pv, 1, wait=True, timeout=None)
    assert channel.connected
    assert current().put_limit.under_way() == 0


async def test_a_put_whose_channel_is_made_anew(p: str) -> None:
    """Its completion cannot be reported any more, and the put fails at once."""
    pv = p + "slower.A"
    await connect(pv)
    channel = current().channel(pv)

    async def replace() -> None:
        while channel.put_owner is None:
            await anyio.sleep(0.001)
        channel.replace()

    with anyio.fail_after(2):
        async with anyio.create_task_group() as group:
            group.start_soon(replace)
            with pytest.raises(CADisconnected, match="outcome unknown"):
                await caput(pv, 1, wait=True, timeout=None)
    assert current().put_limit.under_way() == 0
    await caget(pv)


async def test_second_channels_go_along(p: str) -> None:
    """Overlapping puts use a second channel to the PV.

    It must not stay with a server that the first channel has left.
    """
    pv = p + "slow.A"
    channel = current().channel(pv)

    async def overlapping() -> None:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                for value in range(2):
                    group.start_soon(partial(caput, pv, value, wait=True))

    await overlapping()
    assert len(channel.put_channels) == 1
    channel.replace(elsewhere=True)
    assert channel.put_channels == ()
    await connect(pv)
    await overlapping()
    assert (
        [put_channel.priority for put_channel in channel.put_channels] == [channel.priority] == [1]
    )


async def test_a_pv_that_comes_back_with_another_type(
    abc: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the check of a value and its sending: the value is encoded for the new type."""
    await connect(abc)
    channels = [current().channel(pv) for pv in abc]
    for channel in channels:
        channel.native_type = DBR_LONG

    async def comes_back(*_: object) -> bool:
        for channel in channels:
            channel.native_type = DBR_DOUBLE  # as `Connection` notes it
        current().type_changes += 1
        return True

    monkeypatch.setattr(Put, "room_for", comes_back)
    await caput(abc, [1.75, 2.75, 3.75], wait=True)
    assert await caget(abc) == [1.75, 2.75, 3.75]
