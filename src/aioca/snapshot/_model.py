"""The dataclasses of snapshots, and the error for files."""

# No `from __future__ import annotations`: annotations are evaluated in the public module of the
# classes, `aioca.snapshot`.

import enum
import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeGuard

from .._printable import printable

#: The value of an entry: a scalar, or a list for an array.
Value = int | float | str | list[int] | list[float] | list[str]
#: The program whose format a file has.
Format = Literal["aioca", "autosave", "burt", "psi"]

#: The names of the native types, by their DBR codes.
TYPE_NAMES = ("STRING", "SHORT", "FLOAT", "ENUM", "CHAR", "LONG", "DOUBLE")


def is_list(value: Any) -> TypeGuard[list[Any]]:
    """Whether a value is a list; for type checkers, a list of anything."""
    return isinstance(value, list)


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a value from JSON is an object."""
    return isinstance(value, dict)


class SnapshotError(ValueError):
    """A file cannot be used: its format, its content, or a macro in it.

    Attributes:
        path (pathlib.Path | None): the file; None for text that is not from a file.
        line (int): the number of the line, from 1; 0 if the whole file is meant.
    """

    def __init__(self, problem: str, path: "Path | None" = None, line: int = 0) -> None:
        super().__init__(problem, path, line)
        self.problem = problem
        self.path = path
        self.line = line

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}: " if self.line else f"{self.path}: "
        return printable((place if self.path is not None else "") + self.problem)


@dataclass(frozen=True)
class Entry:
    """The saved value of one PV.

    Attributes:
        pv: the name of the PV.
        value: what `aioca.caput` takes: int, float, str, or a list of one of these for an array;
            None if the PV could not be read. In the files of other programs, values are text: a str
            or a list of str, which `restore` converts to the type of the PV.
        type: the native type when the PV was read: ``"DOUBLE"``, ``"FLOAT"``, ``"LONG"``,
            ``"SHORT"``, ``"CHAR"``, ``"ENUM"`` or ``"STRING"``; empty if it is not known. 64-bit
            integers are DOUBLE in Channel Access; from 2**53 on, their value is an int here, which
            has all digits.
        label: the label of the value of an ENUM; None if there is none.
        severity: the name of the alarm severity, such as ``"MINOR"``; empty if it is not known.
        status: the name of the alarm status, such as ``"HIGH"``; empty if it is not known.
        timestamp_ns: the time stamp in nanoseconds since 1970-01-01 UTC; None if it is not known,
            or if the record was never processed.
        read_only: whether the file says that this value is not to be restored (RO in BURT).
        error: why there is no value; empty if there is one.
    """

    pv: str
    value: Value | None
    type: str = ""
    label: str | None = None
    severity: str = ""
    status: str = ""
    timestamp_ns: int | None = None
    read_only: bool = False
    error: str = ""

    @property
    def may_be_cut_off(self) -> bool:
        """Whether the value is as long as a STRING can be, so that the field may hold more.

        The long string of the field has all of it: append ``.VAL$`` to the name of the record, or
        ``$`` to the name of the field. An array is never cut off: its elements hold no more.
        """
        return (
            self.type == "STRING"
            and isinstance(self.value, str)
            and len(self.value.encode("utf-8", "surrogateescape")) >= 39
        )


@dataclass(frozen=True)
class Snapshot:
    """The saved values of many PVs. Iterating gives the entries; ``snapshot[pv]`` gives one.

    Attributes:
        entries: one for each PV, in the order of the file. No PV occurs twice.
        saved: when the values were saved, with a time zone; None if the file does not say.
        format: the program whose format the file has: ``"aioca"``, ``"autosave"``, ``"burt"``, or
            ``"psi"`` for the snapshot tool of PSI.
    """

    entries: tuple[Entry, ...]
    saved: datetime | None = None
    format: Format = "aioca"

    @property
    def pvs(self) -> list[str]:
        """The names of the PVs, in the order of the file."""
        return [entry.pv for entry in self.entries]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, pv: str) -> Entry:
        for entry in self.entries:
            if entry.pv == pv:
                return entry
        raise KeyError(pv)

    def select(self, *patterns: str) -> "Snapshot":
        """Return a snapshot of the PVs whose names match a pattern with ``*``, ``?`` or ``[...]``.

        Without a pattern, it has all entries.
        """
        if not patterns:
            return self
        entries = tuple(
            entry
            for entry in self.entries
            if any(fnmatch.fnmatchcase(entry.pv, pattern) for pattern in patterns)
        )
        return Snapshot(entries, self.saved, self.format)


def check_snapshot(snapshot: object) -> None:
    """Raise TypeError if this is not a `Snapshot`; it may be the name of a file."""
    if not isinstance(snapshot, Snapshot):
        raise TypeError(f"not a Snapshot, as take() or load() returns it: {snapshot!r}")


@dataclass(frozen=True)
class Difference:
    """A PV whose value is not the saved one, or that could not be compared.

    Attributes:
        entry: the saved value.
        current: the value of the PV now; None if it is not connected, or could not be read.
        reason: why it could not be compared; empty if it could.
    """

    entry: Entry
    current: Entry | None
    reason: str = ""

    @property
    def pv(self) -> str:
        """The name of the PV."""
        return self.entry.pv

    def __str__(self) -> str:
        from ._text import change_text

        text = self.reason or change_text(self.entry, self.current)
        return printable(f"{self.pv}: {text}")


class State(enum.Enum):
    """What `restore` has done with a PV."""

    #: The PV had the saved value. Nothing was written.
    EQUAL = "equal"
    #: A dry run: the PV has another value, and would be written.
    WOULD_WRITE = "would write"
    #: The value was sent, and the server has not reported the end of the processing. Only as the
    #: last state if the restore was interrupted, the server was lost, or the time was over.
    SENT = "sent"
    #: The server has reported the end of the processing, and the PV has the saved value. If it
    #: could not be read back, the outcome has no ``after``, and the detail says why.
    WRITTEN = "written"
    #: The server has reported the end of the processing, but the PV has another value.
    ALTERED = "altered"
    #: The value was refused, by the server or before it was sent. The PV has its old value.
    REFUSED = "refused"
    #: The PV is not connected.
    MISSING = "not connected"
    #: The file has no value for this PV, or says that it is not to be restored.
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Outcome:
    """What `restore` has done with one PV.

    Attributes:
        entry: the saved value.
        state: what was done.
        before: the value that the PV had before; None if it was not read.
        after: the value that was read back; None if it was not read.
        detail: the reason, for a person; may be empty.
    """

    entry: Entry
    state: State
    before: Entry | None = None
    after: Entry | None = None
    detail: str = ""

    @property
    def pv(self) -> str:
        """The name of the PV."""
        return self.entry.pv

    @property
    def ok(self) -> bool:
        """Whether the PV has the saved value, or is not to be restored, or would be written."""
        return self.state in (State.EQUAL, State.WRITTEN, State.WOULD_WRITE) or (
            self.state is State.SKIPPED and self.entry.read_only
        )

    def __str__(self) -> str:
        from ._text import outcome_text

        return printable(f"{self.pv}: {outcome_text(self)}")
