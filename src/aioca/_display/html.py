"""Rows as HTML, for notebooks.

- All text that is not ours passes `_safe`: no PV can add an element, an attribute, or a control
  character. The classes of the outermost element keep MathJax from reading ``$...$`` as a formula.
- Styles are attributes: JupyterLab removes a ``<style>`` from notebooks that it does not trust.
- Colours: text has the colour of the page, lines and backgrounds are half transparent, and a badge
  has both its colours. So all of these can be read on a light and on a dark page.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from .._printable import printable
from .rows import NOT_CONNECTED, Row

MAX_ROWS = 60  # of a table; of a longer one the first rows and the last _LAST_ROWS are shown
_LAST_ROWS = 10

_OUTER = '<div class="aioca tex2jax_ignore mathjax_ignore" style="font-size:13px;{}">'
_BADGES = {
    NOT_CONNECTED: ("#6b7280", "#fff"),
    1: ("#f5c518", "#000"),
    2: ("#d32f2f", "#fff"),
    3: ("#a21caf", "#fff"),
}
_MUTED = "opacity:.7"
_LINE = "1px solid rgba(128,128,128,.35)"
_CELL = "padding:3px 12px 3px 0;vertical-align:top"
_VALUE = "white-space:pre-wrap;overflow-wrap:anywhere"
_NUMBERS = "font-variant-numeric:tabular-nums"
_CURVE_WIDTH, _CURVE_HEIGHT = 160, 28


def card(row: Row) -> str:
    """Return the HTML of one PV."""
    parts = [
        f'<span style="font-weight:600">{_safe(row.name)}</span>',
        f'<span style="font-size:17px;{_VALUE};{_NUMBERS}"{_title(row)}>{_safe(row.value)}</span>'
        if row.severity != NOT_CONNECTED
        else f'<span style="{_VALUE}">{_safe(row.value)}</span>',
    ]
    if row.units:
        parts.append(f"<span>{_safe(row.units)}</span>")
    if row.points:
        parts.append(_curve(row))
    if row.alarm:
        parts.append(_badge(row))
    if row.time:
        parts.append(f'<span style="{_MUTED};{_NUMBERS}">{_safe(row.time)}</span>')
    style = "display:flex;flex-wrap:wrap;gap:4px 12px;align-items:baseline"
    return f"{_OUTER.format(style)}{''.join(parts)}</div>"


def table(rows: Sequence[Row], note: str = "", max_rows: int = MAX_ROWS) -> str:
    """Return the HTML of a table with one row for each PV.

    Args:
        rows: the rows.
        note: a line below the table.
        max_rows: the most rows to show. The others are counted, with their alarms.
    """
    columns = [
        title
        for title, field in (("PV", "name"), ("Value", "value"), ("Units", "units"),
                             ("Alarm", "alarm"), ("Time", "time"))
        if field in ("name", "value") or any(getattr(row, field) for row in rows)
    ]  # fmt: skip
    head = "".join(f'<th style="text-align:left;{_CELL}">{title}</th>' for title in columns)
    last = min(_LAST_ROWS, max_rows // 4)
    first = len(rows) if len(rows) <= max_rows else max(1, max_rows - last)
    body = [_table_row(row, columns) for row in rows[:first]]
    if first < len(rows):
        hidden = rows[first : len(rows) - last]
        body.append(
            f'<tr style="border-top:{_LINE}"><td colspan="{len(columns)}" style="text-align:left;'
            f'{_CELL};{_MUTED}">{_safe(_summary(hidden))}</td></tr>'
        )
        body += [_table_row(row, columns) for row in rows[first + len(hidden) :]]
    below = f'<div style="{_MUTED};padding-top:4px">{_safe(note)}</div>' if note else ""
    return (
        f'{_OUTER.format("")}<table style="border-collapse:collapse;{_NUMBERS}"><thead>'
        f"<tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>{below}</div>"
    )


def _table_row(row: Row, columns: Sequence[str]) -> str:
    cells = {
        "PV": f'<td style="text-align:left;{_CELL};font-weight:600">{_safe(row.name)}</td>',
        "Value": f'<td style="text-align:left;{_CELL};{_VALUE}"{_title(row)}>{_safe(row.value)}'
        f"{_curve(row)}</td>",
        "Units": f'<td style="text-align:left;{_CELL}">{_safe(row.units)}</td>',
        "Alarm": f'<td style="text-align:left;{_CELL}">{_badge(row)}</td>',
        "Time": f'<td style="text-align:left;{_CELL};{_MUTED};white-space:nowrap">'
        f"{_safe(row.time)}</td>",
    }
    joined = "".join(cells[column] for column in columns)
    return f'<tr style="border-top:{_LINE}">{joined}</tr>'


def _safe(text: str) -> str:
    """Escape a text for HTML, as content and as a quoted attribute. Its lines stay lines."""
    return html.escape("\n".join(map(printable, text.split("\n"))))


def _title(row: Row) -> str:
    return f' title="{_safe(row.exact)}"' if row.exact else ""


def _badge(row: Row) -> str:
    if not row.alarm:
        return ""
    if row.severity == 0:
        return f'<span style="{_MUTED}">no alarm</span>'
    background, colour = _BADGES.get(NOT_CONNECTED if row.severity is None else row.severity,
                                     _BADGES[3])  # fmt: skip
    style = f"background:{background};color:{colour};border-radius:3px;padding:1px 6px"
    return f'<span style="{style};white-space:nowrap">{_safe(row.alarm)}</span>'


def _curve(row: Row) -> str:
    """Return a picture of an array."""
    if not row.points:
        return ""
    width, height = _CURVE_WIDTH, _CURVE_HEIGHT
    points = " ".join(
        f"{1 + x * (width - 2):.1f},{1 + (1 - y) * (height - 2):.1f}" for x, y in row.points
    )
    return (
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img"'
        f' aria-label="curve" style="display:block"><polyline points="{points}" fill="none"'
        ' stroke="currentColor" stroke-width="1"/></svg>'
    )


def _summary(hidden: Sequence[Row]) -> str:
    alarms = sum(bool(row.severity and row.severity > 0) for row in hidden)
    failed = sum(row.severity == NOT_CONNECTED for row in hidden)
    text = f"\N{HORIZONTAL ELLIPSIS} {len(hidden):,} more PVs"
    found = [f"{alarms:,} in alarm"] if alarms else []
    found += [f"{failed:,} without a value"] if failed else []
    return f"{text}, {' and '.join(found)} among them" if found else text
