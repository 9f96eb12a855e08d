"""Rows: the text that is shown for one PV: its value, or the reason why it has none."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._ca.eca import ECA
from .text import curve, stamp_text, value_text

_CURVE_COLUMNS = 60

NOT_CONNECTED = -1  # a severity, for PVs without a value


class Row(NamedTuple):
    """One PV, as text; an empty text is for what is not known.

    Attributes:
        name: the PV.
        value: its value, or why it has none.
        units: engineering units.
        severity: 0 to 3; `NOT_CONNECTED` for a failure; None if it is not known.
        alarm: the severity and its reason, such as ``MAJOR HIHI``.
        time: the local time of the value.
        exact: the value with all its digits, if ``value`` has fewer.
        points: the curve of an array, see `curve`.
    """

    name: str
    value: str = ""
    units: str = ""
    severity: int | None = None
    alarm: str = ""
    time: str = ""
    exact: str = ""
    points: list[tuple[float, float]] = []


def row_of(value: Any, properties: Any = None) -> Row:
    """Return the row of a value.

    Args:
        value: an augmented value, or a `CANothing`.
        properties: another value of the same PV with FORMAT_CTRL, if ``value`` is none.
    """
    if hasattr(value, "errorcode"):
        return _row_of_outcome(value)
    known = value if properties is None else properties
    text = value_text(value, known)
    severity = getattr(value, "severity", None)
    exact = repr(+value) if type(value).__name__ == "ca_float" else ""
    return Row(
        name=value.name,
        value=text,
        units=getattr(known, "units", ""),
        severity=severity,
        alarm=_alarm_text(value) if severity is not None else "",
        time=stamp_text(value.timestamp_ns) if hasattr(value, "timestamp_ns") else "",
        exact="" if exact == text else exact,
        points=curve(value, _CURVE_COLUMNS) if isinstance(value, np.ndarray) else [],
    )


def lost(row: Row, alarm: str = "disconnected") -> Row:
    """Return the row of a PV whose last value is not the present one any more."""
    return row._replace(severity=NOT_CONNECTED, alarm=alarm)


def _alarm_text(value: Any) -> str:
    status, severity = value.alarm
    return severity if value.severity == 0 else f"{severity} {status}"


def _row_of_outcome(outcome: Any) -> Row:
    if outcome.ok:
        return Row(outcome.name, "done")
    try:
        alarm = ECA(outcome.errorcode).name
    except ValueError:
        alarm = f"error {outcome.errorcode}"
    if outcome.errorcode in (ECA.DISCONN, ECA.TIMEOUT):
        alarm = {ECA.DISCONN: "disconnected", ECA.TIMEOUT: "timeout"}[outcome.errorcode]
    why = str(outcome).removeprefix(f"{outcome.name}: ")
    return Row(outcome.name, why, severity=NOT_CONNECTED, alarm=alarm)
