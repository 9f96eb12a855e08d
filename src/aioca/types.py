"""Types for annotations: what the functions of `aioca` take and give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from ._values.augmented import Alarm, AugmentedValue

# Every pickle of a value names `_rebuild` by this path, `aioca.types._rebuild`: keep it.
from ._values.classes import _rebuild as _rebuild  # noqa: PLC0414
from ._values.classes import ca_array, ca_bytes, ca_float, ca_int, ca_str

__all__ = [
    "Alarm", "AugmentedValue", "Count", "Datatype", "Dbe", "Dbr", "Format", "TaskGroup", "Timeout",
    "ca_array", "ca_bytes", "ca_float", "ca_int", "ca_str",
]  # fmt: skip

if TYPE_CHECKING:
    _DType = np.dtype[Any]
else:  # numpy 1.21 does not take the brackets
    _DType = np.dtype

#: When an operation fails if it has not ended:
#:
#: ============ ================================================================
#: ``None``     never
#: ``0``        at once, if any waiting is needed
#: a number     after so many seconds
#: ``(t,)``     at ``t`` on the clock of ``time.time()``
#: ============ ================================================================
Timeout = float | tuple[float] | None

#: Which events a monitor is for, as a bitwise or of ``DBE_VALUE``, ``DBE_LOG``, ``DBE_ALARM`` and
#: ``DBE_PROPERTY``. ``None`` is what the format shows: ``DBE_VALUE`` for ``FORMAT_RAW``, with
#: ``DBE_ALARM`` for ``FORMAT_TIME``, and with ``DBE_PROPERTY`` too for ``FORMAT_CTRL``.
Dbe = int | None

#: A data type by its DBR code (``DBR_DOUBLE``...), or ``DBR_ENUM_STR`` (labels of an enum,
#: native otherwise), ``DBR_CHAR_STR``, ``DBR_CHAR_UNICODE`` or ``DBR_CHAR_BYTES`` (a CHAR array
#: as one long string).
Dbr = Literal[0, 1, 2, 3, 4, 5, 6, 35, 36, 37, 38, 996, 997, 998, 999]

#: ``None`` for the native type of the PV, a `Dbr` code, a Python type (``float``, ``int``,
#: ``str``, ``bytes``, ``bool``) or anything that ``numpy.dtype`` takes and CA has. With ``str``
#: or ``bytes``, a CHAR array is a long string. A number that the type cannot hold is an error.
#:
#: Type checkers take what is read with ``float``, ``int``, ``str`` or ``bytes`` for the class of
#: a scalar: `ca_float`, `ca_int`, `ca_str`, `ca_bytes`. Of a PV that is an array it is a
#: `ca_array`: those classes allow what can be done with one, and ``"f8"`` or
#: ``np.dtype("f8")`` has the type `AugmentedValue`.
Datatype = Dbr | type | _DType | str | None

#: What comes with the value. ``FORMAT_RAW`` nothing, ``FORMAT_TIME`` alarm and time stamp,
#: ``FORMAT_CTRL`` alarm, units, precision, limits and enum labels.
Format = Literal[0, 1, 2]

#: How many elements: 0 as many as there are now, -1 the native length, n at most n. With -1 and n,
#: zeros stand for what there is not.
Count = int


class _Nursery(Protocol):
    def start_soon(self, function: Any, /, *args: Any, name: Any = ...) -> Any: ...


class _AsyncioTaskGroup(Protocol):
    async def __aenter__(self) -> Any: ...  # an event loop of asyncio has create_task as well
    def create_task(self, coro: Any, /, *, name: Any = ...) -> Any: ...


#: What can own a monitor: an anyio ``TaskGroup``, a ``trio.Nursery`` or an ``asyncio.TaskGroup``.
TaskGroup = _Nursery | _AsyncioTaskGroup
