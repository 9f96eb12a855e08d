"""What a failed operation is: CANothing, and the exceptions derived from it.

- What ``throw=False`` returns is exactly ``CANothing`` and falsy. What is raised is truthy: a
  falsy exception is taken for "no exception" by ``concurrent.futures.Future.result()``.
- One failed PV is one ``Failure``; it becomes a returned or a raised object only at the end
  of the call, in this module.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from ._ca import libca
from ._printable import printable


class CANothing(Exception):  # noqa: N818
    """No value: the outcome of an operation that brought none.

    Returned (and falsy) in the place of a PV that failed when ``throw=False`` was given;
    returned (and truthy) by a successful :func:`caput` or :func:`connect`; given (and falsy)
    to a monitor on disconnection. Every exception that this package raises for a PV is
    derived from it.

    Attributes:
        name (str): the PV.
        errorcode (int): the ECA status, ``ECA_NORMAL`` (1) on success.
        ok (bool): whether ``errorcode`` is ``ECA_NORMAL``.
    """

    # Those of success, which `success` need not set
    errorcode: int = libca.ECA_NORMAL
    ok: bool = True
    _detail: str = ""

    def __init__(self, name: str, errorcode: int = libca.ECA_NORMAL, *, detail: str = ""):
        # Not super(): the next class may be cadef's, or OSError, and mean other things by this.
        Exception.__init__(self, name, errorcode)
        self.name = name
        self.errorcode = errorcode
        self.ok = errorcode == libca.ECA_NORMAL
        self._detail = detail

    def __str__(self) -> str:
        text = f"{self.name}: {libca.message(self.errorcode)}"
        # Both may have come from anywhere: an escape sequence of theirs is none here
        return printable(f"{text} ({self._detail})" if self._detail else text)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.errorcode})"

    def __bool__(self) -> bool:
        return self.ok

    def __reduce__(self) -> tuple[Any, ...]:
        # Only the public class is named in a pickle: what reads it may be another version.
        kind = getattr(type(self), "_ours", type(self))
        return kind, (self.name, self.errorcode), self.__dict__


def success(name: str) -> CANothing:
    """What a call returns for a PV for which it was successful: there may be many thousands."""
    nothing = CANothing.__new__(CANothing, name, libca.ECA_NORMAL)
    nothing.name = name
    return nothing


class CAError(CANothing):
    """Base of what is raised: truthy, though ``ok`` is false.

    Attributes:
        failures (list[CANothing]): one for each PV of the call that failed, in order.
    """

    def __init__(self, name: str, errorcode: int, *, detail: str = "") -> None:
        super().__init__(name, errorcode, detail=detail)
        self.failures: list[CANothing] = [CANothing(name, errorcode, detail=detail)]

    def __bool__(self) -> bool:
        return True

    def __str__(self) -> str:
        if len(self.failures) < 2:
            return super().__str__()
        return f"{len(self.failures)} PVs failed: " + "; ".join(map(str, self.failures))


class CATimeout(CAError, TimeoutError):  # noqa: N818
    """The operation did not end by its deadline (``ECA_TIMEOUT``)."""


class CADisconnected(CAError):  # noqa: N818
    """The channel was lost, or closed by this program, while the operation waited."""


class CAAccessDenied(CAError):  # noqa: N818
    """The server does not let this client read or write the PV."""


class CARequestError(CAError):
    """Any other ECA status: the request was refused here or by the server."""


class CAValueError(CARequestError, ValueError):
    """The name of the PV, or the value to be written, cannot be sent; nothing was."""


class Failure(NamedTuple):
    """Why one PV of a call failed: an ECA status, and what was being done."""

    name: str
    status: int
    detail: str
    local: bool = False  # found here, before anything was sent for this PV

    def nothing(self) -> CANothing:
        return CANothing(self.name, self.status, detail=self.detail)


def invalid(name: str, status: int, detail: str) -> CAValueError:
    """The error for something that this side knows it cannot send."""
    return CAValueError(name, status, detail=detail)


def error_for(failures: Sequence[Failure]) -> CAError:
    """The exception for a call of which these PVs failed; the first decides its class."""
    first = failures[0]
    kind = _kind(first)
    foreign = _cadef_class(first.status)
    if foreign is not None:
        kind = _with_cadef(kind, foreign)
    error = kind(first.name, first.status, detail=first.detail)
    error.failures = [failure.nothing() for failure in failures]
    return error


def _kind(failure: Failure) -> type[CAError]:
    if failure.local:
        return CAValueError
    if failure.status == libca.ECA_TIMEOUT:
        return CATimeout
    if failure.status in (libca.ECA_DISCONN, libca.ECA_CHANDESTROY):
        return CADisconnected
    if failure.status in (libca.ECA_NORDACCESS, libca.ECA_NOWTACCESS):
        return CAAccessDenied
    return CARequestError


# -- Programs written for aioca 2.x may catch the exceptions of epicscorelibs.ca.cadef -------------


def _cadef_class(status: int) -> type[Exception] | None:
    """The class of cadef that aioca 2.x raised for this status, where cadef is in use."""
    cadef = sys.modules.get("epicscorelibs.ca.cadef")
    if cadef is None or status == libca.ECA_TIMEOUT:
        return None
    name = "Disconnected" if status == libca.ECA_DISCONN else "CAException"
    return getattr(cadef, name, None)


_joint_classes: dict[tuple[type[CAError], type[Exception]], type[CAError]] = {}


def _with_cadef(kind: type[CAError], foreign: type[Exception]) -> type[CAError]:
    # `except` looks at real base classes only, so there has to be a class with both. Neither
    # __init__ nor __str__ of the foreign class runs: ours come first.
    joint = _joint_classes.get((kind, foreign))
    if joint is None:
        content = {
            "__module__": "aioca",
            "status": property(lambda self: self.errorcode),
            "_ours": kind,
        }
        joint = _joint_classes[kind, foreign] = type(kind.__name__, (kind, foreign), content)
    return joint


def _restore(  # pyright: ignore[reportUnusedFunction]
    kind: str, name: str, errorcode: int, state: dict[str, Any]
) -> CANothing:
    """What pickles of 3.0 before its release name; none is made with it any more."""
    error: CANothing = globals()[kind](name, errorcode)
    error.__dict__.update(state)
    return error
