"""wait_for_value."""

from __future__ import annotations

import math
import time
from typing import Any, cast

import anyio
import anyio.lowlevel
import numpy as np
import pytest

import aioca
from aioca import (
    FORMAT_TIME,
    CATimeout,
    CAValueError,
    caget,
    camonitor,
    caput,
    get_channel_infos,
    purge_channel_caches,
    wait_for_value,
)
from aioca._ca import libca
from aioca._channels.registry import current
from aioca._monitors.newest import Newest
from aioca.testing import SoftIoc
from tests.support.ids import shown
from tests.support.monitors import ECA_TIMEOUT, Received, next_update, time_double

pytestmark = pytest.mark.anyio
WITH_UVLOOP = True


@pytest.mark.parametrize("present", [True, False], ids=["there already", "comes later"])
@pytest.mark.parametrize(
    ("record", "start", "end", "match"),
    [
        ("m:a", 0, 3, 3),
        ("m:a", 0, 3, lambda value: value > 2),
        ("m:array", [0.0, 1], [1.0, 2, 3], [1, 2, 3]),
        ("m:array", [0.0, 1], [1.0, 2, 3], np.array([1.0, 2, 3])),
        ("m:array", [0.0, 1], [1.0, 2, 3], lambda value: value.sum() == 6),
        ("m:enum", 0, 2, 2),
        ("m:enum", 0, 2, "Automatic"),
        ("m:enum", 0, "Manual", lambda value: value == 1),
    ],
    ids=shown,
)
async def test_wait_for_value(
    p: str, record: str, start: Any, end: Any, match: Any, present: bool
) -> None:
    pv = p + record
    await caput(pv, end if present else start, wait=True)

    async def put() -> None:
        await caput(pv, end)

    async with anyio.create_task_group() as group:
        if not present:
            group.start_soon(put)
        value = await wait_for_value(pv, match, timeout=5)
    assert value.name == pv
    if callable(match):
        assert match(value)
    else:
        assert np.array_equal(value, match)
    assert [info.subscriber_count for info in get_channel_infos() if info.name == pv] == [0]


@pytest.mark.parametrize(
    ("record", "match", "kind"),
    [
        # Text: a label, a long string, a text that the server converts
        ("put:wf:CHAR", "/data/x", str), ("put:wf:CHAR", b"/data/y", bytes),
        ("put:wf:CHAR", "grün", str), ("put:wf:CHAR", b"\xff\x01", bytes),
        ("put:wf:CHAR", "", str), ("put:wf:CHAR", b"", bytes),
        ("put:wf:CHAR", b"\0\1\2", np.ndarray), ("put:wf:CHAR", "a\0b", np.ndarray),
        ("put:lso.VAL$", "x" * 60, str), ("put:lso.VAL$", b"y" * 60, bytes),
        ("put:lso.VAL$", "", str), ("put:stringout.DESC$", "a text", str),
        ("put:lso.VAL$", [65, 66], str), ("put:stringout", "text", str),
        ("put:stringout", b"bytes", bytes), ("put:stringout", "", str),
        ("put:stringout", ["alone"], str), ("put:mbbo", "Manual", str),
        ("put:mbbo", b"Automatic", bytes), ("put:mbbo", ["Off"], str),
        ("put:mbbo", np.array(["Manual"]), str), ("put:mbbo", "2", str), ("put:mbbo", b"1", bytes),
        ("put:bo", "On", str), ("put:ao", "2.5", float),
        ("put:ao", b"0x1F", float), ("put:longout", "010", int), ("put:longout", "1e3", int),
        ("put:int64out", "12", float), ("put:wf:STRING", ["a", "µ"], np.ndarray),
        ("put:wf:STRING", [b"a", b"b"], np.ndarray), ("put:wf:STRING", "one", np.ndarray),
        ("put:wf:STRING", [], np.ndarray), ("put:wf:DOUBLE", ["1", "2"], np.ndarray),
        # As a server reads them: the beginning that is a number
        ("put:ao", "1_0", float), ("put:ao", "nan", float), ("put:ao", "", float),
        ("put:ao", "1.5 V", float), ("put:ao", "1e", float), ("put:ao", "-inf", float),
        ("put:ao", " 0x1.8p1", float), ("put:longout", "", int), ("put:longout", "12abc", int),
        ("put:wf:DOUBLE", ["nan", "2 m"], np.ndarray), ("put:bo", ["0"], str),
        # Numbers
        ("put:stringout", 5, str), ("put:stringout", 1.5, str), ("put:stringout", True, str),
        ("put:wf:STRING", [1, 2], np.ndarray), ("put:longout", 2.9, int), ("put:longout", [7], int),
        ("put:ao", np.float32(0.1), float), ("put:ao", np.array(3), float),
        ("put:ao", math.nan, float), ("put:mbbo", 1.0, int), ("put:bo", False, int),
        ("put:int64out", 2**53 + 1, float), ("put:wf:CHAR", [1, -1], np.ndarray),
        ("put:wf:CHAR", 65, np.ndarray), ("put:wf:CHAR", [], np.ndarray),
        ("put:wf:FLOAT", [0.1, 0.2], np.ndarray), ("put:wf:FLOAT", 0.1, np.ndarray),
        ("put:wf:DOUBLE", [], np.ndarray), ("put:wf:DOUBLE", (), np.ndarray),
        ("put:wf:DOUBLE", [1, math.nan], np.ndarray), ("put:wf:ULONG", [2**32 - 1], np.ndarray),
        ("put:wf:INT64", [2**40], np.ndarray),
    ],
    ids=shown,
)  # fmt: skip
async def test_wait_for_value_matches_what_caput_writes(
    p: str, record: str, match: Any, kind: type
) -> None:
    pv = p + record
    other: Any = {
        "put:bo": 0 if match == "On" else 1, "put:mbbo": 3, "put:ao": 99, "put:longout": 99,
        "put:int64out": 99, "put:wf:STRING": ["other"], "put:stringout": "other",
        "put:lso.VAL$": "other", "put:stringout.DESC$": "other",
    }.get(record, [99, 98])  # fmt: skip
    await caput(pv, other, wait=True)
    with pytest.raises(CATimeout):
        await wait_for_value(pv, match, timeout=0.05)
    await caput(pv, match, wait=True)
    for format in (aioca.FORMAT_RAW, FORMAT_TIME):
        value: Any = await wait_for_value(pv, match, timeout=5, format=format)
        assert isinstance(value, kind)
        assert value.name == pv
    if "wf" in record:
        await caput(pv, [], wait=True)


@pytest.mark.parametrize(
    ("record", "match"),
    [
        ("m:a", None), ("m:a", [1, 2]), ("m:a", []), ("m:a", [None]), ("m:enum", -1),
        ("m:array", [0] * 6), ("put:stringout", "x" * 40), ("put:longout", 2**31),
        ("put:longout", math.nan), ("m:a", np.ma.masked), ("m:array", np.ma.masked_all(2)),
    ],
    ids=shown,
)  # fmt: skip
async def test_wait_for_what_the_pv_cannot_have(p: str, record: str, match: Any) -> None:
    """A value that the PV can never have is an error, not an endless wait."""
    with pytest.raises(CAValueError, match="cannot be written") as caught:
        await wait_for_value(p + record, match, timeout=5)
    assert caught.value.name == p + record
    assert [info.subscriber_count for info in get_channel_infos()] == [0]


async def test_wait_for_value_as_another_type(p: str) -> None:
    """With a datatype, values are read as that type and compared: as for a put, or by ``==``."""
    await caput(p + "put:int64out", 2**40 + 5, wait=True)
    await caput(p + "put:ao", 0.1, wait=True)
    await caput(p + "put:mbbo", 1, wait=True)
    for pv, match, datatype in [
        ("put:int64out", 2**40 + 5, int), ("put:int64out", "1099511627781", str),
        ("put:ao", 0.1, "f4"), ("put:ao", 0, int), ("put:mbbo", 1, float), ("put:mbbo", 1, None),
        ("put:mbbo", "Manual", str), ("put:mbbo", b"Manual", bytes), ("put:mbbo", 1, bool),
        ("put:mbbo", "Manual", aioca.DBR_ENUM_STR), ("ai", "ai", aioca.DBR_CLASS_NAME),
        ("ai.SCAN", "Passive", None), ("ai.SCAN", 0, None),
    ]:  # fmt: skip
        assert await wait_for_value(p + pv, match, timeout=5, datatype=datatype) is not None


async def test_wait_for_value_with_an_eq_of_its_own(a: str) -> None:
    await caput(a, 5.0004, wait=True)
    value = await wait_for_value(a, pytest.approx(5, abs=0.01), timeout=5)
    assert value == 5.0004
    with pytest.raises(CATimeout):
        await wait_for_value(a, pytest.approx(6, abs=0.01), timeout=0.1)


async def test_wait_for_value_sees_every_update(a: str) -> None:
    """A value that the PV had only for a moment is not missed."""

    async def blip() -> None:
        for value in range(1, 6):
            await caput(a, value, wait=True)

    async with anyio.create_task_group() as group:
        looking = anyio.Event()

        def match(value: Any) -> bool:
            looking.set()
            return bool(value == 3)

        async def wait() -> None:
            assert await wait_for_value(a, match, timeout=5) == 3

        group.start_soon(wait)
        with anyio.fail_after(5):
            await looking.wait()
        await blip()


async def test_wait_for_value_has_the_options_of_camonitor(a: str) -> None:
    value = await wait_for_value(a, 0, timeout=5, format=FORMAT_TIME, datatype=int)
    assert isinstance(value, int)
    assert value.timestamp > 0


async def test_wait_for_value_timeout(a: str) -> None:
    """The message has the last value."""
    await caput(a, 12.25, wait=True)
    with pytest.raises(CATimeout, match=r"12\.25") as info:
        await wait_for_value(a, 3, timeout=1)  # long enough for the first update
    assert isinstance(info.value, TimeoutError)
    assert info.value.name == a
    assert info.value.errorcode == ECA_TIMEOUT


async def test_a_time_out_makes_no_channel(p: str, ioc: SoftIoc) -> None:
    """A name with a filter has a channel for the monitor alone, which the error is about."""
    ioc.command("dbStateCreate never")  # it is false, so no update passes the filter
    name = p + 'bo.{"sync":{"m":"while","s":"never"}}'
    with pytest.raises(CATimeout, match="connected, but no update has come"):
        await wait_for_value(name, 99, timeout=0.3)
    assert name not in current().channels


@pytest.mark.parametrize("timeout", [0.2, lambda: (time.time() + 0.2,), 0], ids=["s", "at", "0"])
async def test_wait_for_value_timeout_connecting(unique: str, timeout: Any) -> None:
    start = time.monotonic()
    with pytest.raises(CATimeout, match="connecting"):
        await wait_for_value(unique + "absent", 3, timeout() if callable(timeout) else timeout)
    assert time.monotonic() - start < 2


async def test_wait_for_value_ends_in_time_under_a_flood(p: str) -> None:
    """The operation ends at its deadline even if there is always another update to check.

    Updates (10 a second) arrive faster than ``match`` rejects them.
    """
    looks = 0

    def match(value: Any) -> bool:
        nonlocal looks
        looks += 1
        time.sleep(0.15)  # slower than the PV
        return looks > 15  # so that the test ends

    with pytest.raises(CATimeout):
        await wait_for_value(p + "ticks", match, timeout=0.6)


async def test_wait_for_value_closed_meanwhile(a: str) -> None:
    async def purge() -> None:
        await anyio.wait_all_tasks_blocked()
        purge_channel_caches()

    async with anyio.create_task_group() as group:
        group.start_soon(purge)
        with pytest.raises(aioca.CADisconnected, match="closed"):
            await wait_for_value(a, 3, timeout=5)


async def test_wait_for_value_error_in_match(a: str) -> None:
    with pytest.raises(ZeroDivisionError):
        await wait_for_value(a, lambda value: 1 / value, timeout=5)
    assert [info.subscriber_count for info in get_channel_infos()] == [0]


@pytest.mark.unit
async def _always(_: object) -> bool:
    return True


class _Always:
    async def __call__(self, _: object) -> bool:
        return True


async def test_wait_for_value_with_an_async_object(a: str) -> None:
    """That it is async is known only when it was called; its coroutine must not count as true."""
    with pytest.raises(TypeError, match=f"{a}: match must not be async"):
        await wait_for_value(a, _Always(), timeout=5)


async def test_wait_for_value_of_a_state_as_text_with_a_filter(p: str) -> None:
    """A name with a filter has a channel for the monitor alone, which knows that it is an enum."""
    await caput(p + "put:bo", 1, wait=True)
    value = await wait_for_value(p + 'put:bo.{"dbnd":{"abs":0}}', "1", timeout=5)
    assert value == "On"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"pv": 5}, TypeError),
        ({"pv": ["X"]}, TypeError),
        ({"timeout": "soon"}, TypeError),
        ({"events": 99}, ValueError),
        ({"timeout": 10**400}, TypeError),
        ({"max_pending": 2**63}, ValueError),
        ({"match": _always}, TypeError),
    ],
    ids=shown,
)
async def test_wait_for_value_validation(arguments: dict[str, Any], error: type) -> None:
    with pytest.raises(error):
        await wait_for_value(**{"pv": "X", "match": 1, **arguments})
    assert get_channel_infos() == []


async def test_value_does_not_change_under_the_reader(p: str) -> None:
    """A delivered update belongs to the user: later updates have their own memory."""
    pv = p + "m:array"
    await caput(pv, [1.0] * 5, wait=True)
    async with camonitor(pv, all_updates=True) as updates:
        first = await next_update(updates)
        for value in range(2, 20):
            await caput(pv, [float(value)] * 5, wait=True)
        assert first.tolist() == [1.0] * 5
    assert (await caget(pv)).tolist() == [19.0] * 5


async def test_bad_updates_are_no_storm_in_the_log(
    a: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has a limited number of records a second, and one that counts the rest."""
    async with camonitor(a) as updates:
        await anext(updates)
        (feed,) = current().channel(a).monitors
        for _ in range(1000):  # bytes that cannot be decoded
            current().portal.put(feed._key, b"")  # type: ignore[attr-defined]
        current().portal.put(feed._key, time_double(0))  # type: ignore[attr-defined]
        assert await anext(updates) == 0
        bad = [r.getMessage() for r in caplog.records if "cannot decode" in r.getMessage()]
        assert 0 < len(bad) <= 20
        with anyio.fail_after(10):
            while "more log records about Channel Access were left out" not in caplog.text:
                await anyio.sleep(0.01)


@pytest.mark.parametrize("busy", [False, True])
async def test_a_disconnection_stays_behind_the_newest_updates(a: str, busy: bool) -> None:
    """libca's thread reports it while the loop decodes the waiting updates of the old type."""
    received = Received()
    go_on = anyio.Event()

    async def callback(value: Any) -> None:
        received("gone" if not value.ok else float(value))
        if busy:
            await go_on.wait()

    async with camonitor(a, callback, max_pending=5, notify_disconnect=True):
        await received.until(lambda values: values == [0])
        channel = current().channel(a)
        (monitor,) = cast("Any", channel.monitors)
        reader: Any = monitor._reader
        reported: list[bool] = []

        class Decoding:
            shape, element_count, name = reader.shape, reader.element_count, reader.name

            def decode(self, raw: bytes) -> object:
                if not reported:
                    reported.append(True)
                    channel.connection_changed(channel._token_key, False, -1, 0)
                return reader.decode(raw)

        monitor._reader = Decoding()
        policy = cast(Newest, monitor._policy)
        for number in (1.0, 2.0, 3.0):
            policy.waiting[monitor._key].append(time_double(number))
        forget = monitor._detach_subscription()
        await anyio.lowlevel.checkpoint()
        go_on.set()
        await received.until(lambda values: len(values) == 5)
        forget()
    assert received.values == [0, 1.0, 2.0, 3.0, "gone"]


@pytest.mark.parametrize("limit", [16408, None], ids=["limited", "unlimited"])
async def test_a_first_update_that_libca_drops_after_a_reconnection(
    p: str, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The monitor is told of the setting, as after the first connection."""
    pv = p + "wf:big"
    async with camonitor(pv, notify_disconnect=True) as updates:
        assert (await anext(updates)).ok
        context = current()
        settings = {"EPICS_CA_AUTO_ARRAY_BYTES": "YES" if limit is None else "NO"}
        monkeypatch.setattr(context.ca_context, "settings", settings)
        monkeypatch.setattr(context.ca_context, "array_limit", limit)
        channel = context.channel(pv)
        # As libca would, but no update follows, as if libca had dropped it
        with monkeypatch.context() as lost:
            lost.setattr(libca, "host_name", lambda _: libca.NO_HOST)
            channel.connection_changed(channel._token_key, False, -1, 0)
        channel.connection_changed(
            channel._token_key, True, channel.native_type, channel.native_count
        )
        assert (await anext(updates)).errorcode == aioca.ECA.DISCONN
        if limit is None:
            with anyio.move_on_after(2.5) as scope:  # nothing must come: there is no event
                await anext(updates)
            assert scope.cancelled_caught
        else:
            with anyio.fail_after(10):
                told = await anext(updates)
            assert told.errorcode == aioca.ECA.TOLARGE
            assert "EPICS_CA_AUTO_ARRAY_BYTES=NO" in str(told)


async def test_wait_for_the_number_of_a_state_whose_labels_cannot_be_read_at_first(
    p: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read for the next update."""
    pv = p + "mbbi"
    reads = 0
    get = wait_for_value_module().caget

    async def failing(*args: Any, **options: Any) -> Any:
        nonlocal reads
        reads += 1
        if reads == 1:
            return aioca.CANothing(pv, aioca.ECA.DISCONN)
        return await get(*args, **options)

    monkeypatch.setattr(wait_for_value_module(), "caget", failing)
    now = int(+await aioca.caget(pv))
    other = (now + 1) % 2

    async def change() -> None:
        while reads == 0:
            await anyio.sleep(0.001)
        await aioca.caput(pv, other)
        await aioca.caput(pv, now)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(change)
            await wait_for_value(pv, str(now))
    assert reads >= 2


def wait_for_value_module() -> Any:
    import sys

    return sys.modules["aioca._api.wait_for_value"]
