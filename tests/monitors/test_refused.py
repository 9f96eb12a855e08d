"""Errors that are detected before a monitor is made."""

from __future__ import annotations

import gc
import warnings
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from aioca import CAValueError, Subscription, camonitor, get_channel_infos
from tests.support.ids import shown
from tests.support.monitors import callback, everything_arrived

pytestmark = pytest.mark.anyio
WITH_UVLOOP = True


@pytest.mark.unit
@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"events": 0}, ValueError, "events"),
        ({"events": 16}, ValueError, "events"),
        ({"events": "value"}, ValueError, "events"),
        ({"all_updates": True, "max_pending": 3}, ValueError, "max_pending"),
        ({"max_pending": 0}, ValueError, "max_pending"),
        ({"max_pending": 1.5}, ValueError, "max_pending"),
        ({"callback": 5}, TypeError, "callback"),
        ({"callback": None, "task_group": object()}, ValueError, "callback"),
        ({"datatype": "nonsense"}, (TypeError, ValueError), "nonsense"),
        ({"datatype": 1234}, (TypeError, ValueError), "1234"),
        ({"format": 7}, ValueError, "format"),
        ({"count": -2}, ValueError, "count"),
        ({"count": 1.5}, ValueError, "count"),
        ({"connect_timeout": "soon"}, TypeError, "timeout"),
        ({"pv": 5}, TypeError, "5"),
        ({"pv": ["X", 5]}, TypeError, "5"),
        ({"pv": ""}, CAValueError, "empty"),
        ({"pv": ["X", "Y" * 992]}, CAValueError, "992"),
    ],
    ids=shown,
)
async def test_validation(arguments: dict[str, Any], error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        camonitor(**{"pv": "X", "callback": callback, **arguments})
    assert get_channel_infos() == []


async def test_finished_task_group(a: str) -> None:
    """A group that accepts no more children raises an error, and no monitor is made."""
    async with anyio.create_task_group() as group:
        pass
    with pytest.raises(RuntimeError):
        camonitor(a, callback, task_group=group)
    await everything_arrived(a)
    assert [info.subscriber_count for info in get_channel_infos()] == [0]


@pytest.mark.parametrize("wrong", [1, "group", object()])
async def test_what_is_no_task_group(a: str, wrong: Any) -> None:
    with pytest.raises(TypeError, match="task_group must be an anyio TaskGroup"):
        camonitor(a, callback, task_group=wrong)
    assert get_channel_infos() == [] or get_channel_infos()[0].subscriber_count == 0


@pytest.mark.parametrize("many", [False, True], ids=["one", "list"])
async def test_a_block_that_is_never_entered(a: str, b: str, many: bool) -> None:
    with pytest.warns(ResourceWarning, match=f"camonitor of {a!r}.* was never entered") as record:
        camonitor([a, b, b] if many else a)
        gc.collect()
    (warning,) = record
    assert ("and 2 others" in str(warning.message)) is many
    assert all(info.subscriber_count == 0 for info in get_channel_infos())


@pytest.mark.parametrize("end", ["entered", "closed", "one closed", "callback", "none", "error"])
async def test_no_warning_of_a_block(a: str, b: str, end: str) -> None:
    """Warnings are errors in the tests; one in __del__ would be reported as unraisable."""
    subscriptions: Any = []
    if end == "entered":
        async with camonitor([a, b]):
            pass
    elif end == "closed":
        subscriptions = camonitor([a, b])
        subscriptions.close()
    elif end == "one closed":
        subscriptions = camonitor([a, b])
        subscriptions[0].close()
    elif end == "callback":
        camonitor(a, callback).close()
    elif end == "none":
        subscriptions = camonitor([])
    else:
        with pytest.raises(CAValueError):
            camonitor([a, ""])
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        del subscriptions
        gc.collect()
    assert record == []


async def test_iterate_without_a_block(a: str) -> None:
    subscription: Any = camonitor(a)
    with pytest.raises(TypeError, match="async with"):
        async for _ in subscription:
            pass
    subscription.close()


@pytest.mark.parametrize("callback", [None, lambda _: None], ids=["stream", "callback"])
async def test_enter_twice_nested(a: str, callback: Any) -> None:
    """The second entry fails, and the first block ends normally."""
    subscription = camonitor(a, callback)
    with anyio.fail_after(5):
        async with subscription:
            with pytest.raises(RuntimeError):
                async with subscription:
                    raise AssertionError("entered twice")
            assert subscription.state != Subscription.CLOSED
            await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
    assert subscription.state == Subscription.CLOSED


@pytest.mark.parametrize("callback", [None, lambda *_: None], ids=["stream", "callback"])
@pytest.mark.parametrize("many", [False, True], ids=["one", "list"])
async def test_enter_closed(a: str, callback: Any, many: bool) -> None:
    subscription: Any = camonitor([a] if many else a, callback)
    async with subscription:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        async with subscription:
            raise AssertionError("entered when closed")


async def test_enter_what_a_task_group_owns(a: str) -> None:
    async with anyio.create_task_group() as group:
        subscription = camonitor(a, lambda _: None, task_group=group)
        with pytest.raises(RuntimeError, match="owner"):
            async with subscription:
                raise AssertionError("entered with another owner")
        assert subscription.state != Subscription.CLOSED
        group.cancel_scope.cancel()
