"""Types for annotations: the arguments and results of the functions of `aioca`."""

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

#: The deadline by which an operation fails if it has not ended:
#:
#: ============ ================================================================
#: ``None``     never
#: ``0``        at once, if it has to wait at all
#: a number     after so many seconds
#: ``(t,)``     at ``t`` on the clock of ``time.time()``
#: ============ ================================================================
Timeout = float | tuple[float] | None

#: The events that a monitor asks for: a bitwise or of ``DBE_VALUE``, ``DBE_LOG``, ``DBE_ALARM`` and
#: ``DBE_PROPERTY``. With ``None``, the format decides: ``DBE_VALUE`` for ``FORMAT_RAW``, also
#: ``DBE_ALARM`` for ``FORMAT_TIME``, and also ``DBE_PROPERTY`` for ``FORMAT_CTRL``.
Dbe = int | None

#: A data type by its DBR code (``DBR_DOUBLE``...), or ``DBR_ENUM_STR`` (labels of an enum,
#: native otherwise), ``DBR_CHAR_STR``, ``DBR_CHAR_UNICODE`` or ``DBR_CHAR_BYTES`` (a CHAR array
#: as one long string).
Dbr = Literal[0, 1, 2, 3, 4, 5, 6, 35, 36, 37, 38, 996, 997, 998, 999]

#: ``None`` for the native type of the PV, a `Dbr` code, a Python type (``float``, ``int``,
#: ``str``, ``bytes``, ``bool``) or anything that ``numpy.dtype`` takes and CA has. With ``str``
#: or ``bytes``, a CHAR array is a long string. A number that the type cannot hold is an error.
#:
#: Type checkers assume that a value read with ``float``, ``int``, ``str`` or ``bytes`` is a scalar:
#: `ca_float`, `ca_int`, `ca_str` or `ca_bytes`. The value of an array PV is a `ca_array`; the
#: scalar classes also allow the operations of an array. With ``"f8"`` or ``np.dtype("f8")``, the
#: type is `AugmentedValue`.
Datatype = Dbr | type | _DType | str | None

#: The attributes that come with the value. ``FORMAT_RAW``: none. ``FORMAT_TIME``: alarm and time
#: stamp. ``FORMAT_CTRL``: alarm, units, precision, limits and enum labels.
Format = Literal[0, 1, 2]

#: The number of elements to read: 0 means the current length, -1 the native length, n at most n.
#: With -1 and n, zeros fill up an array that is shorter.
Count = int


class _Nursery(Protocol):
    def start_soon(self, function: Any, /, *args: Any, name: Any = ...) -> Any: ...


class _AsyncioTaskGroup(Protocol):
    async def __aenter__(self) -> Any: ...  # because an asyncio event loop has create_task, too
    def create_task(self, coro: Any, /, *, name: Any = ...) -> Any: ...


#: An owner of a monitor: an anyio ``TaskGroup``, a ``trio.Nursery`` or an ``asyncio.TaskGroup``.
TaskGroup = _Nursery | _AsyncioTaskGroup
