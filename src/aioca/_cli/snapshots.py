"""The runs of ``aioca snapshot save``, ``diff`` and ``restore``: what they do, print and return."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import anyio

from .. import CAError, snapshot
from .._printable import printable
from .._values.dbr import long_string_of
from .lists import checked
from .shared import BadInputError, Failure
from .terminal.progress import connecting, progress_bar
from .terminal.signals import Interruption
from .tools.text import put_line

State = snapshot.State
_HEAD = b'{\n"format": "aioca snapshot"'
# The states that are printed on stdout, because they are what was asked for; the others on stderr
_DONE = (State.WRITTEN, State.WOULD_WRITE)


def check_target(file: Path) -> None:
    """Raise before any PV is read if the file cannot be replaced, or is something else."""
    if not os.access(file.parent, os.W_OK | os.X_OK):
        what = "cannot be written" if file.parent.is_dir() else "does not exist"
        raise BadInputError(f"{file}: its directory {what}")
    if not file.exists():
        return
    if not file.is_file():
        raise BadInputError(f"{file}: it is not a regular file")
    with file.open("rb") as stream:
        head = stream.read(len(_HEAD))
    if head and head != _HEAD:
        raise BadInputError(f"{file}: it is no snapshot of aioca, and is not overwritten")


async def save(file: Path, names: list[str], skip_missing: bool, timeout: float) -> int:
    async with progress_bar(connecting, len(names)):
        taken = await snapshot.take(names, timeout=timeout, throw=False)
    failed = [entry for entry in taken if entry.value is None]
    for entry in failed:
        _complain(f"{entry.pv}: {entry.error}")
    if failed and (not skip_missing or len(failed) == len(taken)):
        hint = "" if skip_missing else "; --skip-missing saves the others"
        raise Failure(f"{len(failed)} of {len(taken)} PVs not read, nothing was written{hint}")
    for entry in taken:
        if entry.may_be_cut_off:
            longer = long_string_of(entry.pv)
            _complain(f"{entry.pv}: the text may be cut off; the name {longer} may save all of it")
    checked(snapshot.save, taken, file)
    left_out = f", {len(failed)} left out" if failed else ""
    print(printable(f"{_pvs(len(taken) - len(failed))} saved in {file}{left_out}"))
    return 0


async def diff(saved: snapshot.Snapshot, timeout: float) -> int:
    async with progress_bar(connecting, len(saved)):
        differences = await snapshot.diff(saved, timeout=timeout)
    for difference in differences:
        put_line(str(difference))
    if not differences:
        print(f"{_pvs(len(saved))}: no difference")
        return 0
    unknown = sum(bool(difference.reason) for difference in differences)
    counts = {"different": len(differences) - unknown, "not compared": unknown}
    print(_summary(len(saved), {"equal": len(saved) - len(differences), **counts}))
    return 1


class Restoring:
    """The run of ``restore``, which can be interrupted.

    Attributes:
        outcomes: the last outcome of each PV that has one.
    """

    def __init__(self, saved: snapshot.Snapshot) -> None:
        self._saved = saved
        self.outcomes: dict[str, snapshot.Outcome] = {}

    async def run(
        self, dry_run: bool, skip_missing: bool, timeout: float, put_timeout: float
    ) -> int:
        """Restore until done or interrupted, report, and return the exit status."""
        interruption = Interruption()
        problem: CAError | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(interruption.watch, tasks.cancel_scope)
            async with progress_bar(self._progress, len(self._saved)):
                try:
                    await snapshot.restore(
                        self._saved, dry_run=dry_run, skip_missing=skip_missing, timeout=timeout,
                        put_timeout=put_timeout, on_outcome=self._take,
                    )  # fmt: skip
                except CAError as error:
                    problem = error
            tasks.cancel_scope.cancel()
        if problem is not None:
            for failure in problem.failures:
                _complain(str(failure))
            raise Failure(
                f"{len(problem.failures)} of {_pvs(len(self._saved))} not connected, nothing was"
                " written; --skip-missing restores the others"
            )
        self._report(interruption.status != 0)
        good = len(self.outcomes) == len(self._saved) and all(o.ok for o in self.outcomes.values())
        return interruption.status or (0 if good else 1)

    def _take(self, outcome: snapshot.Outcome) -> None:
        self.outcomes[outcome.pv] = outcome

    def _progress(self) -> tuple[str, int]:
        if not self.outcomes:
            return connecting()
        return "restoring", sum(o.state is not State.SENT for o in self.outcomes.values())

    def _report(self, interrupted: bool) -> None:
        counts = Counter(outcome.state.value for outcome in self.outcomes.values())
        for entry in self._saved:
            outcome = self.outcomes.get(entry.pv)
            if outcome is None or outcome.state is State.EQUAL:
                continue
            if outcome.state in _DONE:
                put_line(str(outcome))
            else:
                _complain(str(outcome))
        in_order = {state.value: counts[state.value] for state in State}
        if interrupted:
            in_order["untouched"] = len(self._saved) - len(self.outcomes)
            _complain("interrupted")
        print(_summary(len(self._saved), in_order))


# -- Shared ----------------------------------------------------------------------------------------


def loaded(file: Path, only: tuple[str, ...], macros: str) -> snapshot.Snapshot:
    values: Mapping[str, str] = checked(snapshot.parse_macros, macros)
    saved = checked(snapshot.load, file, values)
    if not len(saved):
        raise BadInputError(f"{file}: it has no PV")
    for pattern in only:
        if not len(saved.select(pattern)):
            raise BadInputError(f"{file}: no PV in it matches {pattern}")
    return saved.select(*only)


def _complain(text: str) -> None:
    print(printable(text), file=sys.stderr)


def _pvs(count: int) -> str:
    return "1 PV" if count == 1 else f"{count} PVs"


def _summary(total: int, counts: Mapping[str, int]) -> str:
    return f"{_pvs(total)}: " + ", ".join(f"{n} {what}" for what, n in counts.items() if n)
