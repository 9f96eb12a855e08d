"""Updates and events to rows: a batch at once, with a few numpy operations for each DBR type.

The name of a PV is never looked up for an update. Each value keeps its reader, and a reader belongs
to one connection of one PV, so a dictionary of readers gives the place of the PV.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..._values.classes import Reader, Shape
from ..._values.columns import columns_of, reader_of
from .rows import Event, Rows

# A code has the place of the PV, and in its lowest bits the place of the shape. All channels share
# a few shapes: there is one for each DBR type, once for scalars and once for arrays.
_SHAPE_BITS = 8
_SHAPE_MASK = (1 << _SHAPE_BITS) - 1
_EVENT = _SHAPE_MASK  # the place of the shape of events, which have no reader


class _Codes(dict[Any, int]):
    """The code of each reader, or of None for an event."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__({None: _EVENT})
        self._places = {name: place for place, name in enumerate(names)}
        self._readers: dict[int, Reader] = {}
        self.shapes: list[Shape] = []

    def __missing__(self, reader: Reader) -> int:
        place = self._places[reader.name]
        if reader.shape not in self.shapes:
            self.shapes.append(reader.shape)
            assert len(self.shapes) <= _EVENT
        # The reader of the connection before is not needed any more
        self.pop(self._readers.get(place, reader), None)
        self._readers[place] = reader
        code = self[reader] = place << _SHAPE_BITS | self.shapes.index(reader.shape)
        return code


class RowDecoder:
    """Makes rows of the updates and events of the PVs with these names."""

    def __init__(self, names: Sequence[str]) -> None:
        self._codes = _Codes(names)

    def place_of(self, value: Any) -> int:
        """Return the place of the PV of a value in the list of names."""
        return self._codes[reader_of(value)] >> _SHAPE_BITS

    def rows(self, items: Sequence[Any]) -> Rows:
        """Make a row of each value of FORMAT_TIME and of each `Event`."""
        rows = Rows(len(items))
        code_of = self._codes.__getitem__
        codes: Any = np.fromiter(map(code_of, map(reader_of, items)), "i8", len(items))
        rows.pv[:] = codes >> _SHAPE_BITS
        shapes = codes & _SHAPE_MASK
        used: list[int] = sorted(set(shapes.tolist()))
        for number in used:
            places: Any = np.flatnonzero(shapes == number)
            members = items
            if len(places) < len(items):
                members = [items[place] for place in places.tolist()]
            if number == _EVENT:
                _fill_events(rows, places.tolist(), members)
            else:
                _fill_values(rows, places, self._codes.shapes[number], members)
        # Those of one type were added after those of another
        rows.texts = dict(sorted(rows.texts.items()))
        rows.arrays = dict(sorted(rows.arrays.items()))
        return rows


def _fill_events(rows: Rows, places: list[int], events: Sequence[Event]) -> None:
    for place, event in zip(places, events, strict=True):
        rows.pv[place] = event.index
        rows.event[place] = event.number
        rows.timestamp_ns[place] = event.timestamp_ns
        if event.lost is not None:
            rows.number[place] = event.lost
            rows.has_number[place] = True


def _fill_values(rows: Rows, places: Any, shape: Shape, values: Sequence[Any]) -> None:
    columns = columns_of(shape, values)
    rows.timestamp_ns[places] = columns.timestamp_ns
    rows.severity[places] = columns.severity
    rows.status[places] = columns.status
    rows.type[places] = shape.datatype
    if columns.numbers is not None:
        rows.number[places] = columns.numbers
        rows.has_number[places] = True
    else:
        for place, value in zip(places.tolist(), values, strict=True):
            _set_value(rows, place, value)


def _set_value(rows: Rows, place: int, value: Any) -> None:
    """Set the cells of a text or an array."""
    if not _is_array(value):
        rows.texts[place] = str(value)
        return
    rows.count[place] = len(value)
    if value.dtype.kind in "biuf":
        rows.arrays[place] = +value  # a copy, without the attributes and the bytes of the DBR
    else:
        rows.texts[place] = json.dumps([str(text) for text in value], ensure_ascii=False)


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray)
