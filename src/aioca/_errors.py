"""The errors of PVs: CANothing, and the exceptions derived from it.

- A call with ``throw=False`` returns objects whose class is exactly ``CANothing`` and which are
  falsy. Errors that are raised are truthy: ``concurrent.futures.Future.result()`` takes a falsy
  exception for "no exception".
- Inside the package, a failed PV is a ``Failure``. This module turns it into an object that is
  returned or raised, at the end of the call.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from ._ca import libca
from ._printable import printable


class CANothing(Exception):  # noqa: N818
    """The result of an operation that has no value.

    With ``throw=False``, a call returns a falsy one for each PV that failed. A successful
    :func:`caput` or :func:`connect` returns a truthy one. A monitor with ``notify_disconnect``
    delivers a falsy one on disconnection. Every exception that this package raises for a PV is
    derived from this class.

    Attributes:
        name (str): the PV.
        errorcode (int): the ECA status, ``ECA_NORMAL`` (1) on success.
        ok (bool): whether ``errorcode`` is ``ECA_NORMAL``.
    """

    # Class attributes for success, so that `success` need not set them
    errorcode: int = libca.ECA_NORMAL
    ok: bool = True
    _detail: str = ""

    def __init__(self, name: str, errorcode: int = libca.ECA_NORMAL, *, detail: str = ""):
        # Not super(): the next class may be one of cadef, or OSError, whose arguments differ.
        Exception.__init__(self, name, errorcode)
        self.name = name
        self.errorcode = errorcode
        self.ok = errorcode == libca.ECA_NORMAL
        self._detail = detail

    def __str__(self) -> str:
        text = f"{self.name}: {libca.message(self.errorcode)}"
        # The name and the detail may hold text from a server: escape unprintable characters.
        return printable(f"{text} ({self._detail})" if self._detail else text)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.errorcode})"

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        from ._display import html, rows  # takes milliseconds that only notebooks need

        return html.card(rows.row_of(self))

    def __bool__(self) -> bool:
        return self.ok

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickle names the public class only, because another version may read it.
        kind = getattr(type(self), "_ours", type(self))
        return kind, (self.name, self.errorcode), self.__dict__


def success(name: str) -> CANothing:
    """Make the `CANothing` of success. Fast, because a call may have many thousands of PVs."""
    nothing = CANothing.__new__(CANothing, name, libca.ECA_NORMAL)
    nothing.name = name
    return nothing


class CAError(CANothing):
    """The base class of all errors that are raised: truthy, though ``ok`` is false.

    Attributes:
        failures (list[CANothing]): one for each PV that failed, in the order of the call.
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
    """The server was lost, or this program closed the channel, while the operation waited."""


class CAAccessDenied(CAError):  # noqa: N818
    """The server does not let this client read or write the PV."""


class CARequestError(CAError):
    """The server or libca refused the request: any other ECA status."""


class CAValueError(CARequestError, ValueError):
    """The name of the PV, or the value to write, cannot be sent; nothing was sent."""


class Failure(NamedTuple):
    """Why one PV of a call failed: an ECA status, and a text from `explain`."""

    name: str
    status: int
    detail: str
    local: bool = False  # found in this process, before anything was sent for this PV

    def nothing(self) -> CANothing:
        """Make the object that is returned, or delivered to a monitor."""
        return CANothing(self.name, self.status, detail=self.detail)


def invalid(name: str, status: int, detail: str) -> CAValueError:
    """Make the error for a name or value that cannot be sent."""
    return CAValueError(name, status, detail=detail)


def error_for(failures: Sequence[Failure]) -> CAError:
    """Make the exception for the PVs that failed in one call; the first decides its class."""
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


# -- For programs that catch the exceptions of epicscorelibs.ca.cadef, as aioca 2.x raised them ----


def _cadef_class(status: int) -> type[Exception] | None:
    """Return the class that aioca 2.x raised for this status; None if cadef is not imported."""
    cadef = sys.modules.get("epicscorelibs.ca.cadef")
    if cadef is None or status == libca.ECA_TIMEOUT:
        return None
    name = "Disconnected" if status == libca.ECA_DISCONN else "CAException"
    return getattr(cadef, name, None)


_joint_classes: dict[tuple[type[CAError], type[Exception]], type[CAError]] = {}


def _with_cadef(kind: type[CAError], foreign: type[Exception]) -> type[CAError]:
    # `except` checks real base classes only, so the error needs a class derived from both. Our
    # __init__ and __str__ come first, so those of the foreign class do not run.
    joint = _joint_classes.get((kind, foreign))
    if joint is None:
        content = {
            "__module__": "aioca",
            "status": property(lambda self: self.errorcode),
            "_ours": kind,
        }
        made = type(kind.__name__, (kind, foreign), content)
        joint = _joint_classes.setdefault((kind, foreign), made)  # one, also for two threads
    return joint


def _restore(  # pyright: ignore[reportUnusedFunction]
    kind: str, name: str, errorcode: int, state: dict[str, Any]
) -> CANothing:
    """Restore an error from a pickle made before the release of 3.0; new ones do not use it."""
    error: CANothing = globals()[kind](name, errorcode)
    error.__dict__.update(state)
    return error
