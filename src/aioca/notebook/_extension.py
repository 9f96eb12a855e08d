"""The IPython extension: ``%load_ext aioca.notebook`` shows lists of values as tables.

The formatter is for all lists. It leaves a list with any other element to the
formatter that was set before. IPython is passed in, and never imported here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._table import is_shown, table

_Format = Callable[[Any], str | None]


class _ListFormat:
    """The formatter of lists, and the one that it replaces."""

    def __init__(self, before: _Format | None) -> None:
        self.before = before

    def __call__(self, values: Any) -> str | None:
        if values and all(map(is_shown, values)):
            return table(values)._repr_html_()
        return None if self.before is None else self.before(values)


def load_ipython_extension(shell: Any) -> None:
    """Show lists of values as tables: ``%load_ext aioca.notebook`` calls this."""
    formatter = shell.display_formatter.formatters["text/html"]
    before = formatter.type_printers.get(list)
    if not isinstance(before, _ListFormat):
        formatter.for_type(list, _ListFormat(before))


def unload_ipython_extension(shell: Any) -> None:
    """Show lists as before: ``%unload_ext aioca.notebook`` calls this."""
    formatter = shell.display_formatter.formatters["text/html"]
    ours = formatter.type_printers.get(list)
    if isinstance(ours, _ListFormat):
        formatter.pop(list)
        if ours.before is not None:
            formatter.for_type(list, ours.before)
