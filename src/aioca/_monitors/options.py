"""The options of a monitor, and their checks."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple, TypedDict

from .._values.dbr import (
    DBE_ALARM,
    DBE_PROPERTY,
    DBE_VALUE,
    FORMAT_CTRL,
    FORMAT_TIME,
    datatype_code,
)
from ..types import Count, Dbe, Format, Timeout


class MonitorOptions(TypedDict, total=False):
    """The keyword arguments of camonitor but its PV and datatype, for overloads."""

    events: Dbe
    format: Format
    count: Count
    all_updates: bool
    notify_disconnect: bool
    connect_timeout: Timeout
    max_pending: int | None


class Options(NamedTuple):
    """The checked options of a monitor."""

    code: int | None
    format: int
    count: int  # type: ignore[assignment]  # hides the method of tuple, which is not used
    events: int
    limit: int  # the most pending updates that are kept; 0 means all
    notify_disconnect: bool
    connect_timeout: float | None


def default_events(format: int) -> int:
    """The events for which a monitor asks by default: those that its format shows."""
    events = DBE_VALUE
    if format in (FORMAT_TIME, FORMAT_CTRL):
        events |= DBE_ALARM
    if format == FORMAT_CTRL:
        events |= DBE_PROPERTY
    return events


def check_options(
    datatype: Any,
    format: int,
    count: int,
    events: int | None,
    all_updates: bool,
    max_pending: int | None,
    notify_disconnect: bool,
    connect_timeout: float | None,
) -> Options:
    """Check the options of a monitor.

    Raises:
        TypeError, ValueError: an option cannot be used; no monitor was made.
    """
    code = datatype_code(datatype)
    if events is None:
        events = default_events(format)
    elif not isinstance(events, int) or not 0 < events < 16:
        raise ValueError(f"events must be a bitwise or of DBE_ constants, not {events!r}")
    if max_pending is not None:
        if all_updates:
            raise ValueError(
                "all_updates keeps every update, so it cannot be combined with max_pending"
            )
        if not isinstance(max_pending, int) or not 1 <= max_pending <= sys.maxsize:
            raise ValueError(
                f"max_pending must be an int of 1 or more (at most {sys.maxsize}), not"
                f" {max_pending!r}"
            )
    limit = 0 if all_updates else max_pending or 1
    return Options(
        code, format, count, int(events), limit, bool(notify_disconnect), connect_timeout
    )
