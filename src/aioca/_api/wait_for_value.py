"""wait_for_value: a monitor that ends with the first update that matches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, overload

from .._ca import libca
from .._channels.registry import current
from .._errors import Failure, error_for
from .._monitors.handles import Subscription
from .._monitors.nothing import NOTHING
from .._requests.pending_puts import PendingPuts
from .._values.dbr import DBR_ENUM, FORMAT_CTRL, FORMAT_RAW
from ..types import (
    AugmentedValue,
    Count,
    Datatype,
    Dbe,
    Format,
    Timeout,
    ca_bytes,
    ca_float,
    ca_int,
    ca_str,
)
from .arguments import deadline_of
from .matching import Matcher
from .monitor import camonitor
from .read import caget

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .._monitors.options import MonitorOptions
    from .._monitors.stream import Updates


@overload
async def wait_for_value(
    pv: str, match: Any, timeout: Timeout = ..., *, datatype: type[int],
    **options: Unpack[MonitorOptions],
) -> ca_int: ...  # fmt: skip
@overload
async def wait_for_value(
    pv: str, match: Any, timeout: Timeout = ..., *, datatype: type[float],
    **options: Unpack[MonitorOptions],
) -> ca_float: ...  # fmt: skip
@overload
async def wait_for_value(
    pv: str, match: Any, timeout: Timeout = ..., *, datatype: type[str],
    **options: Unpack[MonitorOptions],
) -> ca_str: ...  # fmt: skip
@overload
async def wait_for_value(
    pv: str, match: Any, timeout: Timeout = ..., *, datatype: type[bytes],
    **options: Unpack[MonitorOptions],
) -> ca_bytes: ...  # fmt: skip
@overload
async def wait_for_value(
    pv: str, match: Any, timeout: Timeout = ..., *, datatype: Datatype = ...,
    **options: Unpack[MonitorOptions],
) -> AugmentedValue: ...  # fmt: skip
async def wait_for_value(
    pv: str,
    match: Any,
    timeout: Timeout = None,
    *,
    events: Dbe = None,
    datatype: Datatype = None,
    format: Format = FORMAT_RAW,
    count: Count = 0,
    all_updates: bool = True,
    notify_disconnect: bool = False,
    connect_timeout: Timeout = None,
    max_pending: int | None = None,
) -> AugmentedValue:
    """Wait until a PV has a value.

    Args:
        pv: the PV.
        match: the value to wait for, or a function that is called with each update and returns
            whether it matches. A value matches when a `caput` of it would have written the value of
            the PV: text is the label of an enum, or the long string of a CHAR array.
        timeout: seconds for the whole call; see `aioca.types.Timeout`.
        events: as for `camonitor`.
        datatype: as for `camonitor`.
        format: as for `camonitor`.
        count: as for `camonitor`.
        all_updates: whether to check every update, or the latest only.
        notify_disconnect: as for `camonitor`; a function ``match`` is called with the `CANothing`.
        connect_timeout: likewise.
        max_pending: as for `camonitor`.

    Returns:
        `aioca.types.AugmentedValue`: the first update that matched, which may be the present value.

    Raises:
        CATimeout: no update matched by the deadline; the message has the last value.
        CADisconnected: this program closed the monitor during the call.
        CAValueError: the PV cannot have such a value.
        TypeError, ValueError: an argument is wrong.
    """
    if not isinstance(pv, str):
        raise TypeError(f"wait_for_value takes one PV, a str, not {pv!r}")
    matches = Matcher(pv, match, datatype)
    context = current()
    deadline = deadline_of(timeout, context.portal)
    seen: Any = NOTHING
    failure = Failure(pv, libca.ECA_TIMEOUT, "waiting for a value")
    subscription: Subscription[Updates] = camonitor(
        pv, events=events, datatype=matches.datatype, format=format, count=count,
        all_updates=all_updates and max_pending is None, notify_disconnect=notify_disconnect,
        connect_timeout=connect_timeout, max_pending=max_pending,
    )  # fmt: skip
    async with subscription as updates:
        stream = updates._stream
        left = math.inf  # number of updates that may still be checked
        while left > 0:
            value = await stream.next_before(deadline) if left == math.inf else stream.take()
            if value is NOTHING:
                break
            if matches.needs_labels and value.ok:
                await _learn_labels(matches, subscription, deadline - context.portal.now())
            if matches(value):
                return value  # type: ignore[no-any-return]
            seen = value
            left -= 1
            if left == math.inf and context.portal.now() >= deadline:
                # Updates may never stop coming: check only those that came by the deadline.
                await context.portal.catch_up()
                left = len(stream.queue)
        failure = _why_not(subscription, match, seen)  # before the block closes the monitor
    raise error_for([failure])


async def _learn_labels(matches: Matcher, subscription: Subscription, seconds: float) -> None:
    """Read the labels of an enum for the comparison; other PVs have none.

    If they cannot be read in this time, they are read for the next update.
    """
    channel = subscription._monitor._channel
    if channel is None or channel.native_type != DBR_ENUM:
        matches.labels_are([])
        return
    timeout = None if seconds == math.inf else max(0.0, seconds)
    reply = await caget(subscription.name, DBR_ENUM, FORMAT_CTRL, 0, timeout, throw=False)
    if reply.ok:
        matches.labels_are(getattr(reply, "enums", []))


def _why_not(subscription: Subscription, match: Any, seen: Any) -> Failure:
    """Explain why no value matched; ``seen`` is the last value, or NOTHING."""
    pv = subscription.name
    if subscription.state == Subscription.CLOSED:
        return Failure(
            pv, libca.ECA_DISCONN, "waiting for a value: this program closed the monitor"
        )
    if seen is not NOTHING:
        detail = f"waiting for a value that matches {match!r}: the last value was {seen!r}"
    else:
        monitor = subscription._monitor
        detail = monitor.why_no_update()
        if monitor._channel is not None:
            detail += PendingPuts(monitor.context).on_the_server_of(monitor._channel)
    return Failure(pv, libca.ECA_TIMEOUT, detail)
